"""NumPy float64 references of the retrieval kernels, written to be read beside architecture.md.

They share nothing with the package. A score is a float64 value with one fixed order of
additions, rounded once to float32; the answer is ordered by that float32, then by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
METRICS = ("cosine", "dot", "l2")
FLT_MAX = float(np.finfo(np.float32).max)


def lane_sum(terms: Array) -> Array:
    """Sum float64 terms (..., dim): lane j takes dims j, j+8, ...; then one fixed tree."""
    terms = np.asarray(terms, np.float64)
    dim = terms.shape[-1]
    lanes = np.zeros((*terms.shape[:-1], 8))
    for start in range(0, dim, 8):
        block = terms[..., start : start + 8]
        lanes[..., : block.shape[-1]] += block
    l0, l1, l2, l3, l4, l5, l6, l7 = np.moveaxis(lanes, -1, 0)
    return np.asarray(((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)))


def round_score(values: Array) -> Array:
    """Round float64 once to float32: saturate at ±FLT_MAX, −0 becomes +0."""
    rounded = np.clip(values, -FLT_MAX, FLT_MAX).astype(np.float32)
    return np.where(rounded == 0, np.float32(0), rounded)


def canonical(metric: str, queries: Array, vectors: Array) -> Array:
    """Return the float64 scores (n_queries, n_items) before the rounding."""
    q = np.asarray(queries, np.float32).astype(np.float64)
    x = np.asarray(vectors, np.float32).astype(np.float64)
    rows = []
    for query in q:
        if metric == "l2":
            gap = query - x
            rows.append(-np.sqrt(lane_sum(gap * gap)))
            continue
        dot = lane_sum(query * x)
        if metric == "cosine":
            norm = np.sqrt(lane_sum(query * query) * lane_sum(x * x))
            dot = np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)
        rows.append(dot)
    return np.array(rows).reshape(len(q), len(x))


def scores(metric: str, queries: Array, vectors: Array, bias: Array | None = None) -> Array:
    """Return the float32 scores (n_queries, n_items); a bias is added before the rounding."""
    exact = canonical(metric, queries, vectors)
    if bias is not None:
        exact = exact + np.asarray(bias, np.float32).astype(np.float64)
    return round_score(exact)


def best(
    table: Array, k: int, *, allowed: Array | None = None, min_score: float = -np.inf
) -> tuple[Array, Array]:
    """Return (rows int64, scores float32), both (n, k): score descending, then row ascending.

    `allowed` is boolean, (n_items,) or (n, n_items). The tail is −1 and −inf.
    """
    table = np.asarray(table, np.float32)
    n = len(table)
    may = np.ones(table.shape, bool) if allowed is None else np.broadcast_to(allowed, table.shape)
    rows = np.full((n, k), -1, np.int64)
    out = np.full((n, k), -np.inf, np.float32)
    for i in range(n):
        candidates = np.flatnonzero(may[i] & (table[i].astype(np.float64) >= min_score))
        order = candidates[np.lexsort((candidates, -table[i, candidates]))][:k]
        rows[i, : len(order)] = order
        out[i, : len(order)] = table[i, order]
    return rows, out


def search(
    metric: str,
    queries: Array,
    vectors: Array,
    k: int,
    *,
    allowed: Array | None = None,
    exclude: Sequence[Array] | None = None,
    bias: Array | None = None,
    min_score: float = -np.inf,
) -> tuple[Array, Array]:
    """Search by brute force; `exclude` holds the rows that each query must not return."""
    queries = np.atleast_2d(queries)
    may = np.ones((len(queries), len(vectors)), bool)
    if allowed is not None:
        may &= allowed
    for i, rows in enumerate(exclude if exclude is not None else ()):
        may[i, np.asarray(rows, np.int64)] = False
    table = scores(metric, queries, vectors, bias)
    return best(table, k, allowed=may, min_score=min_score)


def assert_same_bits(got: Array, want: Array) -> None:
    """Assert equal shape and equal float32 bits (so −0 differs from +0)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == np.float32, got.dtype
    assert want.dtype == np.float32, want.dtype
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def assert_same_topk(got: tuple[Array, Array], want: tuple[Array, Array]) -> None:
    """Assert equal ids, then equal score bits."""
    np.testing.assert_array_equal(np.asarray(got[0]), np.asarray(want[0]))
    assert_same_bits(np.asarray(got[1]), np.asarray(want[1]))
