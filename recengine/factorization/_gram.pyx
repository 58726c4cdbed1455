# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The Gram matrix of some rows, where Numba is not at hand: when rows are solved online."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

import numpy as np

from recengine import _native

from recengine.factorization._system cimport (
    BLOCK,
    NativeApi,
    add_products,
    kApiCapsule,
    kTaskScratch,
)

cdef enum:
    N_RANGES = 16  # whatever the number of threads: partial sums never depend on it


cdef struct Sums:
    const NativeApi* native
    const float* rows  # (n, dim)
    Py_ssize_t n
    Py_ssize_t dim
    double* parts  # (N_RANGES, dim, dim)
    char lacks_memory[N_RANGES]


cdef void add_range(void* context, int64_t part) noexcept nogil:
    cdef Sums* sums = <Sums*>context
    cdef Py_ssize_t dim = sums.dim, held = 0, row, j
    cdef Py_ssize_t n_blocks = (sums.n + BLOCK - 1) // BLOCK
    cdef Py_ssize_t start = min(n_blocks * part // N_RANGES * BLOCK, sums.n)
    cdef Py_ssize_t end = min(n_blocks * (part + 1) // N_RANGES * BLOCK, sums.n)
    cdef double* weights
    cdef double* line
    cdef double* block
    sums.native.begin_scratch(kTaskScratch)
    block = <double*>sums.native.take_scratch(
        kTaskScratch, ((BLOCK + 1) * dim + BLOCK) * sizeof(double))
    sums.lacks_memory[part] = block == NULL
    if block == NULL:
        return
    line = block + BLOCK * dim
    weights = line + dim
    for row in range(start, end):
        weights[held] = 1
        for j in range(dim):
            block[held * dim + j] = sums.rows[row * dim + j]
        held += 1
        if held == BLOCK or row + 1 == end:
            add_products(block, weights, held, dim, line, sums.parts + part * dim * dim)
            held = 0
    sums.native.begin_scratch(kTaskScratch)


def gram(const float[:, ::1] rows, int num_threads):
    """Return rowsᵀ rows in float64, (dim, dim); the same bits at any `num_threads`."""
    cdef Py_ssize_t dim = rows.shape[1], part
    cdef Sums sums
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
    parts = np.zeros((N_RANGES, dim, dim))
    if rows.shape[0] == 0 or dim == 0:
        return parts[0]
    cdef double[:, :, ::1] view = parts
    sums.native = <const NativeApi*>PyCapsule_GetPointer(_native.api(), kApiCapsule)
    sums.rows, sums.n, sums.dim, sums.parts = &rows[0, 0], rows.shape[0], dim, &view[0, 0, 0]
    with nogil:
        sums.native.parallel_for(N_RANGES, num_threads, add_range, &sums)
    for part in range(N_RANGES):
        if sums.lacks_memory[part]:
            raise MemoryError("no memory for a Gram matrix")
    total = parts[0]
    for part in range(1, N_RANGES):
        total = total + parts[part]
    return np.triu(total) + np.triu(total, 1).T
