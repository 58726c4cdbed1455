"""The arguments of the metrics: what a row of hits, a total and a rating may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recengine._types import Float64Array, IdArray, Int64Array
from recengine._validation import as_count

BoolArray = NDArray[np.bool_]


def as_hits(hits: ArrayLike, k: int | None) -> tuple[BoolArray, int]:
    """Return (the first k columns of hits, at least one wide; k)."""
    array = np.asarray(hits)
    if array.ndim not in (1, 2):
        raise ValueError(f"hits must be (n_users, k) or (k,), got shape {array.shape}")
    if array.dtype != bool:
        if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 1):
            raise TypeError(f"hits must be bool, or 0 and 1, got dtype {array.dtype}")
        array = array.astype(bool)
    k = as_count("k", array.shape[-1] if k is None else k, minimum=1)
    if array.shape[-1] == 0:
        array = np.zeros((*array.shape[:-1], 1), bool)
    return array[..., :k], k


def as_totals(n_relevant: ArrayLike, hits: BoolArray) -> Int64Array:
    """Return the numbers of relevant items, one per row, none below the row's hits."""
    totals = np.asarray(n_relevant)
    if totals.size and totals.dtype.kind not in "iu":
        raise TypeError(f"n_relevant must hold integers, got dtype {totals.dtype}")
    if totals.shape != hits.shape[:-1]:
        raise ValueError(
            f"n_relevant must have one entry per row of hits {hits.shape[:-1]}, got {totals.shape}"
        )
    if (totals < 1).any():
        raise ValueError(f"n_relevant must be >= 1, got {totals.min()}")
    found = hits.sum(-1)
    if (found > totals).any():
        worst = np.argmax(found > totals)
        raise ValueError(
            f"n_relevant must be >= the hits of its row, got {totals.flat[worst]} "
            f"for {np.ravel(found)[worst]} hits"
        )
    return totals.astype(np.int64)


def as_figures(values: Any) -> Float64Array:
    """Return float64 values, as a plain number where hits was one list."""
    figures: Float64Array = np.asarray(values, np.float64)[()]
    return figures


def as_id_lists(name: str, value: ArrayLike) -> IdArray:
    """Return ids as an integer or object array, one or two axes."""
    array = np.asarray(value)
    if array.dtype.kind in "UT":
        array = array.astype(object)
    if array.size and array.dtype.kind not in "iuO":
        raise TypeError(f"{name} must hold integer or str ids, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be (n_users, k) or (k,), got shape {array.shape}")
    return array


def as_errors(predicted: ArrayLike, actual: ArrayLike) -> Float64Array:
    """Return predicted − actual in float64."""
    pair = []
    for name, value in (("predicted", predicted), ("actual", actual)):
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
        pair.append(array.astype(np.float64))
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"predicted and actual must have one shape, got {pair[0].shape} and {pair[1].shape}"
        )
    if not pair[0].size:
        raise ValueError("predicted must not be empty, got 0 predictions")
    difference: Float64Array = pair[0] - pair[1]
    return difference
