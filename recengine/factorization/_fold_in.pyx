# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Rows of one side against the fixed factors of the other: one user on the request path, or many.

No BLAS, no Numba, and no memory but the result: what a row needs is scratch of its thread. One row
and many are the same arithmetic, so a batch has the bits of its single rows.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, fabs, pow
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.algorithm cimport sort

import numpy as np

from recengine import _native

from recengine.factorization._system cimport (
    BLOCK,
    NativeApi,
    add_products,
    factorize,
    kApiCapsule,
    kCallScratch,
    kTaskScratch,
    substitute,
)

cdef const NativeApi* native = NULL

cdef enum Status:
    SOLVED = 0
    SINGULAR = 1
    NO_MEMORY = 2


cdef struct Event:
    int64_t item
    int64_t place  # among the caller's events: sums of a repeated item keep their order
    float weight


cdef struct Batch:
    const double* base  # (dim, dim), what every system starts from
    const float* fixed  # (n_fixed, dim)
    Py_ssize_t dim
    Py_ssize_t n_fixed
    const int64_t* indptr
    const int64_t* indices
    const float* confidences
    float shift
    double regularization
    double unobserved_weight
    double exponent
    float* solved  # (n_rows, dim)
    char* status  # (n_rows,)


cdef const NativeApi* native_api() except NULL:
    global native
    if native == NULL:
        native = <const NativeApi*>PyCapsule_GetPointer(_native.api(), kApiCapsule)
    return native


cdef void solve_row(void* context, int64_t row) noexcept nogil:
    cdef Batch* batch = <Batch*>context
    cdef Py_ssize_t dim = batch.dim
    cdef size_t n_doubles = dim * dim + dim, n_floats = (BLOCK + 1) * dim + BLOCK
    cdef double* system
    cdef float* out = batch.solved + row * dim
    cdef Py_ssize_t j
    if batch.indptr[row] == batch.indptr[row + 1]:
        for j in range(dim):
            out[j] = 0
        batch.status[row] = SOLVED
        return
    native.begin_scratch(kTaskScratch)
    system = <double*>native.take_scratch(
        kTaskScratch, n_doubles * sizeof(double) + n_floats * sizeof(float))
    if system == NULL:
        batch.status[row] = NO_MEMORY
    else:
        batch.status[row] = SOLVED if solve(batch, row, system, out) else SINGULAR
    native.begin_scratch(kTaskScratch)


cdef bint solve(const Batch* batch, int64_t row, double* system, float* out) noexcept nogil:
    cdef Py_ssize_t dim = batch.dim, i, j, held = 0
    cdef double* rhs = system + dim * dim
    cdef float* block = <float*>(rhs + dim)
    cdef float* line = block + BLOCK * dim
    cdef float* weights = line + dim
    cdef int64_t entry, end = batch.indptr[row + 1]
    cdef double n = end - batch.indptr[row], ridge, confidence
    cdef const float* source
    cdef float* copy
    ridge = batch.regularization * pow(
        n + batch.unobserved_weight * batch.n_fixed, batch.exponent)
    for i in range(dim):
        rhs[i] = 0
        for j in range(i, dim):
            system[i * dim + j] = batch.base[i * dim + j]
        system[i * dim + i] += ridge
    for entry in range(batch.indptr[row], end):
        source = batch.fixed + batch.indices[entry] * dim
        copy = block + held * dim
        confidence = batch.confidences[entry]
        weights[held] = batch.confidences[entry] - batch.shift
        for j in range(dim):
            copy[j] = source[j]
            rhs[j] += confidence * source[j]
        held += 1
        if held == BLOCK or entry + 1 == end:
            add_products(block, weights, held, dim, line, system)
            held = 0
    if not factorize(system, dim):
        return False
    substitute(system, rhs, dim)
    for j in range(dim):
        out[j] = <float>rhs[j]
        if not fabs(out[j]) < INFINITY:
            return False
    return True


cdef cbool comes_before(const Event& a, const Event& b) noexcept nogil:
    return a.item < b.item or (a.item == b.item and a.place < b.place)


cdef Py_ssize_t merge(Event* events, Py_ssize_t n, float alpha, int64_t* items,
                      float* confidences) noexcept nogil:
    """Write distinct ascending items and alpha times their summed weights; return how many."""
    cdef Py_ssize_t i = 0, kept = 0
    cdef int64_t item
    cdef float total
    cdef bint ascending = True
    for i in range(1, n):
        if events[i].item <= events[i - 1].item:
            ascending = False
            break
    if not ascending:
        sort(events, events + n, &comes_before)
    i = 0
    while i < n:
        item = events[i].item
        total = 0
        while i < n and events[i].item == item:
            total += events[i].weight
            i += 1
        if total > 0:
            items[kept] = item
            confidences[kept] = alpha * total
            kept += 1
    return kept


