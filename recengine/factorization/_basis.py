"""The basis in which a Gram matrix is diagonal, and rows turned into it and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine.factorization._schedule import even_bounds

if TYPE_CHECKING:
    from recengine.factorization._schedule import Workers

PANEL = 16  # columns that the kernels take side by side


@dataclass(frozen=True)
class Basis:
    """Orthogonal eigenvectors of a Gram matrix.

    Attributes
    ----------
    spectrum : ndarray (dim,), float64
        The eigenvalues, ascending, not below 0; zeros up to a multiple of 16.
    into, out_of : ndarray (dim / 16, rows, 16), float32
        Panels of the rotation (rows = factors) and of its transpose (rows = dim).
    """

    spectrum: Float64Array
    into: Float32Array
    out_of: Float32Array

    @property
    def dim(self) -> int:
        """Columns of rotated rows: a multiple of 16."""
        return len(self.spectrum)

    @classmethod
    def of(cls, gram: Float64Array) -> Basis:
        """Return the basis of a symmetric positive semidefinite matrix. O(factors³), LAPACK."""
        values, vectors = np.linalg.eigh(gram)
        width = len(gram)
        dim = -(-width // PANEL) * PANEL
        spectrum = np.zeros(dim)
        spectrum[:width] = np.maximum(values, 0.0)
        square = np.zeros((dim, dim), np.float32)
        square[:width, :width] = vectors
        return cls(spectrum, _panels(square[:width]), _panels(square.T))

    def rotated(self, rows: Float32Array, team: Workers) -> Float32Array:
        """Return rows (n, factors) in the basis: (n, dim), padded with zeros."""
        from recengine._native import rotate_rows

        turned = np.empty((len(rows), self.dim), np.float32)
        team.run(
            lambda start, stop: rotate_rows(rows, self.into, turned, start, stop),
            even_bounds(len(rows)),
        )
        return turned


def _panels(matrix: Float32Array) -> Float32Array:
    n_rows, n_columns = matrix.shape
    split = matrix.reshape(n_rows, n_columns // PANEL, PANEL)
    return np.ascontiguousarray(split.transpose(1, 0, 2))
