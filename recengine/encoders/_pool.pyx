# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The last steps of a text's vector, on the request path: mean over its tokens, length 1.

A query pays for cold code more than for arithmetic: after a run of the graph each NumPy call costs
tens of microseconds, whatever its size. Here each step is one pass over the numbers.
"""

from libc.math cimport isfinite, sqrt
from libc.stdint cimport int64_t

import numpy as np


def token_means(const float[:, :, ::1] hidden, const int64_t[::1] lengths):
    """Return the mean of each text's first tokens.

    Parameters
    ----------
    hidden : ndarray (n_rows, tokens, dim), float32
        C-contiguous. What stands after a text's tokens is never read.
    lengths : ndarray (n,), int64
        Tokens of each text, in [1, tokens]; n <= n_rows.

    Returns
    -------
    ndarray (n, dim), float32
        Summed in float32 in the order of the tokens, so that padding changes no bit.
    """
    cdef Py_ssize_t n = lengths.shape[0], dim = hidden.shape[2], row, token, i
    if n > hidden.shape[0]:
        raise ValueError(f"lengths must have at most {hidden.shape[0]} entries, got {n}")
    for row in range(n):
        if not 1 <= lengths[row] <= hidden.shape[1]:
            raise ValueError(f"lengths must be in [1, {hidden.shape[1]}], got {lengths[row]}")
    found = np.empty((n, dim), np.float32)
    cdef float[:, ::1] means = found
    cdef float count
    with nogil:
        for row in range(n):
            for i in range(dim):
                means[row, i] = hidden[row, 0, i]
            for token in range(1, lengths[row]):
                for i in range(dim):
                    means[row, i] += hidden[row, token, i]
            count = <float>lengths[row]
            for i in range(dim):
                means[row, i] /= count
    return found


def scale_rows(float[:, ::1] vectors):
    """Scale each row to length 1 in place, and tell whether all numbers were finite.

    Parameters
    ----------
    vectors : ndarray (n, dim), float32, writable
        A row of zeros stays as it is, and so does one that holds NaN or infinity.

    Returns
    -------
    bool

    Notes
    -----
    The norm is taken in float64, where no square of a float32 overflows.
    """
    cdef Py_ssize_t n = vectors.shape[0], dim = vectors.shape[1], row, i
    cdef double total, norm
    cdef bint all_finite = True
    with nogil:
        for row in range(n):
            total = 0
            for i in range(dim):
                total += <double>vectors[row, i] * vectors[row, i]
            if not isfinite(total):
                all_finite = False
            elif total > 0:
                norm = sqrt(total)
                for i in range(dim):
                    vectors[row, i] = <float>(vectors[row, i] / norm)
    return all_finite