def fold_in(
    const double[:, ::1] base, const float[:, ::1] fixed, const int64_t[::1] indices,
    const float[::1] weights, double alpha, double shift, double regularization,
    double unobserved_weight, double exponent,
):
    """Return the (dim,) float32 solution of one row, or None where the system has none.

    Parameters
    ----------
    base : (dim, dim), float64
        The unobserved weight times the Gram matrix of `fixed`.
    fixed : (n_fixed, dim), float32
    indices : (n,), int64
        Rows of `fixed`, in any order; may repeat.
    weights : (n,), float32, or None for ones
    """
    cdef const NativeApi* api = native_api()
    cdef Py_ssize_t n = indices.shape[0], dim = fixed.shape[1], i
    cdef Batch batch
    cdef int64_t indptr[2]
    cdef char status = SOLVED
    cdef Event* events
    cdef int64_t* items
    cdef float* confidences
    check_shapes(base, fixed, n, n if weights is None else weights.shape[0])
    result = np.empty(dim, np.float32)
    cdef float[::1] out = result
    api.begin_scratch(kCallScratch)
    events = <Event*>api.take_scratch(kCallScratch, n * sizeof(Event))
    items = <int64_t*>api.take_scratch(kCallScratch, n * sizeof(int64_t))
    confidences = <float*>api.take_scratch(kCallScratch, n * sizeof(float))
    if events == NULL or items == NULL or confidences == NULL:
        raise MemoryError("no memory for one user's events")
    for i in range(n):
        if not 0 <= indices[i] < fixed.shape[0]:
            raise ValueError(f"indices must lie in [0, {fixed.shape[0]}), got {indices[i]}")
        events[i].item = indices[i]
        events[i].place = i
        events[i].weight = 1 if weights is None else weights[i]
        if not events[i].weight >= 0 or events[i].weight == INFINITY:
            rule = "weights >= 0" if events[i].weight < 0 > -INFINITY else "finite weights"
            raise ValueError(f"weights must hold {rule}, got {events[i].weight:g}")
    n = merge(events, n, <float>alpha, items, confidences)
    for i in range(n):
        if confidences[i] == INFINITY:
            raise ValueError(
                f"alpha times the largest weight must fit float32, got alpha {alpha:g}")
    describe(&batch, base, fixed, shift, regularization, unobserved_weight, exponent)
    indptr[0], indptr[1] = 0, n
    batch.indptr, batch.indices, batch.confidences = indptr, items, confidences
    if dim:
        batch.solved, batch.status = &out[0], &status
        with nogil:  # through the pool for its floating-point mode, on the calling thread alone
            api.parallel_for(1, 1, solve_row, &batch)
            api.begin_scratch(kCallScratch)  # what an exceptional history took goes back
    if status == NO_MEMORY:
        raise MemoryError("no memory for one user's system")
    return result if status == SOLVED else None


def solve_rows(
    const double[:, ::1] base, const float[:, ::1] fixed, const int64_t[::1] indptr,
    const int64_t[::1] indices, const float[::1] confidences, double shift,
    double regularization, double unobserved_weight, double exponent, int num_threads,
):
    """Return ((n_rows, dim) float32 solutions, the first row that has none or −1).

    Rows are those of a CSR matrix over `fixed`: distinct indices, positive confidences. The same
    bits at any `num_threads`.
    """
    cdef const NativeApi* api = native_api()
    cdef Py_ssize_t n_rows = indptr.shape[0] - 1, dim = fixed.shape[1], i
    cdef Batch batch
    check_shapes(base, fixed, indices.shape[0], confidences.shape[0])
    if n_rows < 0 or indptr[0] != 0 or indptr[n_rows] != indices.shape[0]:
        raise ValueError(f"indptr must rise from 0 to {indices.shape[0]}")
    for i in range(n_rows):
        if indptr[i] > indptr[i + 1]:
            raise ValueError(f"indptr must rise from 0 to {indices.shape[0]}")
    for i in range(indices.shape[0]):
        if not 0 <= indices[i] < fixed.shape[0]:
            raise ValueError(f"indices must lie in [0, {fixed.shape[0]}), got {indices[i]}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
    result = np.zeros((n_rows, dim), np.float32)
    status = np.zeros(n_rows, np.int8)
    if result.size == 0 or indices.shape[0] == 0:
        return result, -1
    cdef float[:, ::1] out = result
    cdef signed char[::1] states = status
    describe(&batch, base, fixed, shift, regularization, unobserved_weight, exponent)
    batch.indptr, batch.indices, batch.confidences = &indptr[0], &indices[0], &confidences[0]
    batch.solved, batch.status = &out[0, 0], <char*>&states[0]
    with nogil:
        api.parallel_for(n_rows, num_threads, solve_row, &batch)
    if (status == NO_MEMORY).any():
        raise MemoryError("no memory for the system of a row")
    failed = np.flatnonzero(status)
    return result, int(failed[0]) if len(failed) else -1


cdef int check_shapes(const double[:, ::1] base, const float[:, ::1] fixed, Py_ssize_t n_indices,
                      Py_ssize_t n_weights) except -1:
    cdef Py_ssize_t dim = fixed.shape[1]
    if base.shape[0] != dim or base.shape[1] != dim or n_indices != n_weights:
        raise ValueError("base, fixed, indices and weights must agree in shape")
    return 0


cdef void describe(Batch* batch, const double[:, ::1] base, const float[:, ::1] fixed,
                   double shift, double regularization, double unobserved_weight,
                   double exponent) noexcept:
    batch.dim, batch.n_fixed = fixed.shape[1], fixed.shape[0]
    batch.base = &base[0, 0] if batch.dim else NULL
    batch.fixed = &fixed[0, 0] if batch.dim and batch.n_fixed else NULL
    batch.shift, batch.regularization = <float>shift, regularization
    batch.unobserved_weight, batch.exponent = unobserved_weight, exponent
