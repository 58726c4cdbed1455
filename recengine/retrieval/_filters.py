"""Filters: ids that the caller allows, denies or excludes become masks, row lists and CSR.

`allow` and `deny` are shared by a batch and become a sorted list of rows where half of them or
fewer survive (the kernel gathers these), else a bitmap (the kernel masks what its scan nominates).
`exclude` differs per query and becomes CSR over rows. Ids that are not in the index cannot be
returned and are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import IdArray, Int64Array
from recengine._validation import as_ids
from recengine.retrieval._generation import Generation, Selection

FEW = 16  # an allow-list shorter than one item in this many never touches anything of O(n_items)


@dataclass(frozen=True, slots=True)
class Lists:
    """One sorted list of rows per query: query i owns rows[indptr[i]:indptr[i + 1]]."""

    indptr: Int64Array
    rows: Int64Array


def select(generation: Generation, allow: Any, deny: Any) -> Selection:
    """Return the rows that `allow` (None: all) holds and `deny` (None: none) does not."""
    if allow is None and deny is None:
        return generation.selection
    denied = np.empty(0, np.int64) if deny is None else _live_rows(generation, "deny", deny)
    if allow is not None:
        rows = _live_rows(generation, "allow", allow)
        if len(rows) * FEW < generation.n_rows:
            return Selection(None, np.setdiff1d(rows, denied))
        keep = np.zeros(generation.n_rows, bool)
        keep[rows] = True
    elif generation.alive is None:
        keep = np.ones(generation.n_rows, bool)
    else:
        keep = generation.alive.copy()
    keep[denied] = False
    return Selection.of(keep)


def _live_rows(generation: Generation, name: str, ids: Any) -> Int64Array:
    rows = generation.rows_of(as_ids(name, ids))
    return rows[rows >= 0]


def exclusions(
    generation: Generation, exclude: Any, n_queries: int, *, single: bool
) -> Lists | None:
    """Read `exclude`: a CSR over ordinals, or id arrays, one per query."""
    if exclude is None:
        return None
    if hasattr(exclude, "tocsr"):
        return _from_sparse(generation, exclude, n_queries)
    if isinstance(exclude, tuple):
        if len(exclude) != 2:
            raise ValueError(f"exclude as a tuple must be (indptr, indices), got {len(exclude)}")
        return _from_csr(generation, *exclude, n_queries)
    return id_lists(generation, "exclude", exclude, n_queries, single=single)


def id_lists(
    generation: Generation, name: str, lists: Any, n_queries: int, *, single: bool
) -> Lists:
    """Map id arrays, one per query (the bare array for one query), to sorted, distinct rows."""
    arrays = [lists] if single else _per_query(name, lists, n_queries)
    rows = [_distinct_rows(generation, name, array) for array in arrays]
    indptr = np.zeros(n_queries + 1, np.int64)
    np.cumsum([len(part) for part in rows], out=indptr[1:])
    return Lists(indptr, np.concatenate(rows) if rows else np.empty(0, np.int64))


def _distinct_rows(generation: Generation, name: str, ids: Any) -> Int64Array:
    rows = np.unique(generation.rows_of(as_ids(name, ids)))
    return rows[1:] if len(rows) and rows[0] < 0 else rows


def _per_query(name: str, lists: Any, n_queries: int) -> list[Any]:
    if isinstance(lists, str | bytes) or not hasattr(lists, "__len__"):
        raise TypeError(f"{name} must be a list of id arrays, got {type(lists).__name__}")
    if len(lists) != n_queries:
        raise ValueError(f"{name} must hold one id array per query ({n_queries}), got {len(lists)}")
    arrays = list(lists)
    for array in arrays:
        if isinstance(array, str | bytes) or not hasattr(array, "__len__"):
            raise TypeError(
                f"{name} must hold one id array per query, got an entry of type "
                f"{type(array).__name__}; ids shared by the whole batch go into deny or allow"
            )
    return arrays


def _from_sparse(generation: Generation, matrix: Any, n_queries: int) -> Lists:
    if len(matrix.shape) != 2 or matrix.shape[0] != n_queries:
        raise ValueError(
            f"exclude must be a sparse matrix of one row per query ({n_queries}), "
            f"got shape {matrix.shape}"
        )
    csr = matrix.tocsr()
    return _from_csr(generation, csr.indptr, csr.indices, n_queries)


def _from_csr(generation: Generation, indptr: Any, indices: Any, n_queries: int) -> Lists:
    starts = _as_int64("exclude indptr", indptr)
    rows = _as_int64("exclude indices", indices)
    if len(starts) != n_queries + 1:
        raise ValueError(f"exclude indptr must have {n_queries + 1} entries, got {len(starts)}")
    if starts[0] != 0 or starts[-1] != len(rows) or (starts[1:] < starts[:-1]).any():
        raise ValueError(
            f"exclude indptr must rise from 0 to the number of indices ({len(rows)}), "
            f"got {starts[0]} to {starts[-1]}"
        )
    if len(rows) == 0:
        return Lists(starts, rows)
    if rows.min() < 0 or rows.max() >= generation.n_rows:
        bad = rows[(rows < 0) | (rows >= generation.n_rows)][0]
        raise ValueError(f"exclude must hold ordinals in [0, {generation.n_rows}), got {bad}")
    return Lists(starts, _sorted_within(starts, rows))


def _sorted_within(starts: Int64Array, rows: Int64Array) -> Int64Array:
    """Return the rows, sorted within each query; the same memory where they already are."""
    falls = np.zeros(len(rows) + 1, bool)  # whether row i is smaller than the row before it
    np.less(rows[1:], rows[:-1], out=falls[1:-1])
    falls[starts] = False  # between two queries they may
    if not falls.any():
        return rows
    query = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return rows[np.lexsort((rows, query))]


def _as_int64(name: str, value: Any) -> Int64Array:
    array = np.asarray(value)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise TypeError(f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, np.int64)


def distinct_ids(name: str, value: Any) -> IdArray:
    """Return ids, refusing any that is there twice."""
    ids = as_ids(name, value)
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) != len(ids):
        twins = distinct[counts > 1].tolist()
        raise ValueError(f"{name} must be distinct, got {twins[0]!r} twice")
    return ids
