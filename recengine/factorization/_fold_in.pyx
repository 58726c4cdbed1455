# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Rows of one side against the fixed factors of the other: one user on the request path, or many.

No BLAS, no Numba, and no memory but the result: what a row needs is scratch of its thread. A row's
own factors are turned into the basis in which the Gram matrix of all is diagonal, and the kernels
of training solve its system there. One row and many are the same arithmetic, so a batch has the
bits of its single rows.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, fabs, pow
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset
from libcpp cimport bool as cbool
from libcpp.algorithm cimport sort

import numpy as np

from recengine import _native

from recengine.factorization._system cimport (
    AlsHalf,
    AlsSolver,
    kApiCapsule,
    kCallScratch,
    kFactorPanel,
    kTaskScratch,
    NativeApi,
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
    const float* fixed  # (n_fixed, width)
    Py_ssize_t n_fixed
    double regularization
    double unobserved_weight
    double exponent
    const int64_t* indptr
    const int64_t* indices
    const float* confidences
    const float* priors  # (n_rows, width), or NULL for 0
    float* solved  # (n_rows, width)
    char* status  # (n_rows,)
    AlsHalf half  # what all rows share


cdef const NativeApi* native_api() except NULL:
    global native
    if native == NULL:
        native = <const NativeApi*>PyCapsule_GetPointer(_native.api(), kApiCapsule)
    return native


cdef void solve_row(void* context, int64_t row) noexcept nogil:
    cdef Batch* batch = <Batch*>context
    cdef Py_ssize_t width = batch.half.width, j
    cdef float* out = batch.solved + row * width
    cdef const float* prior = NULL
    if batch.priors != NULL:
        prior = batch.priors + row * width
    if batch.indptr[row] == batch.indptr[row + 1]:
        for j in range(width):
            out[j] = 0 if prior == NULL else prior[j]
        batch.status[row] = SOLVED
        return
    native.begin_scratch(kTaskScratch)
    batch.status[row] = solve(batch, row, prior, out)
    native.begin_scratch(kTaskScratch)


cdef Status solve(const Batch* batch, int64_t row, const float* prior, float* out) noexcept nogil:
    cdef AlsHalf half = batch.half
    cdef int64_t start = batch.indptr[row], n = batch.indptr[row + 1] - start, entry
    cdef int64_t[2] bounds
    cdef double ridge
    cdef float* own = <float*>native.take_scratch(kTaskScratch, n * half.width * sizeof(float))
    cdef float* turned = <float*>native.take_scratch(kTaskScratch, n * half.dim * sizeof(float))
    cdef int32_t* places = <int32_t*>native.take_scratch(kTaskScratch, n * sizeof(int32_t))
    cdef float* room = <float*>native.take_scratch(
        kTaskScratch, native.als_scratch_floats(half.dim, n) * sizeof(float))
    if own == NULL or turned == NULL or places == NULL or room == NULL:
        return NO_MEMORY
    for entry in range(n):
        memcpy(own + entry * half.width, batch.fixed + batch.indices[start + entry] * half.width,
               half.width * sizeof(float))
        places[entry] = <int32_t>entry
    native.als.rotate_rows(own, n, half.width, half.into_basis, half.dim, turned)
    bounds[0], bounds[1] = 0, n
    ridge = batch.regularization * pow(
        <double>n + batch.unobserved_weight * <double>batch.n_fixed, batch.exponent)
    half.indptr, half.indices, half.confidences = bounds, places, batch.confidences + start
    half.fixed, half.ridges, half.prior, half.solved = turned, &ridge, prior, out
    return SOLVED if native.als.solve_rows(half, 0, 1, room) < 0 else SINGULAR


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
        if total != 0:
            items[kept] = item
            confidences[kept] = alpha * total
            kept += 1
    return kept


cdef class FixedSide:
    """What rows are solved against: the factors of one side, and what all systems share.

    Parameters
    ----------
    factors : (n_fixed, width), float32
    spectrum : (dim,), float64
        Of the unobserved weight times the Gram matrix of `factors`, padded (see `Basis`).
    into, out_of : (dim / 16, width, 16) and (dim / 16, dim, 16), float32
        Panels of the rotation into its basis, and out of it.
    alpha, shift, regularization, unobserved_weight, exponent : float
        As of `Objective`.
    """

    cdef object arguments  # which own the memory that `batch` points to
    cdef float alpha
    cdef Batch batch

    def __init__(self, *arguments):
        cdef const float[:, ::1] factors
        cdef const double[::1] spectrum
        cdef const float[:, :, ::1] into
        cdef const float[:, :, ::1] out_of
        cdef double alpha, shift, regularization, unobserved_weight, exponent
        factors, spectrum, into, out_of = arguments[:4]
        alpha, shift, regularization, unobserved_weight, exponent = arguments[4:]
        cdef Py_ssize_t width = factors.shape[1], dim = spectrum.shape[0]
        native_api()
        if not 0 < width <= dim or dim % kFactorPanel:
            raise ValueError(f"spectrum must have {width} entries, up to a multiple of 16")
        if (
            into.shape[0] * kFactorPanel != dim or into.shape[1] != width
            or into.shape[2] != kFactorPanel or out_of.shape[0] * kFactorPanel != dim
            or out_of.shape[1] != dim or out_of.shape[2] != kFactorPanel
        ):
            raise ValueError("into and out_of must be panels of the rotation")
        self.arguments, self.alpha = arguments, alpha
        memset(&self.batch, 0, sizeof(Batch))
        if factors.shape[0]:
            self.batch.fixed = &factors[0, 0]
        self.batch.n_fixed = factors.shape[0]
        self.batch.regularization, self.batch.exponent = regularization, exponent
        self.batch.unobserved_weight = unobserved_weight
        self.batch.half.shift = <float>shift
        self.batch.half.dim, self.batch.half.width = dim, width
        self.batch.half.spectrum = &spectrum[0]
        self.batch.half.into_basis = &into[0, 0, 0]
        self.batch.half.out_of_basis = &out_of[0, 0, 0]
        self.batch.half.solver = AlsSolver.kCholesky
        self.batch.half.block = kFactorPanel

    def __reduce__(self):
        return FixedSide, self.arguments

    def fold_in(self, const int64_t[::1] indices, const float[::1] weights,
                const float[::1] prior=None):
        """Return the (width,) float32 solution of one row, or None where the system has none.

        Parameters
        ----------
        indices : (n,), int64
            Rows of the factors, in any order; may repeat.
        weights : (n,), float32, or None for ones
        prior : (width,), float32, or None for 0
        """
        cdef const NativeApi* api = native_api()
        cdef Py_ssize_t n = indices.shape[0], width = self.batch.half.width, i
        cdef Batch batch = self.batch
        cdef int64_t[2] indptr
        cdef char status = SOLVED
        cdef Event* events
        cdef int64_t* items
        cdef float* confidences
        if weights is not None and weights.shape[0] != n:
            raise ValueError("indices and weights must agree in shape")
        if prior is not None and prior.shape[0] != width:
            raise ValueError(f"prior must have shape ({width},)")
        result = np.empty(width, np.float32)
        cdef float[::1] out = result
        api.begin_scratch(kCallScratch)
        events = <Event*>api.take_scratch(kCallScratch, n * sizeof(Event))
        items = <int64_t*>api.take_scratch(kCallScratch, n * sizeof(int64_t))
        confidences = <float*>api.take_scratch(kCallScratch, n * sizeof(float))
        if events == NULL or items == NULL or confidences == NULL:
            raise MemoryError("no memory for one user's events")
        for i in range(n):
            if not 0 <= indices[i] < batch.n_fixed:
                raise ValueError(f"indices must lie in [0, {batch.n_fixed}), got {indices[i]}")
            events[i].item = indices[i]
            events[i].place = i
            events[i].weight = 1 if weights is None else weights[i]
            if not fabs(events[i].weight) < INFINITY:
                raise ValueError(f"weights must hold finite weights, got {events[i].weight:g}")
        n = merge(events, n, self.alpha, items, confidences)
        for i in range(n):
            if not fabs(confidences[i]) < INFINITY:
                raise ValueError(
                    f"alpha times the largest weight must fit float32, got alpha {self.alpha:g}")
        indptr[0], indptr[1] = 0, n
        batch.indptr, batch.indices, batch.confidences = indptr, items, confidences
        if prior is not None:
            batch.priors = &prior[0]
        batch.solved, batch.status = &out[0], &status
        with nogil:  # through the pool for its floating-point mode, on the calling thread alone
            api.parallel_for(1, 1, solve_row, &batch)
            api.begin_scratch(kCallScratch)  # what an exceptional history took goes back
        if status == NO_MEMORY:
            raise MemoryError("no memory for one user's system")
        return result if status == SOLVED else None

    def solve_rows(self, const int64_t[::1] indptr, const int32_t[::1] indices,
                   const float[::1] confidences, int num_threads,
                   const float[:, ::1] priors=None):
        """Return ((n_rows, width) float32 solutions, the first row that has none or −1).

        Rows are those of a CSR matrix over the factors: distinct ascending indices, confidences
        that are not 0. The same bits at any `num_threads`.
        """
        cdef const NativeApi* api = native_api()
        cdef Py_ssize_t n_rows = indptr.shape[0] - 1, width = self.batch.half.width, i
        cdef Batch batch = self.batch
        if indices.shape[0] != confidences.shape[0]:
            raise ValueError("indices and confidences must agree in shape")
        if n_rows < 0 or indptr[0] != 0 or indptr[n_rows] != indices.shape[0]:
            raise ValueError(f"indptr must rise from 0 to {indices.shape[0]}")
        for i in range(n_rows):
            if indptr[i] > indptr[i + 1]:
                raise ValueError(f"indptr must rise from 0 to {indices.shape[0]}")
        for i in range(indices.shape[0]):
            if not 0 <= indices[i] < batch.n_fixed:
                raise ValueError(f"indices must lie in [0, {batch.n_fixed}), got {indices[i]}")
        if priors is not None and (priors.shape[0] != n_rows or priors.shape[1] != width):
            raise ValueError(f"priors must have shape ({n_rows}, {width})")
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {num_threads}")
        result = np.zeros((n_rows, width), np.float32)
        status = np.zeros(n_rows, np.int8)
        if n_rows == 0:
            return result, -1
        cdef int64_t[::1] wide = np.asarray(indices, dtype=np.int64)
        cdef float[:, ::1] out = result
        cdef signed char[::1] states = status
        batch.indptr = &indptr[0]
        if wide.shape[0]:
            batch.indices, batch.confidences = &wide[0], &confidences[0]
        if priors is not None:
            batch.priors = &priors[0, 0]
        batch.solved, batch.status = &out[0, 0], <char*>&states[0]
        with nogil:
            api.parallel_for(n_rows, num_threads, solve_row, &batch)
        if (status == NO_MEMORY).any():
            raise MemoryError("no memory for the system of a row")
        failed = np.flatnonzero(status)
        return result, int(failed[0]) if len(failed) else -1
