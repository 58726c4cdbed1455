"""Decay and windows over the stored timestamps, against plain loops."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recengine as rec
from recengine import CleaningRules, Interactions

KEEP = CleaningRules(duplicate="keep")
DAY = 86_400
events = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 5),
        st.floats(0.0078125, 100, width=32),
        st.integers(-50, 400),
    ),
    min_size=1,
    max_size=30,
)


def log_of(rows) -> Interactions:
    return Interactions.from_arrays(*zip(*rows, strict=True), rules=KEEP)


def dense(rows, keep, factor):
    """Return pair -> sum of weight times factor, over the events to keep, in float64."""
    total = {}
    for user, item, weight, time in rows:
        if keep(time):
            pair = user, item
            total[pair] = total.get(pair, 0.0) + float(np.float32(weight * factor(time)))
    return total


def assert_holds(inter, want):
    """Assert that the matrix of `inter` is `want`."""
    matrix = inter.to_csr().tocoo()
    users, items = inter.users.ids[matrix.row], inter.items.ids[matrix.col]
    got = dict(zip(zip(users.tolist(), items.tolist(), strict=True), matrix.data, strict=True))
    assert got.keys() == want.keys()
    for pair, value in got.items():
        assert value == pytest.approx(want[pair], rel=1e-6)


@given(events, st.floats(0.5, 1000), st.integers(0, 100))
def test_each_event_decays_by_its_own_age(rows, half_life, later):
    now = max(row[3] for row in rows) + later
    inter = log_of(rows).decayed(half_life, now)
    assert_holds(inter, dense(rows, lambda _: True, lambda time: 2 ** ((time - now) / half_life)))


@given(events, st.integers(-60, 410), st.floats(0.5, 500))
def test_since_and_window_keep_what_is_in_them(rows, moment, duration):
    inter = log_of(rows)
    latest = max(row[3] for row in rows)
    assert_holds(inter.since(moment), dense(rows, lambda time: time >= moment, lambda _: 1.0))
    for until, given_ in ((latest, None), (moment, moment)):
        want = dense(rows, lambda t, end=until: end - duration < t <= end, lambda _: 1.0)
        assert_holds(inter.window(duration, given_), want)


def test_a_half_life_halves():
    inter = Interactions.from_arrays([1, 1, 1], [1, 2, 3], [8, 8, 8], [0, DAY, 2 * DAY])
    half = inter.decayed(timedelta(days=1))
    assert half.weights.tolist() == [2.0, 4.0, 8.0]
    assert half.weights.dtype == np.float32
    assert not half.weights.flags.writeable
    assert inter.weights.tolist() == [8.0, 8.0, 8.0]
    assert inter.decayed(DAY, now=3 * DAY).weights.tolist() == [1.0, 2.0, 4.0]
    assert inter.decayed(np.timedelta64(1, "D")).weights.tolist() == [2.0, 4.0, 8.0]
    for name in ("users", "items", "report", "timestamps", "user_indices"):
        assert getattr(half, name) is getattr(inter, name)
    assert [len(part) for part in half.split_last(1)] == [2, 1]
    assert inter.decayed(1).weights.tolist() == [0.0, 0.0, 8.0]  # too small for float32


@pytest.mark.parametrize(
    "moment",
    [
        2 * DAY,
        2.0 * DAY + 0.5,
        date(1970, 1, 3),
        datetime(1970, 1, 3),
        datetime(1970, 1, 3, tzinfo=UTC),
        np.datetime64("1970-01-03"),
        np.int64(2 * DAY),
    ],
    ids=repr,
)
def test_moments_of_every_kind(moment):
    inter = Interactions.from_arrays([1, 1, 1], [1, 2, 3], None, [0, 2 * DAY, 5 * DAY])
    assert inter.since(moment).timestamps.tolist() == [2 * DAY, 5 * DAY]
    assert inter.window(DAY, until=moment).timestamps.tolist() == [2 * DAY]
    assert inter.since(moment).users is inter.users


def test_repeats_that_were_merged_decay_from_the_last():
    rows = ([1, 1], [1, 1], [4, 4], [0, DAY])
    assert Interactions.from_arrays(*rows).decayed(DAY).to_csr().data.tolist() == [8.0]
    assert Interactions.from_arrays(*rows, rules=KEEP).decayed(DAY).to_csr().data.tolist() == [6.0]


def test_models_train_on_what_is_left():
    rng = np.random.default_rng(4)
    inter = Interactions.from_arrays(
        rng.integers(0, 9, 80), rng.integers(0, 7, 80), None, rng.integers(0, 90, 80), rules=KEEP
    )
    recent = inter.decayed(30).window(60)
    als = rec.ALS(factors=3, iterations=2, random_state=0)
    factors = als.fit(recent).item_factors_.copy()
    assert np.array_equal(als.fit(recent.to_csr()).item_factors_, factors)
    assert not np.array_equal(als.fit(inter).item_factors_, factors)


def test_nothing_stays_nothing():
    empty = Interactions.from_arrays([1], [1], None, [5]).since(6)
    assert (len(empty), empty.n_users) == (0, 1)
    assert len(empty.decayed(3)) == len(empty.window(3)) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda inter: inter.decayed(0), ValueError, "half_life must be > 0, got 0"),
        (lambda inter: inter.decayed(timedelta(0)), ValueError, "half_life must be > 0, got 0"),
        (lambda inter: inter.decayed(np.inf), ValueError, "half_life must be finite, got inf"),
        (lambda inter: inter.decayed("1d"), TypeError, "half_life must be a number, got str"),
        (lambda inter: inter.decayed(1, now=4), ValueError, "now must be >= the latest event, 5,"),
        (lambda inter: inter.decayed(1, now="now"), TypeError, "now must be datetimes or seconds"),
        (lambda inter: inter.since(None), ValueError, "moment must be a moment .* got None"),
        (lambda inter: inter.since(True), TypeError, "moment must be datetimes or seconds"),
        (lambda inter: inter.since(1e30), ValueError, "moment must be a moment that int64"),
        (lambda inter: inter.window(-1), ValueError, "duration must be > 0, got -1"),
        (lambda inter: inter.window(1, until=[3]), TypeError, "until must be datetimes or seconds"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Interactions.from_arrays([1], [1], None, [5]))


@pytest.mark.parametrize("name", ["decayed", "since", "window"])
def test_without_timestamps_there_is_no_recency(name):
    inter = Interactions.from_arrays([1], [1])
    with pytest.raises(ValueError, match=f"{name} needs timestamps, got interactions without a da"):
        getattr(inter, name)(1)
