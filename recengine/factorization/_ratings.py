"""What may be factorized as ratings: any sparse user x item matrix, of numbers of either sign."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine._validation import refuse_masked
from recengine.factorization._likes import Likes, _check_structure, _from_csr, _is_sparse


def as_ratings(matrix: Any) -> Likes:
    """Return `matrix` (Interactions or scipy sparse, user x item) as `Likes`, ratings as they are.

    Duplicates are summed, as scipy does; stored zeros are ratings of 0. The input is not changed.

    Raises
    ------
    TypeError
        Neither Interactions nor a scipy sparse matrix, or its values are not real numbers.
    ValueError
        A value is not finite or beyond float32.
    """
    from scipy.sparse import csr_array

    sparse: Any = matrix.to_csr() if hasattr(matrix, "to_csr") else matrix
    if not _is_sparse(sparse):
        raise TypeError(
            "matrix must be Interactions or a scipy sparse user x item matrix, got "
            f"{type(matrix).__name__}; scipy.sparse.csr_array(matrix) makes one of a dense array"
        )
    if sparse.ndim != 2:
        raise ValueError(f"matrix must be 2-D (users, items), got shape {sparse.shape}")
    if sparse.format in ("csr", "csc"):
        _check_structure(sparse)
    csr = csr_array(sparse)
    values = as_values("matrix", np.asarray(csr.data))
    merged = csr_array((values, csr.indices, csr.indptr), shape=csr.shape)
    if not merged.has_canonical_format:
        merged = merged.copy()
        with np.errstate(over="ignore"):
            merged.sum_duplicates()
        as_values("matrix", np.asarray(merged.data))
    return _from_csr(merged)


def as_values(name: str, values: NDArray[Any]) -> Float32Array:
    """Return ratings as float32, refusing what is not real, not finite or beyond float32."""
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must hold finite ratings, got {values[~np.isfinite(values)][0]}")
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.isfinite(rounded).all():
        bad = values[~np.isfinite(rounded)][0]
        raise ValueError(f"{name} must hold ratings that fit float32, got {bad:g}")
    return rounded


def merged_ratings(indices: Int64Array, ratings: Any) -> tuple[Int64Array, Float32Array]:
    """Return one user's ratings as a row: (ascending unique int64, float32), repeats summed."""
    refuse_masked("ratings", ratings)
    given = np.asarray(ratings)
    if given.shape != indices.shape:
        raise ValueError(f"ratings must have shape {indices.shape}, got {given.shape}")
    values = as_values("ratings", given if given.size else given.astype(np.float32))
    rows, places = np.unique(indices, return_inverse=True)
    total = np.bincount(places, weights=values, minlength=len(rows))
    return rows, as_values("ratings", total)
