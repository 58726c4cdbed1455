# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One user against fixed item factors, on the request path: of BPR, and of rated items.

Without BLAS, Numba or the GIL, in float64. The last column of the factors is the item's bias.
"""

from libc.math cimport exp, fabs
from libc.stdlib cimport calloc, free
from libc.stdint cimport uint64_t

import numpy as np


cdef inline uint64_t draw(uint64_t counter) noexcept nogil:
    """SplitMix64 of a key of 0, as in `_bpr_kernels`."""
    cdef uint64_t bits = counter * <uint64_t>0x9E3779B97F4A7C15
    bits = (bits ^ (bits >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    bits = (bits ^ (bits >> 27)) * <uint64_t>0x94D049BB133111EB
    return bits ^ (bits >> 31)


cdef inline Py_ssize_t free_item(
    const long long *taken, Py_ssize_t n, Py_ssize_t rank
) noexcept nogil:
    """The item with `rank` smaller ones that are not among the `n` ascending `taken`."""
    cdef Py_ssize_t low = 0, high = n, middle
    while low < high:
        middle = (low + high) >> 1
        if taken[middle] - middle <= rank:
            low = middle + 1
        else:
            high = middle
    return rank + low


cdef inline double gap(
    const double *x, const float *a, const float *b, Py_ssize_t dim
) noexcept nogil:
    """x·(a − b), in four sums so that none waits for the one before."""
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t j, whole = dim - dim % 4
    for j in range(0, whole, 4):
        s0 += x[j] * (<double>a[j] - b[j])
        s1 += x[j + 1] * (<double>a[j + 1] - b[j + 1])
        s2 += x[j + 2] * (<double>a[j + 2] - b[j + 2])
        s3 += x[j + 3] * (<double>a[j + 3] - b[j + 3])
    for j in range(whole, dim):
        s0 += x[j] * (<double>a[j] - b[j])
    return (s0 + s1) + (s2 + s3)


cdef void climb(
    const float *factors, Py_ssize_t n_items, Py_ssize_t width, const long long *indices,
    const float *weights, Py_ssize_t n, double rate, double decay, Py_ssize_t passes,
    double *x, double *mean,
) noexcept nogil:
    """Passes of steps over the likes; `mean` gets the mean of `x` over the last half of them."""
    cdef Py_ssize_t _pass, entry, j, dim = width - 1
    cdef uint64_t step = 0, n_steps = <uint64_t>(passes * n), n_free = <uint64_t>(n_items - n)
    cdef uint64_t held = 0
    cdef double margin, push
    cdef const float *a
    cdef const float *b
    for _pass in range(passes):
        for entry in range(n):
            a = factors + indices[entry] * width
            j = free_item(indices, n, <Py_ssize_t>(((draw(step) >> 32) * n_free) >> 32))
            b = factors + j * width
            margin = a[dim] - b[dim] + gap(x, a, b, dim)
            push = rate * weights[entry] / (1.0 + exp(margin))
            for j in range(dim):
                x[j] = decay * x[j] + push * (<double>a[j] - b[j])
            step += 1
            if 2 * step > n_steps:
                held += 1
                for j in range(dim):
                    mean[j] += x[j]
    for j in range(dim):
        mean[j] /= <double>held


def fold_likes(
    const float[:, ::1] factors, const long long[::1] indices, const float[::1] weights,
    double learning_rate, double regularization, Py_ssize_t passes,
):
    """Return the (width,) float32 vector of a user who likes `indices`; 1 in the last column.

    `indices` are strictly ascending row numbers of `factors`, `weights` scale their steps.
    """
    cdef Py_ssize_t n = indices.shape[0], n_items = factors.shape[0], width = factors.shape[1]
    cdef Py_ssize_t j
    check(factors, indices, weights.shape[0])
    if passes < 1:
        raise ValueError(f"passes must be >= 1, got {passes}")
    result = np.zeros(width, np.float32)
    result[width - 1] = 1
    if n == 0 or n == n_items:
        return result
    cdef float[::1] out = result
    cdef double *memory = <double *>calloc(2 * width, sizeof(double))
    if memory == NULL:
        raise MemoryError("no memory for one user's factors")
    with nogil:
        climb(
            &factors[0, 0], n_items, width, &indices[0], &weights[0], n, learning_rate,
            1.0 - learning_rate * regularization, passes, memory, memory + width,
        )
        for j in range(width - 1):
            out[j] = <float>memory[width + j]
        free(memory)
    return result


cdef inline double product(const double *a, const double *b, Py_ssize_t n) noexcept nogil:
    """a·b, in four sums so that none waits for the one before."""
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    cdef Py_ssize_t j, whole = n - n % 4
    for j in range(0, whole, 4):
        s0 += a[j] * b[j]
        s1 += a[j + 1] * b[j + 1]
        s2 += a[j + 2] * b[j + 2]
        s3 += a[j + 3] * b[j + 3]
    for j in range(whole, n):
        s0 += a[j] * b[j]
    return (s0 + s1) + (s2 + s3)


cdef double fit_rater(
    const double *columns, const double *squares, double *errors, Py_ssize_t n, Py_ssize_t dim,
    double ridge, Py_ssize_t sweeps, double *x,
) noexcept nogil:
    """Minimise by one coordinate at a time; return the bias and fill `x`, both beginning at 0."""
    cdef Py_ssize_t _sweep, f, entry
    cdef double bias = 0, total, change, moved, size
    cdef const double *column
    for _sweep in range(sweeps):
        total = 0
        for entry in range(n):
            total += errors[entry]
        change = (total + n * bias) / (n + ridge) - bias
        bias += change
        moved, size = fabs(change), fabs(bias)
        for entry in range(n):
            errors[entry] -= change
        for f in range(dim):
            if squares[f] + ridge <= 0:
                continue
            column = columns + f * n
            change = (product(column, errors, n) + x[f] * squares[f]) / (squares[f] + ridge) - x[f]
            x[f] += change
            moved, size = max(moved, fabs(change)), max(size, fabs(x[f]))
            for entry in range(n):
                errors[entry] -= change * column[entry]
        if moved <= 1e-9 * size:
            break
    return bias


def fold_ratings(
    const float[:, ::1] factors, const long long[::1] indices, const float[::1] ratings,
    double mean, double regularization, Py_ssize_t sweeps,
):
    """Return (bias, (width,) float32 vector, 1 in the last column) of a user with these ratings.

    `indices` are strictly ascending row numbers of `factors`.
    """
    cdef Py_ssize_t n = indices.shape[0], width = factors.shape[1], dim = width - 1
    cdef Py_ssize_t f, entry
    cdef double bias
    cdef double *columns
    cdef double *squares
    cdef double *errors
    cdef double *x
    check(factors, indices, ratings.shape[0])
    result = np.zeros(width, np.float32)
    result[dim] = 1
    if n == 0:
        return 0.0, result
    cdef float[::1] out = result
    cdef double *memory = <double *>calloc(dim * n + n + 2 * dim, sizeof(double))
    if memory == NULL:
        raise MemoryError("no memory for one user's ratings")
    with nogil:
        columns, errors = memory, memory + dim * n
        squares, x = errors + n, errors + n + dim
        for entry in range(n):
            errors[entry] = ratings[entry] - mean - factors[indices[entry], dim]
            for f in range(dim):
                columns[f * n + entry] = factors[indices[entry], f]
                squares[f] += columns[f * n + entry] * columns[f * n + entry]
        bias = fit_rater(columns, squares, errors, n, dim, regularization * n, sweeps, x)
        for f in range(dim):
            out[f] = <float>x[f]
        free(memory)
    return bias, result


def check(const float[:, ::1] factors, const long long[::1] indices, Py_ssize_t n_values):
    """Refuse what would be read outside of its memory."""
    cdef Py_ssize_t n = indices.shape[0], n_items = factors.shape[0], entry
    if factors.shape[1] < 1 or n_values != n:
        raise ValueError("factors, indices and the values of indices must agree in shape")
    for entry in range(n):
        if not 0 <= indices[entry] < n_items or (entry and indices[entry - 1] >= indices[entry]):
            raise ValueError(f"indices must ascend within [0, {n_items}), got {indices[entry]}")
