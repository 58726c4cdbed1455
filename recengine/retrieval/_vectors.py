"""The vectors of an index as they are stored: float32, or 2 bytes a number.

float16 is NumPy's; bfloat16, which NumPy does not have, is kept as its bits in uint16. So the dtype
of an array says what it holds. Both widen to float32 exactly, and every score is that of the
widened numbers.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Storage
from recengine._validation import as_matrix

Vectors: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]

DTYPES: dict[Storage, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
STORAGES = tuple(DTYPES)
LARGEST = {"float16": "65504", "bfloat16": "3.3895314e+38"}
CHUNK = 1 << 18  # numbers that are rounded at once: what it takes stays in the cache


def storage_of(vectors: Vectors) -> Storage:
    """Return the name of what an array of vectors holds."""
    return next(name for name, dtype in DTYPES.items() if dtype == vectors.dtype)


def widened(vectors: Vectors) -> Float32Array:
    """Return the float32 that stored numbers stand for; the same memory where they are that."""
    if vectors.dtype == np.uint16:
        return (vectors.astype(np.uint32) << 16).view(np.float32)
    return vectors.astype(np.float32, copy=False)


def rounded(name: str, table: Float32Array, storage: Storage, first: int = 0) -> Vectors:
    """Return finite float32 rows rounded to what is stored: to nearest, ties to even.

    A number that would become infinite is refused by name; `first` is the row of the first.
    """
    if storage == "float32":
        return table
    if storage == "float16":
        with np.errstate(over="ignore", under="ignore"):
            halves: Vectors = table.astype(np.float16)
        lost = np.isinf(halves)
    else:
        bits = table.view(np.uint32)
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        lost = (halves & 0x7FFF) == 0x7F80
    if lost.any():
        row, column = np.argwhere(lost)[0]
        raise ValueError(
            f"{name} must fit {storage} (at most {LARGEST[storage]}), "
            f"got {table[row, column]!s} at {(first + int(row), int(column))}"
        )
    return halves


def owned(name: str, value: Any, storage: Storage) -> Vectors:
    """Return a read-only matrix of finite stored numbers.

    It is the caller's memory only if that is read-only too and holds what is stored. Nothing of the
    size of the matrix is made beside the one that is returned, unless `value` must be made a
    float32 matrix first.
    """
    if storage == "float32":
        table = as_matrix(name, value)
        if table.flags.writeable and (table is value or table.base is not None):
            table = table.copy()
        table.flags.writeable = False
        return table
    is_matrix = isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "fiu"
    whole = value if is_matrix else as_matrix(name, value)
    kept = whole.dtype == np.float16 == DTYPES[storage] and _is_lent(whole)
    halves: Vectors = whole if kept else np.empty(whole.shape, DTYPES[storage])
    step = max(1, CHUNK // max(1, whole.shape[1]))
    for first in range(0, len(whole), step):
        part = _checked(name, whole, first, first + step)
        if not kept:
            halves[first : first + step] = rounded(name, part, storage, first)
    halves.flags.writeable = False
    return halves


def _is_lent(array: NDArray[Any]) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned and not flags.writeable


def _checked(name: str, whole: NDArray[Any], first: int, end: int) -> Float32Array:
    """Return some rows as finite float32."""
    try:
        return as_matrix(name, whole[first:end])
    except ValueError:
        pass
    return as_matrix(name, whole)[first:end]  # raises, and says where in the whole
