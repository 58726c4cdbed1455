# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A symmetric positive definite system of one row: products in, Cholesky factor, solution.

Without BLAS, Numba or the GIL. A system is (dim, dim) float64, of
which the upper triangle counts; the inner loops run along its rows.
"""

from libc.math cimport sqrt
from libc.string cimport memset


cdef void add_products(
    real* block, real* weights, Py_ssize_t held, Py_ssize_t dim, real* line, double* system
) noexcept nogil:
    """Add blockᵀ diag(weights) block to the upper triangle of `system`.

    `block` has room for `BLOCK` rows; rows of weight 0 fill it up to a multiple of 4. Each row of
    the triangle is summed in the precision of `block` in `line`, then added.
    """
    cdef const real* rows
    cdef double* target
    cdef real a0, a1, a2, a3
    cdef Py_ssize_t i, j, row
    while held % 4:
        weights[held] = 0
        memset(block + held * dim, 0, dim * sizeof(real))
        held += 1
    for i in range(dim):
        memset(line, 0, dim * sizeof(real))
        for row in range(0, held, 4):
            rows = block + row * dim
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
        target = system + i * dim
        for j in range(i, dim):
            target[j] += line[j]


cdef bint factorize(double* system, Py_ssize_t dim) noexcept nogil:
    """Replace the upper triangle A by U with UᵀU = A; False where A is not positive definite."""
    cdef Py_ssize_t i, j, row, whole
    cdef double a0, a1, a2, a3, diagonal, pivot, inverse
    cdef double* target
    cdef const double* rows
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
        # A pivot this small is rounding: the matrix is singular in float64. NaN fails as well.
        if not pivot > dim * 2.3e-16 * diagonal:
            return False
        inverse = 1.0 / sqrt(pivot)
        for j in range(i, dim):
            target[j] *= inverse
    return True


cdef void substitute(const double* system, double* rhs, Py_ssize_t dim) noexcept nogil:
    """Solve UᵀU x = rhs in place."""
    cdef Py_ssize_t i, j
    cdef const double* row
    cdef double value, s0, s1, s2, s3
    for i in range(dim):
        row = system + i * dim
        rhs[i] /= row[i]
        value = rhs[i]
        for j in range(i + 1, dim):
            rhs[j] -= value * row[j]
    for i in range(dim - 1, -1, -1):
        row = system + i * dim
        s0 = s1 = s2 = s3 = 0
        j = i + 1
        while j + 4 <= dim:
            s0 += row[j] * rhs[j]
            s1 += row[j + 1] * rhs[j + 1]
            s2 += row[j + 2] * rhs[j + 2]
            s3 += row[j + 3] * rhs[j + 3]
            j += 4
        while j < dim:
            s0 += row[j] * rhs[j]
            j += 1
        rhs[i] = (rhs[i] - ((s0 + s1) + (s2 + s3))) / row[i]
