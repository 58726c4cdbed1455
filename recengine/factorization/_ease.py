"""The closed form of EASE: a Gram matrix added up from sparse rows, one inverse, in place."""

from __future__ import annotations

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine.factorization._layout import lay_out
from recengine.factorization._likes import Likes
from recengine.factorization._workers import workers

_BLOCK = 256  # rows of the inverse that are turned into weights at a time


def item_gram(likes: Likes, num_threads: int) -> Float64Array:
    """Return XᵀX in the upper triangle of an (n_items, n_items) float64 array; 0 below it.

    A sum is added in the order of the users by one thread: the same bits at any `num_threads`.
    """
    from recengine.factorization import _neighbour_kernels as kernels

    by_item = likes.transposed()
    n_items = by_item.shape[0]
    pairs = lay_out(by_item, by_item.confidences, np.arange(n_items))
    gram = np.zeros((n_items, n_items))

    def add(start: int, stop: int) -> None:
        kernels.add_gram_rows(*pairs.layout, gram, start, stop)

    with workers(num_threads) as team:
        team.run(add, pairs.bounds())
    np.fill_diagonal(gram, pairs.norms())
    return gram


def solve(gram: Float64Array, regularization: float) -> Float32Array:
    """Return the weights B, (n_items, n_items) float32; `gram` is overwritten.

    With P = (XᵀX + λI)⁻¹, B_ij = −P_ij / P_jj off the diagonal and 0 on it.

    Raises
    ------
    ValueError
        The matrix is not positive definite in float64.

    References
    ----------
    Steck: Embarrassingly shallow autoencoders for sparse data, 2019, section 3.1, equation 8.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    n_items = len(gram)
    weights = np.zeros((n_items, n_items), np.float32)
    if n_items == 0:
        return weights
    gram.flat[:: n_items + 1] += regularization
    smallest = n_items * 2.3e-16 * gram.diagonal()  # a squared pivot below is rounding
    # Seen by columns, as LAPACK does, our upper triangle is a lower one: nothing is copied.
    factor, failed = dpotrf(gram.T, lower=1, clean=0, overwrite_a=1)
    if failed or not (factor.diagonal() ** 2 > smallest).all():  # NaN fails as well
        raise ValueError(
            "regularization must be large enough that the system can be solved, got "
            f"{regularization:g}: it is singular"
        )
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    upper = inverse.T
    diagonal = upper.diagonal().copy()
    for start in range(0, n_items, _BLOCK):
        stop = min(start + _BLOCK, n_items)
        block = upper[start:stop, start:]
        weights[start:stop, start:] = -block / diagonal[start:]
        # What lies below the diagonal: the transposed, and last, as it mends the corner of `block`.
        below = -block.T / diagonal[start:stop]
        weights[stop:, start:stop] = below[stop - start :]
        corner = np.tril_indices(stop - start, -1)
        weights[start:stop, start:stop][corner] = below[: stop - start][corner]
    np.fill_diagonal(weights, 0)
    return weights
