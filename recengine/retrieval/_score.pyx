"""Canonical scores of given pairs: no scan, no selection, just the numbers that decide.

Every function releases the GIL and checks its arguments: a wrong call raises, never crashes.
"""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, NAN, nextafterf, sqrt
from libc.stdint cimport int64_t

from recengine.retrieval._kernels cimport (
    COSINE,
    DOT,
    L2,
    Kernels,
    NativeApi,
    canonical_score,
    kApiCapsule,
)


cdef struct Pairs:
    const Kernels* kernels
    int metric
    const float* queries
    const float* items
    int64_t dim
    int64_t n_items
    const double* query_sq
    const double* item_sq
    const float* bias
    const int64_t* indptr
    const int64_t* rows
    float* out


cdef enum:
    NORM_ROWS = 4096

cdef struct Norms:
    const Kernels* kernels
    const float* vectors
    double* out
    int64_t n
    int64_t dim


cdef void norm_rows(void* context, int64_t block) noexcept nogil:
    cdef Norms* norms = <Norms*>context
    cdef int64_t i
    cdef const float* row
    for i in range(block * NORM_ROWS, min(norms.n, (block + 1) * NORM_ROWS)):
        row = norms.vectors + i * norms.dim
        norms.out[i] = norms.kernels.canonical_dot(row, row, norms.dim)


cdef const NativeApi* native_api(object capsule) except NULL:
    return <const NativeApi*>PyCapsule_GetPointer(capsule, kApiCapsule)


def _check_metric(int metric):
    if metric not in (COSINE, DOT, L2):
        raise ValueError(f"metric must be 0, 1 or 2, got {metric}")


