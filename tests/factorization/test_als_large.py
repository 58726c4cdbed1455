"""More than 2³¹ entries are counted in 64 bits. Pages that nobody writes cost no memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import random_array

from recengine._native import AlsHalf, als_loss
from recengine.factorization import _likes
from recengine.factorization._likes import as_likes
from recengine.factorization._training import Solver, cost_bounds, gram
from recengine.factorization._workers import workers

HUGE = 2**31 + 4096  # entries of the row before the one that is looked at
DIM = 16


@pytest.fixture(scope="module")
def entries() -> tuple[Any, Any, Any]:
    """Return (indptr, indices, confidences) of a row of `HUGE` entries and one of 50 after it."""
    rng = np.random.default_rng(0)
    try:
        indices, confidences = np.zeros(HUGE + 50, np.int32), np.zeros(HUGE + 50, np.float32)
    except MemoryError:
        pytest.skip("this machine lends no 17 GB of addresses")
    indices[HUGE:] = np.sort(rng.choice(200, 50, replace=False))
    confidences[HUGE:] = rng.integers(1, 6, 50)
    return np.array([0, HUGE, HUGE + 50]), indices, confidences


@pytest.mark.parametrize("solver", ["cg", "cholesky", "block"])
def test_a_row_behind_two_billion_entries_is_solved(entries: Any, solver: str, rng: Any) -> None:
    indptr, indices, confidences = entries
    fixed = rng.standard_normal((200, DIM)).astype(np.float32)
    panels = np.eye(DIM, dtype=np.float32)[None]
    solved = rng.standard_normal((2, DIM)).astype(np.float32)
    alone = solved[1:].copy()
    options = 1.0, fixed, np.ones(DIM), np.ones(2), panels, panels, None
    how = solver, 3, 16
    assert AlsHalf(indptr, indices, confidences, *options, solved, *how).solve(1, 2) == -1
    few = np.array([0, 50]), indices[HUGE:].copy(), confidences[HUGE:].copy()
    options = 1.0, fixed, np.ones(DIM), np.ones(1), panels, panels, None
    assert AlsHalf(*few, *options, alone, *how).solve(0, 1) == -1
    np.testing.assert_array_equal(solved[1], alone[0])
    got = als_loss(indptr, indices, confidences, 1.0, solved, fixed, 1, 2)
    assert got == als_loss(*few, 1.0, alone, fixed, 0, 1) != 0


def test_ranges_of_ten_billion_entries_are_of_like_cost() -> None:
    indptr = np.arange(10_001) * 1_000_000
    bounds = cost_bounds(indptr, 64.0, 100.0)
    assert bounds[0] == 0
    assert bounds[-1] == 10_000
    sizes = np.diff(indptr[bounds])
    assert len(sizes) == 64
    assert sizes.max() <= sizes.min() + 1_000_000
    assert Solver("cholesky").cost_bounds(indptr, 64)[-1] == 10_000


def test_transposition_does_not_depend_on_the_width_of_its_bounds(monkeypatch: Any) -> None:
    likes = as_likes(random_array((40, 30), density=0.2, random_state=0, format="csr"), 1.0)
    narrow = likes.transposed()
    monkeypatch.setattr(_likes, "_MAX_COLUMNS", 10)  # entries, from which on bounds are int64
    wide = likes.transposed()
    for name in ("indptr", "indices", "confidences"):
        got, want = getattr(wide, name), getattr(narrow, name)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert wide.indptr.dtype == np.int64


def test_gram_counts_rows_in_64_bits() -> None:
    """A table of more than 2³¹ numbers, all 0 but in its last row."""
    n_rows = 2**31 // 1024 + 100
    try:
        rows = np.zeros((n_rows, 1024), np.float32)
    except MemoryError:
        pytest.skip("this machine lends no 8.6 GB of addresses")
    rows[-1, :3] = 1, 2, 3
    from recengine._native import add_gram

    part = np.zeros((1024, 1024))
    add_gram(rows, part, n_rows - 100, n_rows)
    np.testing.assert_array_equal(part[2, :3], [3, 6, 9])
    with workers(1) as team:
        small = gram(rows[-100:].copy(), team)
    np.testing.assert_array_equal(np.tril(part), np.tril(small))
