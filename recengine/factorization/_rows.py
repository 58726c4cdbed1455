"""Sparse rows that a model keeps: owned, weighed, summed. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_indices
from recengine.factorization._learned import check_parts
from recengine.factorization._likes import Likes, as_likes, merged_events


def owned(likes: Likes) -> Likes:
    """Return `likes` in read-only arrays that nobody else can change."""
    arrays: list[Any] = [
        array.copy() if array.flags.writeable else array
        for array in (likes.indptr, likes.indices, likes.confidences)
    ]
    for array in arrays:
        array.flags.writeable = False
    return Likes(likes.shape, *arrays)


def as_events(row: Any, n_items: int) -> Likes:
    """Return a `user_items_row` as the one row of a `Likes`.

    A sparse row (1, n_items) or (n_items,) brings its weights; items of an array weigh 1 for each
    time they are named.
    """
    name = "user_items_row"
    if hasattr(row, "tocoo"):
        if row.shape not in ((1, n_items), (n_items,)):
            raise ValueError(
                f"{name} must have shape (1, {n_items}) or ({n_items},), got {row.shape}"
            )
        entries = row.tocoo()
        given, weights = entries.coords[-1], entries.data
    else:
        given, weights = row, None
    items, merged = merged_events(as_indices(name, given, size=n_items), weights, 1.0)
    return Likes((1, n_items), np.array([0, len(items)]), items.astype(np.int32), merged)


def row_of(likes: Likes, row: int) -> tuple[Any, Float32Array]:
    """Return (indices, confidences) of one row."""
    part = slice(likes.indptr[row], likes.indptr[row + 1])
    return likes.indices[part], likes.confidences[part]


def sum_rows(likes: Likes, rows: Any, weights: Float32Array) -> Float64Array:
    """Return the sum of rows of `likes` times their weights, (n_columns,) float64.

    Terms are added in the order of `rows`; O(entries of those rows + n_columns).
    """
    starts = likes.indptr[rows]
    counts = likes.indptr[rows + np.int64(1)] - starts
    ends = np.cumsum(counts)
    at = np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
    terms = np.repeat(weights.astype(np.float64), counts) * likes.confidences[at]
    sums: Any = np.bincount(likes.indices[at], terms, minlength=likes.shape[1])
    return np.asarray(sums, dtype=np.float64)


def squared_norms(likes: Likes, weights: Float32Array) -> Float64Array:
    """Return the sum of the squared weights of each row, (n_rows,) float64."""
    rows: Int64Array = np.repeat(np.arange(likes.shape[0]), likes.counts)
    squares = weights.astype(np.float64) ** 2
    sums: Any = np.bincount(rows, squares, minlength=likes.shape[0])
    return np.asarray(sums, dtype=np.float64)


def to_arrays(likes: Likes, name: str) -> dict[str, Any]:
    """Return the arrays of `likes`, for a model's `state`."""
    return {
        f"{name}_indptr": likes.indptr,
        f"{name}_indices": likes.indices,
        f"{name}_weights": likes.confidences,
    }


def from_arrays(arrays: Mapping[str, Any], name: str, shape: tuple[int, int]) -> Likes:
    """Return what `to_arrays` described, checked; read-only arrays of its types are borrowed.

    Raises
    ------
    ValueError
        An array is missing, or they are no matrix of this shape.
    """
    from scipy.sparse import csr_array

    names = tuple(f"{name}_{part}" for part in ("indptr", "indices", "weights"))
    check_parts("arrays", arrays, names)
    indptr, indices, weights = (np.asarray(arrays[key]) for key in names)
    try:
        likes = as_likes(csr_array((weights, indices, indptr), shape=shape), 1.0)
    except ValueError as error:
        raise ValueError(f"arrays must describe {name} of shape {shape}: {error}") from error
    return owned(likes)
