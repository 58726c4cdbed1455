# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One user's system against fixed item factors, on the request path.

The same operations in the same order as `_als_kernels.solve_rows`, without BLAS, Numba or the
GIL: products in float32 over at most 64 rows, longer sums and the factorization in float64.
"""

from libc.math cimport INFINITY, fabs, pow, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import numpy as np

cdef enum:
    BLOCK = 64


cdef struct Workspace:
    double *system   # (dim, dim), upper triangle
    double *rhs      # (dim,)
    float *block     # (BLOCK, dim)
    float *line      # (dim,)
    float *weights   # (BLOCK,)


cdef void add_products(const Workspace *work, Py_ssize_t held, Py_ssize_t dim) noexcept nogil:
    cdef float *line = work.line
    cdef float *weights = work.weights
    cdef float *rows
    cdef double *target
    cdef float a0, a1, a2, a3
    cdef Py_ssize_t i, j, row
    while held % 4:
        weights[held] = 0
        memset(work.block + held * dim, 0, dim * sizeof(float))
        held += 1
    for i in range(dim):
        memset(line, 0, dim * sizeof(float))
        for row in range(0, held, 4):
            rows = work.block + row * dim
            a0 = weights[row] * rows[i]
            a1 = weights[row + 1] * rows[dim + i]
            a2 = weights[row + 2] * rows[2 * dim + i]
            a3 = weights[row + 3] * rows[3 * dim + i]
            for j in range(i, dim):
                line[j] += (
                    a0 * rows[j]
                    + a1 * rows[dim + j]
                    + a2 * rows[2 * dim + j]
                    + a3 * rows[3 * dim + j]
                )
        target = work.system + i * dim
        for j in range(i, dim):
            target[j] += line[j]


cdef bint factorize(double *system, Py_ssize_t dim) noexcept nogil:
    """Upper Cholesky factor in place; False where the matrix is not positive definite."""
    cdef Py_ssize_t i, j, row, whole
    cdef double a0, a1, a2, a3, diagonal, pivot, inverse
    cdef double *target
    cdef double *rows
    for i in range(dim):
        target = system + i * dim
        diagonal = target[i]
        whole = i - i % 4
        for row in range(0, whole, 4):
            rows = system + row * dim
            a0 = rows[i]
            a1 = rows[dim + i]
            a2 = rows[2 * dim + i]
            a3 = rows[3 * dim + i]
            for j in range(i, dim):
                target[j] -= (
                    a0 * rows[j]
                    + a1 * rows[dim + j]
                    + a2 * rows[2 * dim + j]
                    + a3 * rows[3 * dim + j]
                )
        for row in range(whole, i):
            rows = system + row * dim
            a0 = rows[i]
            for j in range(i, dim):
                target[j] -= a0 * rows[j]
        pivot = target[i]
        if not pivot > dim * 2.3e-16 * diagonal:
            return False
        inverse = 1.0 / sqrt(pivot)
        for j in range(i, dim):
            target[j] *= inverse
    return True


cdef void substitute(const double *system, double *rhs, Py_ssize_t dim) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef double value
    for i in range(dim):
        rhs[i] /= system[i * dim + i]
        value = rhs[i]
        for j in range(i + 1, dim):
            rhs[j] -= value * system[i * dim + j]
    for i in range(dim - 1, -1, -1):
        rhs[i] /= system[i * dim + i]
        value = rhs[i]
        for j in range(i):
            rhs[j] -= value * system[j * dim + i]


cdef bint solve(
    const double *base, const float *factors, const long long *indices, const float *confidences,
    Py_ssize_t n, Py_ssize_t dim, float shift, double ridge, float *solved, Workspace *work,
) noexcept nogil:
    cdef Py_ssize_t i, j, entry, held = 0
    cdef double confidence
    cdef const float *source
    cdef float *row
    for i in range(dim):
        work.rhs[i] = 0
        for j in range(i, dim):
            work.system[i * dim + j] = base[i * dim + j]
        work.system[i * dim + i] += ridge
    for entry in range(n):
        source = factors + indices[entry] * dim
        row = work.block + held * dim
        confidence = confidences[entry]
        work.weights[held] = confidences[entry] - shift
        for j in range(dim):
            row[j] = source[j]
            work.rhs[j] += confidence * source[j]
        held += 1
        if held == BLOCK:
            add_products(work, held, dim)
            held = 0
    if held:
        add_products(work, held, dim)
    if not factorize(work.system, dim):
        return False
    substitute(work.system, work.rhs, dim)
    for j in range(dim):
        solved[j] = <float>work.rhs[j]
        if not fabs(solved[j]) < INFINITY:
            return False
    return True


def solve_user(
    const double[:, ::1] base, const float[:, ::1] factors, const long long[::1] indices,
    const float[::1] confidences, double shift, double regularization,
    double unobserved_weight, double exponent,
):
    """Return the (dim,) float32 solution, or None where the system cannot be solved.

    `base` is the unobserved weight times the Gram matrix of `factors`; `indices` are strictly
    ascending row numbers of `factors`, `confidences` their positive float32 confidences.
    """
    cdef Py_ssize_t n = indices.shape[0], dim = factors.shape[1], n_items = factors.shape[0]
    cdef Py_ssize_t entry
    cdef double ridge
    cdef bint solved
    cdef Workspace work
    if base.shape[0] != dim or base.shape[1] != dim or confidences.shape[0] != n:
        raise ValueError("base, factors, indices and confidences must agree in shape")
    for entry in range(n):
        if not 0 <= indices[entry] < n_items or (entry and indices[entry - 1] >= indices[entry]):
            raise ValueError(f"indices must ascend within [0, {n_items}), got {indices[entry]}")
    result = np.zeros(dim, np.float32)
    if n == 0 or dim == 0:
        return result
    cdef float[::1] out = result
    cdef char *memory = <char *>malloc(
        (dim * dim + dim) * sizeof(double) + ((BLOCK + 1) * dim + BLOCK) * sizeof(float)
    )
    if memory == NULL:
        raise MemoryError("no memory for one user's system")
    with nogil:
        work.system = <double *>memory
        work.rhs = work.system + dim * dim
        work.block = <float *>(work.rhs + dim)
        work.line = work.block + BLOCK * dim
        work.weights = work.line + dim
        ridge = regularization * pow(n + unobserved_weight * n_items, exponent)
        solved = solve(
            &base[0, 0], &factors[0, 0], &indices[0], &confidences[0], n, dim,
            <float>shift, ridge, &out[0], &work,
        )
        free(memory)
    return result if solved else None
