# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A system and its Cholesky factor after one more event, in O(dim²).

References
----------
Gill, Golub, Murray, Saunders: Methods for modifying matrix factorizations, 1974, section 3.
Golub, Van Loan: Matrix Computations, 2013, section 6.5.4.
"""

from libc.math cimport INFINITY, fabs, sqrt

import numpy as np

from recengine.factorization._system cimport factorize, substitute

cdef enum:
    SAFE = 1000  # a pivot that falls to less than a SAFE-th loses digits


cdef bint changed(double* factor, double* row, double sign, Py_ssize_t dim) noexcept nogil:
    """Make U of UᵀU that of UᵀU ± row rowᵀ, `row` being used up; False where that is unsafe."""
    cdef Py_ssize_t i, j
    cdef double pivot, old, turn, scale, inverse, signed_turn
    cdef double* line
    for i in range(dim):
        line = factor + i * dim
        old = line[i]
        pivot = old * old + sign * row[i] * row[i]
        if not old * old < SAFE * pivot < INFINITY:
            return False
        pivot = sqrt(pivot)
        turn, scale, inverse = row[i] / old, pivot / old, old / pivot
        signed_turn = sign * turn
        line[i] = pivot
        for j in range(i + 1, dim):
            line[j] = (line[j] + signed_turn * row[j]) * inverse
            row[j] = scale * row[j] - turn * line[j]
    return True


def with_rows(system, rhs, const float[:, ::1] rows, const double[::1] weights,
              const double[::1] confidences):
    """Return (system + rowsᵀ diag(weights) rows, rhs + rowsᵀ confidences): new arrays."""
    after, right = system.copy(), rhs.copy()
    cdef double[:, ::1] a = after
    cdef double[::1] b = right
    cdef Py_ssize_t dim = b.shape[0], n = rows.shape[0], row, i, j
    cdef double[::1] wide = np.empty(dim)
    cdef double scaled
    if a.shape[0] != dim or a.shape[1] != dim or rows.shape[1] != dim:
        raise ValueError("system, rhs and rows must agree in shape")
    if weights.shape[0] != n or confidences.shape[0] != n:
        raise ValueError("rows, weights and confidences must agree in shape")
    for row in range(n):
        for i in range(dim):
            wide[i] = rows[row, i]
            b[i] += confidences[row] * wide[i]
        for i in range(dim):
            scaled = weights[row] * wide[i]
            for j in range(i, dim):
                a[i, j] += scaled * wide[j]
    return after, right


def factor_of(system, double ridge):
    """Return the upper Cholesky factor of system + ridge I; None where there is none. O(dim³)."""
    factor = system.copy()
    cdef double[:, ::1] view = factor
    cdef Py_ssize_t dim = view.shape[0], i
    cdef bint is_definite = True
    if view.shape[1] != dim:
        raise ValueError("system must be square")
    for i in range(dim):
        view[i, i] += ridge
    if dim:
        with nogil:
            is_definite = factorize(&view[0, 0], dim)
    return factor if is_definite else None


def factor_with_row(factor, const float[::1] row, double weight):
    """Return the factor of a system to which weight row rowᵀ was added; None where unsafe."""
    after, used = factor.copy(), np.empty(row.shape[0])
    cdef double[:, ::1] view = after
    cdef double[::1] scaled = used
    cdef Py_ssize_t dim = row.shape[0], i
    cdef double root = sqrt(fabs(weight))
    cdef bint is_safe = True
    if view.shape[0] != dim or view.shape[1] != dim:
        raise ValueError("factor and row must agree in shape")
    for i in range(dim):
        scaled[i] = root * row[i]
    if dim:
        with nogil:
            is_safe = changed(&view[0, 0], &scaled[0], -1 if weight < 0 else 1, dim)
    return after if is_safe else None


def solution(const double[:, ::1] factor, rhs):
    """Return the float32 solution of UᵀU x = rhs, or None where it is not finite."""
    solved = rhs.copy()
    cdef double[::1] x = solved
    cdef Py_ssize_t dim = x.shape[0], i
    cdef bint is_finite = True
    if factor.shape[0] != dim or factor.shape[1] != dim:
        raise ValueError("factor and rhs must agree in shape")
    result = np.empty(dim, np.float32)
    cdef float[::1] out = result
    if dim:
        substitute(&factor[0, 0], &x[0], dim)
    for i in range(dim):
        out[i] = <float>x[i]
        is_finite = is_finite and fabs(out[i]) < INFINITY
    return result if is_finite else None
