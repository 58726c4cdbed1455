"""Splits: a partition of the events, by each user's last ones or by one moment for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine import CleaningRules, Interactions

KEEP = CleaningRules(duplicate="keep")
events = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=40
)


def log_of(rows) -> Interactions:
    """Events whose weight is their number, so that a split tells which it took."""
    users, items, times = ([row[i] for row in rows] for i in range(3))
    return Interactions.from_arrays(users, items, range(1, len(rows) + 1), times, rules=KEEP)


def numbers(inter: Interactions) -> list[int]:
    return (inter.weights.astype(int) - 1).tolist()


def assert_partition(inter: Interactions, train: Interactions, test: Interactions) -> None:
    assert sorted(numbers(train) + numbers(test)) == list(range(len(inter)))
    assert numbers(train) == sorted(numbers(train))
    assert numbers(test) == sorted(numbers(test))
    for part in (train, test):
        assert part.users is inter.users
        assert part.items is inter.items
        assert part.report is inter.report
        assert part.to_csr().shape == (inter.n_users, inter.n_items)
    total = (train.to_csr() + test.to_csr()).toarray()
    assert np.array_equal(total, inter.to_csr().toarray())


@given(events, st.integers(1, 4))
def test_split_last_takes_the_last_n_of_each_user(rows, n):
    inter = log_of(rows)
    train, test = inter.split_last(n)
    assert_partition(inter, train, test)
    expected = []
    for user in {row[0] for row in rows}:
        mine = [number for number, row in enumerate(rows) if row[0] == user]
        mine.sort(key=lambda number: (rows[number][2], number))
        expected += mine[-n:] if len(mine) > n else []
    assert numbers(test) == sorted(expected)


@given(events, st.floats(0.01, 0.99))
def test_split_time_cuts_at_one_moment(rows, fraction):
    inter = log_of(rows)
    train, test = inter.split_time(fraction)
    assert_partition(inter, train, test)
    assert len(test) >= int(fraction * len(rows))
    if len(train) and len(test):
        assert train.timestamps.max() < test.timestamps.min()
    later = [row for row in rows if len(test) and row[2] > test.timestamps.min()]
    assert len(later) < max(1, fraction * len(rows))


def test_hand_worked_splits():
    #             0  1  2  3  4  5  6
    users = [1, 1, 2, 1, 3, 2, 2]
    items = [10, 11, 10, 12, 13, 11, 12]
    times = [5, 9, 1, 9, 2, 1, 0]
    inter = Interactions.from_arrays(users, items, range(1, 8), times)
    train, test = inter.split_last()
    assert numbers(test) == [3, 5]  # 3 ties with 1, 5 with 2: the later row is the later event
    assert numbers(train) == [0, 1, 2, 4, 6]  # user 3 has one event, which stays
    assert numbers(inter.split_last(2)[1]) == [1, 2, 3, 5]
    assert numbers(inter.split_time(0.15)[1]) == [1, 3]  # asks for one, its twin in time follows
    assert numbers(inter.split_time(0.43)[1]) == [0, 1, 3]
    assert numbers(inter.split_time(0.1)[1]) == []
    assert numbers(inter.split_time(0.99)[1]) == [0, 1, 2, 3, 4, 5]


def test_split_time_counts_the_fraction_asked_for():
    inter = Interactions.from_arrays(range(100), range(100), None, range(100))
    assert len(inter.split_time(0.29)[1]) == 29


def test_split_last_without_times_goes_by_input_order():
    inter = Interactions.from_arrays([1, 2, 1, 2], [5, 6, 7, 8])
    assert inter.items.ids[inter.split_last()[1].item_indices].tolist() == [7, 8]


def test_split_of_nothing_is_nothing():
    inter = Interactions.from_arrays([], [], None, [])
    for train, test in (inter.split_last(), inter.split_time()):
        assert len(train) == len(test) == 0
        assert train.to_csr().shape == (0, 0)


@pytest.mark.parametrize(
    ("fraction", "error", "message"),
    [
        (0, ValueError, "fraction must be > 0, got 0"),
        (1, ValueError, "fraction must be < 1, got 1"),
        (float("nan"), ValueError, "fraction must be finite"),
        ("0.2", TypeError, "fraction must be a number, got str"),
    ],
)
def test_bad_fraction_is_refused(fraction, error, message):
    with pytest.raises(error, match=message):
        Interactions.from_arrays([1], [1], None, [1]).split_time(fraction)


def test_bad_split_is_refused():
    inter = Interactions.from_arrays([1], [1])
    with pytest.raises(ValueError, match="split_time needs timestamps"):
        inter.split_time()
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        inter.split_last(0)
    with pytest.raises(TypeError, match="n must be an integer, got float"):
        inter.split_last(1.0)
