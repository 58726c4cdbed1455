"""Interactions from arrays: what they hold, and what is refused."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from recengine import CleaningRules, IdMap, Interactions, UnknownUserError

KEEP = CleaningRules(duplicate="keep")


def test_arrays_are_kept_in_order_with_ascending_ids():
    inter = Interactions.from_arrays(["b", "a", "b"], [7, 9, 3], [1, 2, 3], [30, 10, 20])
    assert (len(inter), inter.n_users, inter.n_items) == (3, 2, 3)
    assert inter.users.ids.tolist() == ["a", "b"]
    assert inter.items.ids.tolist() == [3, 7, 9]
    assert inter.user_indices.tolist() == [1, 0, 1]
    assert inter.item_indices.tolist() == [1, 2, 0]
    assert (inter.weights.dtype, inter.timestamps.dtype) == (np.float32, np.int64)
    assert (inter.user_indices.dtype, inter.item_indices.dtype) == (np.int64, np.int64)
    assert inter.weights.tolist() == [1.0, 2.0, 3.0]
    assert repr(inter) == "Interactions(3 events, 2 users, 3 items)"


def test_rows_do_not_depend_on_the_order_of_events():
    generator = np.random.default_rng(5)
    users, items = generator.integers(0, 9, 50) * 10**12, generator.integers(0, 9, 50)
    order = generator.permutation(50)
    one = Interactions.from_arrays(users, items)
    two = Interactions.from_arrays(users[order], items[order])
    assert one.users == two.users
    assert one.items == two.items
    assert np.array_equal(one.to_csr().toarray(), two.to_csr().toarray())


def test_csr_sums_duplicates_and_sorts_columns():
    inter = Interactions.from_arrays([0, 0, 1, 0], [5, 2, 5, 5], [1, 2, 3, 4], rules=KEEP)
    matrix = inter.to_csr()
    assert type(matrix).__name__ == "csr_array"
    assert (matrix.dtype, matrix.shape, matrix.nnz) == (np.float32, (2, 2), 3)
    assert matrix.has_sorted_indices
    assert matrix.toarray().tolist() == [[2, 5], [0, 3]]
    assert np.diff(matrix.indptr).tolist() == [2, 1]


def test_history_is_in_time_order_and_ties_keep_input_order():
    inter = Interactions.from_arrays(
        [1, 1, 2, 1, 1], [5, 6, 5, 7, 6], None, [20, 10, 0, 10, 30], rules=KEEP
    )
    assert inter.history(1).tolist() == [6, 7, 5, 6]
    with pytest.raises(UnknownUserError, match="user_id must be a known user, got 3"):
        inter.history(3)
    indptr, order = inter.by_user()
    assert (indptr.tolist(), order.tolist()) == ([0, 4, 5], [1, 3, 0, 4, 2])


def test_select_takes_masks_and_numbers():
    inter = Interactions.from_arrays([1, 2, 3], [4, 5, 6], [1, 2, 3], [7, 8, 9])
    by_mask = inter.select(np.array([True, False, True]))
    assert by_mask.weights.tolist() == [1, 3]
    assert by_mask.users is inter.users
    assert inter.select(np.array([2, 0])).timestamps.tolist() == [9, 7]
    assert len(inter.select(np.array([], int))) == 0
    with pytest.raises(ValueError, match=r"events must have one entry per event \(3\)"):
        inter.select(np.array([True]))
    with pytest.raises(ValueError, match=r"events must lie in \[0, 3\), got 3"):
        inter.select(np.array([3]))
    with pytest.raises(TypeError, match="events must be 1-D integers"):
        inter.select(np.array([0.5]))


def test_arrays_are_read_only_and_do_not_follow_the_caller():
    users, weights = np.array([0, 1]), np.array([1, 2], np.float32)
    inter = Interactions(IdMap([8, 9]), IdMap([5, 6]), users, users, weights)
    users[:], weights[:] = 0, 0
    assert inter.user_indices.tolist() == [0, 1]
    assert inter.weights.tolist() == [1.0, 2.0]
    for array in (inter.user_indices, inter.item_indices, inter.weights, *inter.by_user()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_pickle_keeps_everything():
    inter = Interactions.from_arrays(["a", "b"], [1, 2], [1, 2], [5, 6])
    again = pickle.loads(pickle.dumps(inter))
    assert again.users == inter.users
    assert again.report == inter.report
    assert np.array_equal(again.timestamps, inter.timestamps)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (np.array([1, 2, 2**63], np.uint64), [1, 2]),
        (np.array([1.0, np.nan, 3.0]), [1, 3]),
        (np.array([1.0, 2.0**60, -np.inf]), [1]),
        (np.array(["x", "y", "x"]), ["x", "y", "x"]),
        (np.array(["x", None, np.nan], object), ["x"]),
        (np.array([1, None, 2**70], object), [1]),
        (np.array([-1, 2, 3], np.int8), [2, 3]),
        ([np.int32(4), 5, np.uint64(6)], [4, 5, 6]),
        ([None, None, None], []),
        (["", "b", "é"], ["", "b", "é"]),
    ],
)
def test_ids_of_every_kind(ids, kept):
    inter = Interactions.from_arrays(ids, [1, 2, 3])
    assert inter.users.ids[inter.user_indices].tolist() == kept
    assert len(inter) == len(kept) == 3 - sum(inter.report.dropped.values())


@pytest.mark.parametrize(
    ("timestamps", "seconds"),
    [
        ([0, 1.9, -0.5], [0, 1, -1]),
        (np.array([0.0, 1.9, -0.5]), [0, 1, -1]),
        (np.array(["1970-01-01T00:00:01.999", "NaT", "1969-12-31T23:59:59.5"], "M8[ns]"), [1, -1]),
        (np.array(["1970-01-02", "1970-01-01", "NaT"], "M8[D]"), [86400, 0]),
        ([datetime(1970, 1, 1, 0, 0, 5, 999), date(1970, 1, 2), None], [5, 86400]),
        ([datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=k) for k in range(3)], [0, 1, 2]),
        ([datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))] * 3, [0, 0, 0]),
        (np.array([2**63, 4, 5], np.uint64), [4, 5]),
        ([2**62 + 1, 10**400, float("nan")], [2**62]),
        ([2**62 + 1, 2, 3], [2**62 + 1, 2, 3]),
        (np.array([np.inf, 1e19, 7]), [7]),
    ],
)
def test_times_of_every_kind(timestamps, seconds):
    inter = Interactions.from_arrays([1, 2, 3], [1, 2, 3], None, timestamps)
    assert inter.timestamps.tolist() == seconds
    assert sum(inter.report.dropped.values()) == 3 - len(seconds)


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ([True, False, True], [1.0, 1.0]),
        ([Decimal("0.5"), Fraction(1, 4), 10**400], [0.5, 0.25]),
        (np.array([1, 2, 3], np.uint8), [1.0, 2.0, 3.0]),
        (np.array([1e39, 1e-50, 1.0]), [1.0]),
        ([None, 2, float("nan")], [2.0]),
    ],
)
def test_weights_of_every_kind(weights, kept):
    inter = Interactions.from_arrays([1, 2, 3], [1, 2, 3], weights)
    assert inter.weights.tolist() == kept
    assert sum(inter.report.dropped.values()) == 3 - len(kept)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        (([1, "a"], [1, 2]), TypeError, "user_ids must be all integers or all strings, got int, s"),
        (([1], [1.5]), TypeError, "item_ids must be all integers or all strings, got float"),
        (([1], np.array([1.5])), TypeError, "item_ids must be integers or strings, got 1.5"),
        (([True], [1]), TypeError, "user_ids must be .*, got bool"),
        ((np.array([True]), [1]), TypeError, "user_ids must be .*, got dtype bool"),
        (([b"a"], [1]), TypeError, "user_ids must be .*, got bytes"),
        ((np.array(["2020-01-01"], "M8[s]"), [1]), TypeError, "user_ids must be integers or str"),
        (([1, 2], [1]), ValueError, r"item_ids must have one entry per user id \(2\), got 1"),
        (([1], [1], [1, 2]), ValueError, r"weights must have one entry .* got 2"),
        (([1], [1], None, []), ValueError, r"timestamps must have one entry .* got 0"),
        (([1], [1], ["x"]), TypeError, "weights must be numbers, got str"),
        (([1], [1], np.array(["1"])), TypeError, "weights must be numbers, got dtype <U1"),
        (([1], [1], [1j]), TypeError, "weights must be numbers, got complex"),
        (([1], [1], None, ["now"]), TypeError, "timestamps must be datetimes or seconds.*got str"),
        (([1], [1], None, [True]), TypeError, "timestamps must be datetimes .*, got bool"),
        (([1], [1], None, np.array([True])), TypeError, "timestamps must be .*, got dtype bool"),
        ((np.ones((2, 2), int), [1]), ValueError, r"user_ids must be 1-D, got shape \(2, 2\)"),
        (([[1], [2]], [1, 2]), TypeError, "user_ids must be .*, got list"),
    ],
)
def test_bad_arrays_are_refused(arrays, error, message):
    with pytest.raises(error, match=message):
        Interactions.from_arrays(*arrays)


def test_bad_parts_are_refused():
    users, items = IdMap([1, 2]), IdMap([5])
    with pytest.raises(ValueError, match=r"user_indices must lie in \[0, 2\), got 2"):
        Interactions(users, items, np.array([2]), np.array([0]))
    with pytest.raises(
        ValueError, match=r"item_indices must have one entry per event \(1\), got 2"
    ):
        Interactions(users, items, np.array([1]), np.array([0, 0]))
    with pytest.raises(TypeError, match="rules must be CleaningRules, got dict"):
        Interactions.from_arrays([1], [1], rules={"missing": False})


def test_what_a_masked_array_hides_is_missing():
    def hiding(values, row):
        return np.ma.masked_array(values, [row == i for i in range(4)])

    events = Interactions.from_arrays(
        hiding([1, 2, 3, 4], 0),
        hiding([5, 6, 7, 8], 1),
        hiding([1.0, 1.0, 1.0, 1.0], 2),
        np.arange(4),
    )
    assert events.users.ids.tolist() == [4]
    assert events.report.dropped["missing"] == 3
