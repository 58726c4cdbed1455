"""The factors of one side, users or items, and what is derived from them; and reading ids, rows."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int32Array, Int64Array, Metric
from recengine._validation import as_count, as_matrix, refuse_masked
from recengine.retrieval import FlatIndex

Answer = tuple[Int32Array, Float32Array]


class Side:
    """Factors (n, dim) of users or items, read-only, with indexes, norms and the Gram matrix.

    What is derived is made by the first request that needs it and lives as long as the factors.
    """

    def __init__(self, name: str, factors: Any) -> None:
        matrix = as_matrix(f"{name}_factors", factors)
        if matrix.flags.writeable:
            matrix = matrix.copy()
            matrix.flags.writeable = False
        self.name = name
        self.factors = matrix
        self._indexes: dict[Metric, FlatIndex] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "factors": self.factors, "_indexes": {}}

    def __len__(self) -> int:
        return len(self.factors)

    @cached_property
    def gram(self) -> Float64Array:
        """FᵀF in float64."""
        wide = self.factors.astype(np.float64)
        gram: Float64Array = wide.T @ wide
        return gram

    @cached_property
    def norms(self) -> Float32Array:
        """Norm of each row, 1e-10 where it is 0."""
        norms: Float32Array = np.linalg.norm(self.factors, axis=1)
        norms[norms == 0] = 1e-10
        return norms

    def at(self, ids: Any) -> Float32Array:
        """Return the factors of one id (dim,) or of several (n, dim)."""
        rows = as_row_numbers(f"{self.name}id", ids, len(self))
        return self.factors[rows[0]] if np.isscalar(ids) else self.factors[rows]

    def extended(self, ids: Any, factors: Float32Array) -> Side:
        """Return the side with other factors for `ids`; zeros for new rows that nobody gave."""
        rows = as_row_numbers(f"{self.name}ids", ids, None)
        size = max(len(self), int(rows.max()) + 1 if len(rows) else 0)
        grown = np.zeros((size, self.factors.shape[1]), np.float32)
        grown[: len(self)] = self.factors
        grown[rows] = factors
        grown.flags.writeable = False
        return Side(self.name, grown)

    def best(
        self,
        metric: Metric,
        queries: Float32Array,
        n: Any,
        *,
        exclude: Any = None,
        deny: Any = None,
        only: Any = None,
        num_threads: int,
    ) -> Answer:
        """Return the best `n` rows for (dim,) or (n_queries, dim) `queries`, of `only` these."""
        count = as_count("N", n)
        if only is not None:
            if deny is not None and len(deny):
                raise ValueError(f"{self.name}s must be None where filter_{self.name}s is given")
            only = np.unique(as_row_numbers(f"{self.name}s", only, len(self)))
            count = min(count, len(only))
        if metric not in self._indexes:
            self._indexes[metric] = FlatIndex(self.factors, metric=metric)
        found = self._indexes[metric].search(
            queries,
            count,
            exclude=exclude,
            allow=only,
            deny=deny,
            num_threads=num_threads if queries.ndim == 2 else 1,
        )
        return found.ids.astype(np.int32), found.scores


def as_row_numbers(name: str, ids: Any, size: int | None) -> Int64Array:
    """Return one id or several as int64 (n,), each in [0, `size`)."""
    refuse_masked(name, ids)
    array = np.atleast_1d(np.asarray(ids))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an int or 1-D integers, got {array.dtype} {array.shape}")
    if array.min() < 0 or (size is not None and array.max() >= size):
        bad = array[(array < 0) | (array >= (np.inf if size is None else size))][0]
        within = ">= 0" if size is None else f"in [0, {size})"
        raise IndexError(f"{name} must be {within}, got {bad}")
    return array.astype(np.int64)


def as_rows(name: str, matrix: Any, ids: Any, n_columns: int) -> Any:
    """Return a sparse matrix of one row for each of `ids` as CSR without explicit zeros."""
    from scipy.sparse import csr_array, issparse

    is_sparse: bool = issparse(matrix)
    if not is_sparse or len(matrix.shape) != 2:
        raise ValueError(f"{name} must be a sparse matrix (n, {n_columns}), got {_kind(matrix)}")
    n_rows = 1 if np.isscalar(ids) else len(ids)
    if matrix.shape[0] != n_rows or matrix.shape[1] > n_columns:
        raise ValueError(
            f"{name} must have 1 row for every id ({n_rows}) and at most {n_columns} columns, "
            f"got shape {matrix.shape}"
        )
    rows: Any = csr_array(matrix)
    if not rows.data.all():
        rows = rows.copy()
        rows.eliminate_zeros()
    return rows


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {shape}" if shape else type(value).__name__


def deprecated(name: str, instead: str) -> None:
    """Warn, as implicit does, that its users should write something else."""
    message = f"{name} is deprecated. Use {instead} instead"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
