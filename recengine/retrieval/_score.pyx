"""Canonical scores of given pairs: no scan, no selection, just the numbers that decide.

Every function checks its arguments, and releases the GIL unless its work is a matter of a few
microseconds: a wrong call raises, never crashes.
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
from recengine.retrieval._rows cimport Rows, is_narrow, point_at, prefetch_row, row_at


cdef struct Pairs:
    const Kernels* kernels
    int metric
    const float* queries
    Rows items
    float* scratch           # [query][dim]; NULL where items are float32
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
    FEW = 4096               # numbers: done before another thread would have taken the GIL over
    AHEAD = 6                # rows asked for before the one that is scored

cdef struct Norms:
    const Kernels* kernels
    Rows vectors
    float* scratch           # [dim]
    double* out
    int64_t n


cdef void norm_rows(void* context, int64_t block) noexcept nogil:
    cdef Norms* norms = <Norms*>context
    cdef int64_t i
    cdef const float* row
    for i in range(block * NORM_ROWS, min(norms.n, (block + 1) * NORM_ROWS)):
        row = row_at(norms.vectors, i, norms.scratch)
        norms.out[i] = norms.kernels.canonical_dot(row, row, norms.vectors.dim)


cdef const NativeApi* native_api(object capsule) except NULL:
    return <const NativeApi*>PyCapsule_GetPointer(capsule, kApiCapsule)


def _check_metric(int metric):
    if metric not in (COSINE, DOT, L2):
        raise ValueError(f"metric must be 0, 1 or 2, got {metric}")


def squared_norms(api, vectors not None):
    """Return the canonical x.x of each row, (n,) float64.

    Rows are float32, float16, or uint16 (the bits of bfloat16).
    """
    cdef const NativeApi* native = native_api(api)
    cdef Norms norms
    norms.n = point_at(&norms.vectors, vectors)
    out = np.empty(norms.n, np.float64)
    cdef double[::1] view = out
    if norms.n == 0 or norms.vectors.dim == 0:
        out[:] = 0.0
        return out
    cdef float[::1] scratch = np.empty(norms.vectors.dim, np.float32)
    norms.kernels = native.kernels
    norms.scratch, norms.out = &scratch[0], &view[0]
    cdef int64_t n_blocks = (norms.n + NORM_ROWS - 1) // NORM_ROWS
    # Through the pool for its floating-point mode, on the calling thread alone.
    if norms.n * norms.vectors.dim <= FEW:
        native.parallel_for(n_blocks, 1, norm_rows, &norms)
    else:
        with nogil:
            native.parallel_for(n_blocks, 1, norm_rows, &norms)
    return out


def reach(int metric, const double[::1] sq_norms not None):
    """Return what the float32 scan needs to know of each item, (n,) float32.

    dot: the norm, rounded up. cosine: 1 / norm, 0 for a zero vector, NaN (always re-scored) where
    the norm lies outside [2^-100, 2^100] and float32 could not carry the quotient. l2: zeros.
    """
    cdef int64_t n = sq_norms.shape[0]
    _check_metric(metric)
    out = np.zeros(n, np.float32)
    if metric == L2 or n == 0:
        return out
    cdef float[::1] view = out
    if n <= FEW:
        fill_reach(metric, &sq_norms[0], n, &view[0])
    else:
        with nogil:
            fill_reach(metric, &sq_norms[0], n, &view[0])
    return out


cdef void fill_reach(int metric, const double* sq_norms, int64_t n, float* out) noexcept nogil:
    cdef int64_t i
    cdef double norm
    for i in range(n):
        norm = sqrt(sq_norms[i])
        if metric == DOT:
            out[i] = <float>(norm * (1.0 + 2.0 ** -22)) if norm < 3e38 else <float>INFINITY
            if norm > 0.0:
                out[i] = nextafterf(out[i], <float>INFINITY)
        elif norm == 0.0:
            out[i] = 0.0
        elif 2.0 ** -100 <= norm <= 2.0 ** 100:
            out[i] = <float>(1.0 / norm)
        else:
            out[i] = <float>NAN


cdef void score_query(void* context, int64_t q) noexcept nogil:
    cdef Pairs* pairs = <Pairs*>context
    cdef int64_t i, row
    for i in range(pairs.indptr[q], pairs.indptr[q + 1]):
        if i + AHEAD < pairs.indptr[q + 1]:
            prefetch_row(pairs.items, pairs.rows[i + AHEAD])
        row = pairs.rows[i]
        pairs.out[i] = canonical_score(
            pairs.kernels, pairs.metric, pairs.queries + q * pairs.dim,
            row_at(pairs.items, row, pairs.scratch + q * pairs.dim if pairs.scratch else NULL),
            pairs.dim, pairs.query_sq[q], pairs.item_sq[row],
            pairs.bias[row] if pairs.bias else 0.0)


cdef void score_row(void* context, int64_t q) noexcept nogil:
    cdef Pairs* pairs = <Pairs*>context
    cdef int64_t i
    for i in range(pairs.n_items):
        pairs.out[q * pairs.n_items + i] = canonical_score(
            pairs.kernels, pairs.metric, pairs.queries + q * pairs.dim,
            row_at(pairs.items, i, NULL), pairs.dim, pairs.query_sq[q], pairs.item_sq[i], 0.0)


def rank(api, int metric, const float[:, ::1] queries, vectors not None,
         const double[::1] sq_norms, const int64_t[::1] indptr, const int64_t[::1] rows,
         *, const float[::1] bias=None, int num_threads=1):
    """Return canonical scores of the pairs (query q, row) of a CSR of candidates.

    Parameters
    ----------
    vectors : (n, dim) float32, float16 or uint16 (the bits of bfloat16)
    indptr : (n_queries + 1,) int64
    rows : (nnz,) int64
        Row numbers in [0, n), in any order.

    Returns
    -------
    (nnz,) float32
    """
    cdef const NativeApi* native = native_api(api)
    cdef Pairs pairs
    cdef int64_t n = point_at(&pairs.items, vectors), n_queries = queries.shape[0], i
    cdef int64_t dim = pairs.items.dim
    _check_metric(metric)
    _check_sides(queries, n, dim, sq_norms.shape[0], num_threads)
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
    pairs.queries, pairs.dim, pairs.n_items = &queries[0, 0], dim, n
    pairs.scratch = NULL
    cdef float[:, ::1] scratch
    if is_narrow(pairs.items):
        scratch = np.empty((n_queries, dim), np.float32)
        pairs.scratch = &scratch[0, 0]
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
    _check_sides(a, b.shape[0], b.shape[1], b.shape[0], num_threads)
    cdef const double[::1] a_sq = squared_norms(api, a)
    cdef const double[::1] b_sq = squared_norms(api, b)
    out = np.empty((a.shape[0], b.shape[0]), np.float32)
    cdef float[:, ::1] scores = out
    if out.size == 0:
        return out
    pairs.kernels = native.kernels
    pairs.metric = metric
    pairs.n_items = point_at(&pairs.items, b)
    pairs.queries, pairs.dim = &a[0, 0], a.shape[1]
    pairs.scratch = NULL
    pairs.query_sq, pairs.item_sq = &a_sq[0], &b_sq[0]
    pairs.bias = <const float*>NULL
    pairs.indptr = pairs.rows = <const int64_t*>NULL
    pairs.out = &scores[0, 0]
    with nogil:
        native.parallel_for(a.shape[0], num_threads, score_row, &pairs)
    return out


def _check_sides(const float[:, ::1] queries, int64_t n, int64_t dim, int64_t n_norms,
                 int num_threads):
    if queries.shape[1] != dim:
        raise ValueError(f"queries must have {dim} columns, got {queries.shape[1]}")
    if dim < 1:
        raise ValueError("vectors must have at least one column, got 0")
    if n_norms != n:
        raise ValueError(f"sq_norms must have {n} entries, got {n_norms}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
