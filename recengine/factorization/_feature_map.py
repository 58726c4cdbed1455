"""What features say about factors: a ridge regression, its strength chosen in closed form.

With C the features of the rows that have data, w = min(entries, 50) their trust and Y their
factors, the map is that of ``min Σ w_i ‖y_i − b − Wᵀ c_i‖² + μ ‖W‖²``; the intercept b is not
penalised, so everything is centred by the weighted means::

    W = (Cᵀ D C + μ I)⁻¹ Cᵀ D Y,   D = diag(w),   b = mean(Y) − Wᵀ mean(C)

One eigendecomposition (of CᵀDC, or of D^½ C Cᵀ D^½ where there are fewer rows than features) serves
every μ and every epoch of a fit, since only Y changes. μ is the one of a fixed grid that minimises
the generalised cross-validation score ``n ‖D^½ (Y − Ŷ)‖² / (n − dof)²``.

References
----------
Golub, Heath, Wahba: Generalized cross-validation as a method for choosing a good ridge parameter,
1979. Barkan, Koenigstein, Yogev, Katz: CB2CF: a neural multiview content-to-collaborative filtering
model for completely cold item recommendations, 2019, for mapping content to factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_matrix

TRUST_CAP = 50  # entries beyond which a row's factors are not trusted more
_GRID = 10.0 ** np.arange(-6.0, 2.25, 0.25)  # of the largest eigenvalue
_BLOCK = 4096  # rows whose features are widened to float64 at once


@dataclass(frozen=True)
class FeatureMap:
    """An affine map from features (n, n_features) to factors (n, factors).

    Attributes
    ----------
    weights : ndarray (n_features, factors), float64
    intercept : ndarray (factors,), float64
    """

    weights: Float64Array
    intercept: Float64Array

    def predict(self, features: Any) -> Float32Array:
        """Return what `as_features` gave as factors (n, factors), float32, read-only."""
        predicted = np.empty((features.shape[0], len(self.intercept)), np.float32)
        for start in range(0, len(predicted), _BLOCK):
            rows = slice(start, start + _BLOCK)
            with np.errstate(over="ignore"):
                predicted[rows] = _wide(features[rows]) @ self.weights + self.intercept
        if not np.isfinite(predicted).all():
            raise ValueError("features must give factors that fit float32, got an overflow")
        predicted.flags.writeable = False
        return predicted


class FeatureRegression:
    """The regression of factors on fixed features, ready for factors that change.

    Parameters
    ----------
    features : ndarray or csr_array (n_rows, n_features), float32
        What `as_features` returned.
    counts : ndarray (n_rows,), int64
        Entries of each row; rows without any teach nothing.

    Notes
    -----
    O(n_rows n_features² + n_features³), or O(n_rows² n_features + n_rows³) where rows are fewer,
    once; then O(n_rows n_features factors) a `fit`. Memory: the smaller Gram matrix and the basis.
    Float64 throughout; checked against a float64 NumPy oracle.
    """

    def __init__(self, features: Any, counts: Int64Array) -> None:
        self._rows = np.flatnonzero(counts)
        self._features = features if len(self._rows) == len(counts) else features[self._rows]
        self._trust = np.minimum(counts[self._rows], TRUST_CAP).astype(np.float64)
        total = sum(
            (_wide(block).T @ trust for block, trust in self._blocks(self._trust)),
            np.zeros(features.shape[1]),
        )
        self._mean = total / max(float(self._trust.sum()), 1.0)
        # Dense rows are centred as they are read, sparse ones by what it does to their products.
        self._offset = self._mean if hasattr(features, "toarray") else 0 * self._mean
        self._values, self._basis = self._spectrum()

    def _blocks(self, values: Float64Array) -> Iterator[tuple[Any, Float64Array]]:
        """Give the features of the rows that teach and their `values`, some rows at a time."""
        for start in range(0, len(values), _BLOCK):
            rows = slice(start, start + _BLOCK)
            yield self._features[rows], values[rows]

    def _centred(self, block: Any) -> Any:
        return _wide(block) - self._mean if isinstance(block, np.ndarray) else _wide(block)

    def _products(self, values: Float64Array) -> Float64Array:
        """Return Cᵀ values, C centred, summed in float64 over blocks of rows."""
        total = -np.outer(self._offset, values.sum(0))
        for block, part in self._blocks(values):
            total += self._centred(block).T @ part
        return total

    def _spectrum(self) -> tuple[Float64Array, Float64Array]:
        """Return the eigenvalues of CᵀDC, centred, and vectors (n_features, rank), without 0s."""
        n_rows, n_features = self._features.shape
        roots, offset = np.sqrt(self._trust), self._offset
        by_rows = n_rows < n_features
        if by_rows:
            table = self._centred(self._features)
            cross = table @ offset
            gram = _dense(table @ table.T) - cross[:, None] - cross + offset @ offset
            gram *= roots[:, None] * roots
        else:
            gram = -self._trust.sum() * np.outer(offset, offset)
            for block, trust in self._blocks(self._trust):
                table = self._centred(block)
                gram += _dense(table.T @ _scaled_rows(table, trust))
        values, vectors = np.linalg.eigh(gram)
        # Next to the largest, that small is the rounding of a direction that has no variance.
        kept = values > max(values[-1:], default=0.0) * len(values) * 1e-14
        values, vectors = values[kept], vectors[:, kept]
        if by_rows:
            vectors = self._products(roots[:, None] * vectors) / np.sqrt(values)
        return values, vectors

    def fit(self, factors: Float32Array) -> FeatureMap:
        """Return the map for the `factors` (n_rows, factors) of all rows."""
        known, trust = factors[self._rows].astype(np.float64), self._trust[:, None]
        mean = (trust * known).sum(0) / max(float(trust.sum()), 1.0)
        residual = known - mean
        moved = self._basis.T @ self._products(trust * residual)
        strength = self._strength(moved, float((trust * residual**2).sum()))
        weights = self._basis @ (moved / (self._values + strength)[:, None])
        return FeatureMap(weights, mean - self._mean @ weights)

    def _strength(self, moved: Float64Array, total: float) -> float:
        """Return the μ of the least generalised cross-validation score; the largest of equals.

        With s the eigenvalues, direction j keeps the share μ / (s_j + μ) of its residual, and the
        degrees of freedom that are left are what no direction reaches and these shares.
        """
        values = self._values
        if not len(values):
            return 1.0  # features that do not vary: any μ gives the same
        energy = (moved**2).sum(1) / values
        unreached = max(len(self._rows) - 1 - len(values), 0)
        beyond = max(total - float(energy.sum()), 0.0) if unreached else 0.0
        grid = _GRID[::-1] * values[-1]
        shares = grid[:, None] / (values + grid[:, None])
        scores = (beyond + shares**2 @ energy) / (unreached + shares.sum(1)) ** 2
        return float(grid[np.argmin(scores)])


def as_features(name: str, value: Any, *, n_rows: int | None = None, dim: int | None = None) -> Any:
    """Return `value`, dense or scipy sparse, as finite float32 (n_rows, dim): ndarray or csr_array.

    Raises
    ------
    TypeError, ValueError
        Not real numbers, not finite, beyond float32, or another shape.
    """
    from scipy.sparse import csr_array, issparse

    is_sparse: bool = issparse(value)
    if not is_sparse:
        return as_matrix(name, value, n_rows=n_rows, dim=dim)
    for axis, wanted, word in ((0, n_rows, "rows"), (1, dim, "columns")):
        if len(value.shape) != 2 or (wanted is not None and value.shape[axis] != wanted):
            needed = "be 2-D (rows, dim)" if len(value.shape) != 2 else f"have {wanted} {word}"
            raise ValueError(f"{name} must {needed}, got shape {value.shape}")
    rows: Any = csr_array(value)
    data = as_matrix(name, rows.data[None, :])[0]
    return csr_array((data, rows.indices, rows.indptr), shape=rows.shape)


def _wide(block: Any) -> Any:
    return block.astype(np.float64)


def _dense(block: Any) -> Any:
    return block.toarray() if hasattr(block, "toarray") else block


def _scaled_rows(block: Any, weights: Float64Array) -> Any:
    """Return diag(weights) block."""
    return (
        block.multiply(weights[:, None]).tocsr()
        if hasattr(block, "tocsr")
        else (block * weights[:, None])
    )
