"""The basis in which a Gram matrix is diagonal: rows are turned into it, solved and turned back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recengine._types import Float32Array, Float64Array

PANEL = 16  # columns that the kernels take side by side


@dataclass(frozen=True)
class Basis:
    """Orthonormal eigenvectors of a Gram matrix.

    Attributes
    ----------
    spectrum : ndarray (dim,), float64
        The eigenvalues, ascending, not below 0; dim is `factors` up to a multiple of 16, the rest
        is 0.
    into, out_of : ndarray (dim / 16, factors, 16) and (dim / 16, dim, 16), float32
        Panels of 16 columns of the rotation, and of its transpose.
    """

    spectrum: Float64Array
    into: Float32Array
    out_of: Float32Array

    @property
    def dim(self) -> int:
        """Columns of rotated rows: a multiple of 16."""
        return len(self.spectrum)

    def weighted(self, weight: float) -> Float64Array:
        """Return `weight` times the spectrum, and 1 for the padding: there all factors are 0."""
        spectrum = weight * self.spectrum
        spectrum[self.into.shape[1] :] = 1.0
        return spectrum

    @classmethod
    def of(cls, gram: Float64Array) -> Basis:
        """Return the basis of a symmetric positive semidefinite matrix; O(factors³), LAPACK."""
        values, vectors = np.linalg.eigh(gram)
        factors = len(gram)
        dim = -(-factors // PANEL) * PANEL
        spectrum = np.zeros(dim)
        spectrum[:factors] = np.maximum(values, 0.0)
        square = np.zeros((dim, dim), np.float32)
        square[:factors, :factors] = vectors
        return cls(spectrum, _panels(square[:factors]), _panels(square.T))


def _panels(matrix: Float32Array) -> Float32Array:
    n_rows, n_columns = matrix.shape
    split = matrix.reshape(n_rows, n_columns // PANEL, PANEL)
    return np.ascontiguousarray(split.transpose(1, 0, 2))
