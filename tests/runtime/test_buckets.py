from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine.runtime import Buckets
from recengine.runtime.buckets import as_buckets

BUCKETS = Buckets((1, 8, 32), (16, 64))
ladders = st.sets(st.integers(1, 300), min_size=1, max_size=6).map(lambda s: tuple(sorted(s)))


@given(ladders, ladders, st.integers(1, 300), st.integers(1, 300))
def test_batch_takes_the_smallest_bucket_that_holds_it(
    rows: tuple[int, ...], lengths: tuple[int, ...], n_rows: int, length: int
) -> None:
    buckets = Buckets(rows, lengths)
    holding = [(n, m) for n in rows for m in lengths if n >= n_rows and m >= length]
    if holding:
        assert buckets.fit(n_rows, length) == min(holding)
    else:
        with pytest.raises(ValueError, match=f"a batch of {n_rows} x {length} must fit the larg"):
            buckets.fit(n_rows, length)


@pytest.mark.parametrize(("limit", "rows"), [(0, 1), (1, 1), (7, 1), (8, 8), (31, 8), (99, 32)])
def test_most_rows_stay_under_the_limit_where_they_can(limit: int, rows: int) -> None:
    assert BUCKETS.most_rows(limit) == rows


def test_buckets_come_largest_first() -> None:
    assert list(BUCKETS) == [(32, 64), (8, 64), (32, 16), (8, 16), (1, 64), (1, 16)]


def test_pair_of_sequences_is_taken() -> None:
    assert as_buckets("buckets", ([1, 8, 32], (16, 64))) == BUCKETS


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (8, TypeError, r"buckets must be a pair \(rows, lengths\), got int"),
        ("ab", TypeError, r"buckets must be a pair \(rows, lengths\), got str"),
        (([1],), ValueError, r"buckets must be a pair \(rows, lengths\), got 1 entries"),
        ((1, [2]), TypeError, r"buckets\[0\] must be a sequence of int, got int"),
        (([1], []), ValueError, r"buckets\[1\] must be ascending and not empty, got \[\]"),
        (([2, 1], [2]), ValueError, r"buckets\[0\] must be ascending and not empty, got \[2, 1\]"),
        (([1, 1], [2]), ValueError, r"buckets\[0\] must be ascending"),
        (([0, 1], [2]), ValueError, r"buckets\[0\] must be >= 1, got 0"),
        (([1], [2.5]), TypeError, r"buckets\[1\] must be an integer, got float"),
    ],
)
def test_what_is_no_ladder_is_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_buckets("buckets", value)
