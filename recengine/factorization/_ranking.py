"""Which rows are best: the end of every `recommend` and `similar_items` of this room.

NumPy only. Sums are float64 and never go through BLAS, so that no thread count changes a bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import PADDING_ID, Float32Array, Float64Array, Int64Array, TopK
from recengine._validation import as_count, as_indices, as_k

_BLOCK = 2**17  # numbers converted to float64 at a time: 1 MB
_LARGEST = np.finfo(np.float32).max


def best(scores: Float64Array, k: int, exclude: Int64Array | None = None) -> TopK:
    """Return the best k rows by `scores`.

    Parameters
    ----------
    scores : ndarray (n,), float64, no NaN
    k : int, >= 0
    exclude : ndarray (m,), int64, in [0, n), optional
        Rows that are never returned; repeats are harmless.

    Returns
    -------
    TopK
        ids (k,) int64, the row numbers, and scores (k,) float32: rounded once, −0 as +0, overflow
        as ±FLT_MAX. Score descending, then row ascending; id −1 and score −inf where rows end.

    Notes
    -----
    O(n + k log k), but O(n log k) where scores tie at rank k; 4 n bytes and a few masks. Checked
    against sorting all pairs (score, row).
    """
    rounded = np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32) + np.float32(0)
    n_left = len(rounded)
    if exclude is not None and len(exclude):
        rounded[exclude] = -np.inf
        n_left = int(np.count_nonzero(rounded != -np.inf))
    ids = np.full(k, PADDING_ID, np.int64)
    found = np.full(k, -np.inf, np.float32)
    n_found = min(k, n_left)
    if n_found:
        last = len(rounded) - n_found
        threshold = np.partition(rounded, last)[last]
        above = np.flatnonzero(rounded > threshold)
        ties = np.flatnonzero(rounded == threshold)[: n_found - len(above)]
        rows = np.concatenate([above[np.argsort(-rounded[above], kind="stable")], ties])
        ids[:n_found], found[:n_found] = rows, rounded[rows]
    return TopK(ids, found)


def best_listed(indices: Any, scores: Float32Array, k: int) -> TopK:
    """Return the best k of the listed rows, which are all there are; see `best`."""
    order = np.lexsort((indices, -scores))[:k]
    ids, found = np.full(k, PADDING_ID, np.int64), np.full(k, -np.inf, np.float32)
    ids[: len(order)], found[: len(order)] = indices[order], scores[order]
    return TopK(ids, found)


def as_row(name: str, value: Any, n_rows: int) -> int:
    """Return the row number `value` as an int in [0, `n_rows`)."""
    row = as_count(name, value, minimum=-(2**63), maximum=None)
    if not 0 <= row < n_rows:
        raise ValueError(f"{name} must lie in [0, {n_rows}), got {row}")
    return row


def as_excluded(row: Any, n_items: int) -> Int64Array | None:
    """Return the items of a `user_items_row`: a sparse row, an array of item indices, or None.

    Explicit zeros of a sparse row are no items of the user.

    Raises
    ------
    TypeError, ValueError
        A sparse row of another shape, or indices that are not integers in [0, `n_items`).
    """
    name = "user_items_row"
    if row is None:
        return None
    if not hasattr(row, "tocoo"):
        return as_indices(name, row, size=n_items)
    if row.shape not in ((1, n_items), (n_items,)):
        raise ValueError(f"{name} must have shape (1, {n_items}) or ({n_items},), got {row.shape}")
    entries = row.tocoo()
    return as_indices(name, entries.coords[-1][entries.data != 0], size=n_items)


def products(factors: Float32Array, vector: Float32Array) -> Float64Array:
    """Return the inner product of each row with `vector`, (n,) float64.

    Notes
    -----
    O(n dim), 1 MB beyond the result; the bits of a row's product depend on that row and `vector`.
    """
    n_rows, dim = factors.shape
    other = np.asarray(vector, dtype=np.float64)
    result = np.empty(n_rows)
    step = max(1, _BLOCK // max(dim, 1))
    for start in range(0, n_rows, step):
        block = factors[start : start + step].astype(np.float64)
        np.einsum("ij,j->i", block, other, out=result[start : start + step])
    return result


def similar_rows(factors: Float32Array, row: int, k: Any) -> TopK:
    """Return the best k other rows by cosine with `row`; cosines with a zero vector are 0."""
    k = as_k(k, len(factors))
    scores, norms = products(factors, factors[row]), np.empty(len(factors))
    step = max(1, _BLOCK // max(factors.shape[1], 1))
    for start in range(0, len(factors), step):
        block = factors[start : start + step].astype(np.float64)
        np.einsum("ij,ij->i", block, block, out=norms[start : start + step])
    lengths = np.sqrt(norms[row] * norms)
    np.divide(scores, lengths, out=scores, where=lengths > 0)
    scores[lengths == 0] = 0
    return best(scores, k, np.array([row]))