def squared_norms(api, const float[:, ::1] vectors not None):
    """Return the canonical x.x of each row, (n,) float64."""
    cdef const NativeApi* native = native_api(api)
    cdef Norms norms
    out = np.empty(vectors.shape[0], np.float64)
    cdef double[::1] view = out
    if out.size == 0 or vectors.shape[1] == 0:
        out[:] = 0.0
        return out
    norms.kernels = native.kernels
    norms.vectors, norms.out = &vectors[0, 0], &view[0]
    norms.n, norms.dim = vectors.shape[0], vectors.shape[1]
    with nogil:
        # Through the pool for its floating-point mode, on the calling thread alone.
        native.parallel_for((norms.n + NORM_ROWS - 1) // NORM_ROWS, 1, norm_rows, &norms)
    return out


def reach(int metric, const double[::1] sq_norms not None):
    """Return what the float32 scan needs to know of each item, (n,) float32.

    dot: the norm, rounded up. cosine: 1 / norm, 0 for a zero vector, NaN (always re-scored) where
    the norm lies outside [2^-100, 2^100] and float32 could not carry the quotient. l2: zeros.
    """
    cdef int64_t n = sq_norms.shape[0], i
    cdef double norm
    _check_metric(metric)
    out = np.zeros(n, np.float32)
    if metric == L2:
        return out
    cdef float[::1] view = out
    with nogil:
        for i in range(n):
            norm = sqrt(sq_norms[i])
            if metric == DOT:
                view[i] = <float>(norm * (1.0 + 2.0 ** -22)) if norm < 3e38 else <float>INFINITY
                if norm > 0.0:
                    view[i] = nextafterf(view[i], <float>INFINITY)
            elif norm == 0.0:
                view[i] = 0.0
            elif 2.0 ** -100 <= norm <= 2.0 ** 100:
                view[i] = <float>(1.0 / norm)
            else:
                view[i] = <float>NAN
    return out


cdef void score_query(void* context, int64_t q) noexcept nogil:
    cdef Pairs* pairs = <Pairs*>context
    cdef int64_t i, row
    for i in range(pairs.indptr[q], pairs.indptr[q + 1]):
        row = pairs.rows[i]
        pairs.out[i] = canonical_score(
            pairs.kernels, pairs.metric, pairs.queries + q * pairs.dim,
            pairs.items + row * pairs.dim, pairs.dim, pairs.query_sq[q], pairs.item_sq[row],
            pairs.bias[row] if pairs.bias else 0.0)


cdef void score_row(void* context, int64_t q) noexcept nogil:
    cdef Pairs* pairs = <Pairs*>context
    cdef int64_t i
    for i in range(pairs.n_items):
        pairs.out[q * pairs.n_items + i] = canonical_score(
            pairs.kernels, pairs.metric, pairs.queries + q * pairs.dim,
            pairs.items + i * pairs.dim, pairs.dim, pairs.query_sq[q], pairs.item_sq[i], 0.0)


def rank(api, int metric, const float[:, ::1] queries, const float[:, ::1] vectors,
         const double[::1] sq_norms, const int64_t[::1] indptr, const int64_t[::1] rows,
         *, const float[::1] bias=None, int num_threads=1):
    """Return canonical scores of the pairs (query q, row) of a CSR of candidates.

    Parameters
    ----------
    indptr : (n_queries + 1,) int64
    rows : (nnz,) int64
        Row numbers in [0, n), in any order.

    Returns
    -------
    (nnz,) float32
    """
    cdef const NativeApi* native = native_api(api)
    cdef int64_t n = vectors.shape[0], n_queries = queries.shape[0], i
    cdef Pairs pairs
    _check_metric(metric)
    _check_sides(queries, vectors, sq_norms.shape[0], num_threads)
    if indptr.shape[0] != n_queries + 1 or indptr[0] != 0 or indptr[n_queries] != rows.shape[0]:
        raise ValueError(f"indptr must run from 0 to {rows.shape[0]} over {n_queries} queries")
    for i in range(n_queries):
        if indptr[i] > indptr[i + 1]:
            raise ValueError(f"indptr must not fall, got {indptr[i]} > {indptr[i + 1]} at {i}")
    for i in range(rows.shape[0]):
        if rows[i] < 0 or rows[i] >= n:
            raise ValueError(f"rows must lie in [0, {n}), got {rows[i]}")
    if bias is not None and (bias.shape[0] != n or metric == L2):
        raise ValueError("bias must have one entry per item, and l2 takes none")
    query_norms = squared_norms(api, queries)
    cdef const double[::1] query_sq = query_norms
    out = np.empty(rows.shape[0], np.float32)
    cdef float[::1] scores = out
    if rows.shape[0] == 0:
        return out
    pairs.kernels = native.kernels
    pairs.metric = metric
    pairs.queries, pairs.items = &queries[0, 0], &vectors[0, 0]
    pairs.dim, pairs.n_items = vectors.shape[1], n
    pairs.query_sq, pairs.item_sq = &query_sq[0], &sq_norms[0]
    pairs.bias = <const float*>NULL
    if bias is not None:
        pairs.bias = &bias[0]
    pairs.indptr, pairs.rows, pairs.out = &indptr[0], &rows[0], &scores[0]
    with nogil:
        native.parallel_for(n_queries, num_threads, score_query, &pairs)
    return out


def pairwise(api, int metric, const float[:, ::1] a, const float[:, ::1] b, *,
             int num_threads=1):
    """Return canonical scores of every pair of rows, (len(a), len(b)) float32."""
    cdef const NativeApi* native = native_api(api)
    cdef Pairs pairs
    _check_metric(metric)
    _check_sides(a, b, b.shape[0], num_threads)
    cdef const double[::1] a_sq = squared_norms(api, a)
    cdef const double[::1] b_sq = squared_norms(api, b)
    out = np.empty((a.shape[0], b.shape[0]), np.float32)
    cdef float[:, ::1] scores = out
    if out.size == 0:
        return out
    pairs.kernels = native.kernels
    pairs.metric = metric
    pairs.queries, pairs.items = &a[0, 0], &b[0, 0]
    pairs.dim, pairs.n_items = a.shape[1], b.shape[0]
    pairs.query_sq, pairs.item_sq = &a_sq[0], &b_sq[0]
    pairs.bias = <const float*>NULL
    pairs.indptr = pairs.rows = <const int64_t*>NULL
    pairs.out = &scores[0, 0]
    with nogil:
        native.parallel_for(a.shape[0], num_threads, score_row, &pairs)
    return out


def _check_sides(const float[:, ::1] queries, const float[:, ::1] vectors, int64_t n_norms,
                 int num_threads):
    if queries.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"queries must have {vectors.shape[1]} columns, got {queries.shape[1]}")
    if vectors.shape[1] < 1:
        raise ValueError("vectors must have at least one column, got 0")
    if n_norms != vectors.shape[0]:
        raise ValueError(f"sq_norms must have {vectors.shape[0]} entries, got {n_norms}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
