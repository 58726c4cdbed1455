"""What may be factorized: any sparse user x item matrix, as canonical CSR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine._validation import refuse_masked

_MAX_COLUMNS = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Likes:
    """A CSR matrix with sorted, unique column indices and float32 confidences, none of them 0.

    Attributes
    ----------
    shape : (n_rows, n_columns)
    indptr : ndarray (n_rows + 1,), int64
    indices : ndarray (n_likes,), int32
    confidences : ndarray (n_likes,), float32
        `alpha` times the weight, rounded to float32 as implicit does. Positive, but for dislikes
        where these were asked for (`signed`).
    """

    shape: tuple[int, int]
    indptr: Int64Array
    indices: NDArray[np.int32]
    confidences: Float32Array

    @property
    def counts(self) -> Int64Array:
        """Entries of each row, int64."""
        return np.diff(self.indptr)

    def transposed(self) -> Likes:
        """Return the same likes, row by row of the other side."""
        from scipy.sparse import csr_array

        few = (
            len(self.indices) <= _MAX_COLUMNS
        )  # else scipy would widen the indices by copying them
        indptr: Any = self.indptr.astype(np.int32) if few else self.indptr
        matrix = csr_array((self.confidences, self.indices, indptr), shape=self.shape)
        return _from_csr(matrix.T.tocsr())


def as_likes(
    matrix: Any, alpha: float, *, shape: tuple[int, int] | None = None, signed: bool = False
) -> Likes:
    """Return `matrix` (Interactions or scipy sparse, user x item) as `Likes`.

    Duplicates are summed, explicit zeros dropped, `alpha` multiplied in; the input is not changed,
    and where nothing of this is to be done its arrays are borrowed.

    Raises
    ------
    TypeError
        Neither Interactions nor a scipy sparse matrix, or its values are not real numbers.
    ValueError
        A value is negative (unless `signed`), not finite or beyond float32, or the shape is not
        `shape`.
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
    if shape is not None and sparse.shape != shape:
        raise ValueError(f"matrix must have shape {shape} (users, items), got {sparse.shape}")
    if max(sparse.shape) > _MAX_COLUMNS:
        raise ValueError(f"matrix must have at most {_MAX_COLUMNS} rows, got {sparse.shape}")
    if sparse.format in ("csr", "csc"):
        _check_structure(sparse)
    csr = csr_array(sparse)
    weights = np.asarray(csr.data)
    check_weights("matrix", weights, signed=signed)
    narrow = weights.astype(np.float32, copy=False)
    merged = csr_array((narrow, csr.indices, csr.indptr), shape=csr.shape)
    if not merged.has_canonical_format or not merged.data.all():
        merged = merged.copy()
        merged.sum_duplicates()
        merged.eliminate_zeros()
    merged.data = _scaled(np.asarray(merged.data, dtype=np.float32), alpha)
    return _from_csr(merged)


def _check_structure(matrix: Any) -> None:
    """Refuse a CSR or CSC that points outside of itself: what reads it does not look."""
    lines, width = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    indptr, indices = np.asarray(matrix.indptr), np.asarray(matrix.indices)
    n_entries = min(len(indices), len(matrix.data))
    rises = len(indptr) == lines + 1 and indptr[0] == 0 and (indptr[1:] >= indptr[:-1]).all()
    if not rises or indptr[-1] > n_entries:
        raise ValueError(
            f"matrix must have an indptr of {lines + 1} entries that rises from 0 to at most the "
            f"number of indices ({n_entries})"
        )
    used = indices[: indptr[-1]]
    if len(used) and not 0 <= used.min() <= used.max() < width:
        bad = used[(used < 0) | (used >= width)][0]
        raise ValueError(f"matrix must have indices in [0, {width}), got {bad}")


def merged_events(
    indices: Int64Array, weights: Any, alpha: float
) -> tuple[Int64Array, Float32Array]:
    """Return one user's events as a row of `Likes`: (ascending unique int64, confidences)."""
    if weights is None:
        given = np.ones(len(indices), np.float32)
    else:
        refuse_masked("weights", weights)
        given = np.asarray(weights)
        if given.shape != indices.shape:
            raise ValueError(f"weights must have shape {indices.shape}, got {given.shape}")
        check_weights("weights", given)
    order = np.argsort(indices, kind="stable")
    rows, values = indices[order], given.astype(np.float32)[order]
    first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=first[1:])
    if not first.all():
        values = np.add.reduceat(values, np.flatnonzero(first))
        rows = rows[first]
    if not values.all():
        rows, values = rows[values != 0], values[values != 0]
    return rows, _scaled(values, alpha)


def check_weights(name: str, weights: NDArray[Any], *, signed: bool = False) -> None:
    """Refuse weights that are not real and finite, beyond float32, or negative but for `signed`."""
    if weights.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {weights.dtype}")
    if not weights.size:
        return
    low, high = weights.min(), weights.max()  # NaN anywhere makes both NaN
    if not np.isfinite(low) or not np.isfinite(high):
        bad = weights[~np.isfinite(weights)][0]
        raise ValueError(f"{name} must hold finite weights, got {bad}")
    if low < 0 and not signed:
        raise ValueError(f"{name} must hold weights >= 0, got {low:g}")
    largest = max(float(high), -float(low))
    if largest > float(np.finfo(np.float32).max):
        raise ValueError(f"{name} must hold weights that fit float32, got {largest:g}")


def _scaled(weights: Float32Array, alpha: float) -> Float32Array:
    """Return ``alpha * weights`` in float32, refusing an overflow; for 1 the weights themselves."""
    with np.errstate(over="ignore"):
        product: Float32Array = weights if alpha == 1.0 else np.float32(alpha) * weights
    if product.size and not np.isfinite([product.min(), product.max()]).all():
        raise ValueError(f"alpha times the largest weight must fit float32, got alpha {alpha:g}")
    return product


def _is_sparse(value: Any) -> bool:
    from scipy.sparse import issparse

    return issparse(value)


def _from_csr(csr: Any) -> Likes:
    return Likes(
        shape=(int(csr.shape[0]), int(csr.shape[1])),
        indptr=np.ascontiguousarray(csr.indptr, dtype=np.int64),
        indices=np.ascontiguousarray(csr.indices, dtype=np.int32),
        confidences=np.ascontiguousarray(csr.data, dtype=np.float32),
    )
