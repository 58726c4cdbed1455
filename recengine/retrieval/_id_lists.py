"""Lists of ids that differ per query, `exclude` and `candidates`: they become CSR over ordinals.

Ids that are not in the index cannot be returned and are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import IdArray, Int64Array
from recengine._validation import as_ids, refuse_masked
from recengine.retrieval._generation import Generation


@dataclass(frozen=True, slots=True)
class Lists:
    """A sorted list per query: query i owns ordinals[indptr[i]:indptr[i + 1]].

    `longest` is the length of the longest list as it was given.
    """

    indptr: Int64Array
    ordinals: Int64Array
    longest: int = 0


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
    """Map id arrays, one per query (the bare array for one query), to sorted, distinct ordinals."""
    arrays = [lists] if single else _per_query(name, lists, n_queries)
    ids = [ids_of_kind(generation, name, array, ordered=False) for array in arrays]
    ordinals = [_distinct_ordinals(generation, part) for part in ids]
    indptr = np.zeros(n_queries + 1, np.int64)
    indptr[1:] = np.cumsum([len(part) for part in ordinals])
    joined = np.concatenate(ordinals) if ordinals else np.empty(0, np.int64)
    return Lists(indptr, joined, max(map(len, ids), default=0))


def _distinct_ordinals(generation: Generation, ids: IdArray) -> Int64Array:
    ordinals = np.unique(generation.ordinals_of(ids))
    return ordinals[1:] if len(ordinals) and ordinals[0] < 0 else ordinals


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
    ordinals = _as_int64("exclude indices", indices)
    if len(starts) != n_queries + 1:
        raise ValueError(f"exclude indptr must have {n_queries + 1} entries, got {len(starts)}")
    if starts[0] != 0 or starts[-1] != len(ordinals) or (starts[1:] < starts[:-1]).any():
        raise ValueError(
            f"exclude indptr must rise from 0 to the number of indices ({len(ordinals)}), "
            f"got {starts[0]} to {starts[-1]}"
        )
    if len(ordinals) == 0:
        return Lists(starts, ordinals)
    if ordinals.min() < 0 or ordinals.max() >= generation.n_ordinals:
        bad = ordinals[(ordinals < 0) | (ordinals >= generation.n_ordinals)][0]
        raise ValueError(f"exclude must hold ordinals in [0, {generation.n_ordinals}), got {bad}")
    return Lists(starts, _sorted_within(starts, ordinals))


def _sorted_within(starts: Int64Array, ordinals: Int64Array) -> Int64Array:
    """Return the ordinals, sorted within each query; the same memory where they already are."""
    falls = np.zeros(len(ordinals) + 1, bool)  # whether entry i is smaller than the one before it
    np.less(ordinals[1:], ordinals[:-1], out=falls[1:-1])
    falls[starts] = False  # between two queries they may
    if not falls.any():
        return ordinals
    query = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return ordinals[np.lexsort((ordinals, query))]


def _as_int64(name: str, value: Any) -> Int64Array:
    refuse_masked(name, value)
    array = np.asarray(value)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise TypeError(f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, np.int64)


def ids_of_kind(generation: Generation, name: str, value: Any, *, ordered: bool = True) -> IdArray:
    """Return ids, refusing those of another kind than the index holds, and sets if `ordered`."""
    ids = as_ids(name, value, ordered=ordered)
    if len(ids) and generation.n_ordinals and ids.dtype != generation.book.dtype:
        kind = "strings" if generation.book.dtype == object else "integers"
        raise TypeError(f"{name} must be {kind} as in the index, got {ids.tolist()[0]!r}")
    return ids


def distinct_ids(generation: Generation, name: str, value: Any, *, ordered: bool = True) -> IdArray:
    """Return ids, refusing any that is there twice, and sets if `ordered`."""
    ids = ids_of_kind(generation, name, value, ordered=ordered)
    if len(ids) <= 1:
        return ids
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) != len(ids):
        twins = distinct[counts > 1].tolist()
        raise ValueError(f"{name} must be distinct, got {twins[0]!r} twice")
    return ids
