"""One user's events as the solvers take them: what is plain already is not touched again."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_indices, refuse_masked
from recengine.factorization._likes import check_weights

_PLAIN = 0x101  # NumPy's flags of an array that is C-contiguous and aligned


def as_events(indices: Any, weights: Any, size: int) -> tuple[Int64Array, Float32Array | None]:
    """Return (row numbers, weights or None for ones), neither sorted nor merged.

    Of plain arrays (1-D int64, float32) only the shape is checked: `_fold_in` reads their values
    anyway, and refuses them in the same words.
    """
    rows = indices if _is_plain(indices, np.int64) else as_indices("indices", indices, size=size)
    if weights is None:
        return rows, None
    if _is_plain(weights, np.float32) and weights.shape == rows.shape:
        return rows, weights
    refuse_masked("weights", weights)
    given = np.asarray(weights)
    if given.shape != rows.shape:
        raise ValueError(f"weights must have shape {rows.shape}, got {given.shape}")
    check_weights("weights", given, signed=True)
    return rows, np.ascontiguousarray(given, dtype=np.float32)


def _is_plain(value: Any, dtype: Any) -> bool:
    return (
        type(value) is np.ndarray
        and value.dtype == dtype
        and value.ndim == 1
        and value.flags.num & _PLAIN == _PLAIN
    )
