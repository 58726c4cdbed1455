"""Predicted ratings of pairs, of which either side may be unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import refuse_masked

_PAIRS = 2**14  # predicted at a time


def known_or_not(name: str, indices: Any, size: int) -> Int64Array:
    """Return row numbers as int64, each in [−1, `size`): −1 is one that is not known."""
    refuse_masked(name, indices)
    array = np.asarray(indices)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}")
    if array.min() < -1 or array.max() >= size:
        bad = array[(array < -1) | (array >= size)][0]
        raise ValueError(f"{name} must lie in [-1, {size}), got {bad}")
    return array.astype(np.int64)


def predicted(
    mean: float,
    user_biases: Float32Array,
    user_factors: Float32Array,
    item_factors: Float32Array,
    users: Int64Array,
    items: Int64Array,
) -> Float32Array:
    """Return the rating of each pair of a row of users and a row of items (see `SGD.predict`)."""
    result = np.empty(len(users), np.float32)
    for first in range(0, len(users), _PAIRS):
        part = slice(first, first + _PAIRS)
        x, y = _rows(user_factors, users[part]), _rows(item_factors, items[part])
        x[:, -1] = 1  # an unknown user meets an item's bias as well
        known = _rows(user_biases, users[part]).astype(np.float64) + mean
        result[part] = known + np.einsum("ij,ij->i", x, y, dtype=np.float64)
    return result


def _rows(table: Float32Array, indices: Int64Array) -> Float32Array:
    """Return the rows of `table`, zeros for those that are not known."""
    rows = np.zeros((len(indices), *table.shape[1:]), np.float32)
    rows[indices >= 0] = table[indices[indices >= 0]]
    return rows
