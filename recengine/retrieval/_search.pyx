"""The door of exact batched top-k: checks arguments, prepares plans, runs `_scan` on the pool.

A wrong call raises, never crashes. The GIL is released once, while all parts of an index are
scanned and their answers merged: a thread that has to wait for it sleeps, and a sleeper costs more
than a search of a few thousand items.
"""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, isnan, nextafterf, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset
from libcpp.vector cimport vector as array_of

from recengine.retrieval._kernels cimport COSINE, DOT, L2, NativeApi, kApiCapsule, kCallScratch
from recengine.retrieval._plan cimport CodeTable, Entry, Plan, Report
from recengine.retrieval._rows cimport is_narrow
from recengine.retrieval._scan cimport collect, scan, split
from recengine.retrieval._select cimport merge_pair
from recengine.retrieval._table cimport Table, largest_bias


def search(api, int metric, const float[:, ::1] queries, vectors, sq_norms, reach,
           Py_ssize_t k, *, ordinals=None, bint ascending=True, alive=None, mask=None, rows=None,
           bias=None, codes=None, bint coarse=True, **options):
    """Return `search_parts` of one table, made of the arrays that `Table` takes."""
    table = Table(vectors, sq_norms, reach, ordinals=ordinals, ascending=ascending, bias=bias,
                  codes=codes, coarse=coarse)
    return search_parts(api, metric, queries, [(table, alive, mask, rows, None)], k, **options)


def search_parts(api, int metric, const float[:, ::1] queries, parts, Py_ssize_t k, *,
                 const int64_t[::1] exclude_indptr=None, const int64_t[::1] exclude_rows=None,
                 float min_score=-np.inf, int num_threads=1, int64_t deadline_ns=0):
    """Return the exact top k items of each query over tables of different items, by ordinal.

    Parameters
    ----------
    api : capsule of `_native.api`
    metric : 0 cosine, 1 dot, 2 l2
    queries : (n_queries, dim) float32, finite
    parts : sequence of (table, alive, mask, rows, bias), each but the table may be None

        alive : uint64 words
            Bit ``r & 63`` of word ``r >> 6`` set: row r is not deleted.
        mask : uint64 words
            Bit ``o & 63`` of word ``o >> 6`` set: ordinal o may be returned; none beyond the end
            may.
        rows : (m,) int64 ascending
            Only these rows are looked at.
        bias : (n,) float32
            By row, instead of the table's own.
    exclude_indptr, exclude_rows : CSR of ordinals that a query must not get, ascending per query
    min_score : float
        Lower scores are left out.
    deadline_ns : int
        On the clock of ``time.monotonic_ns``; 0 for none.

    Returns
    -------
    (ordinals (n_queries, k) int64 padded with -1, scores (n_queries, k) float32 padded with -inf,
    stats dict: level, partial, and pairs: scanned, of which coarse, fine, float32 and float64;
    survived, which codes could not drop; rescored)
    """
    cdef array_of[Plan] plans
    cdef Plan common, plan
    cdef Report total
    cdef const NativeApi* native = <const NativeApi*>PyCapsule_GetPointer(api, kApiCapsule)
    cdef int64_t n_queries = queries.shape[0]
    cdef size_t i
    _check_request(metric, k, num_threads)
    _check_exclusions(n_queries, exclude_indptr, exclude_rows)
    if isnan(min_score):
        raise ValueError("min_score must not be NaN")
    memset(&common, 0, sizeof(Plan))
    memset(&total, 0, sizeof(Report))
    common.native, common.metric = native, metric
    common.n_queries, common.deadline_ns = n_queries, deadline_ns
    if n_queries != 0 and queries.shape[1] != 0:
        common.queries = &queries[0, 0]
    if exclude_indptr is not None and exclude_rows.shape[0] != 0:
        common.exclude_indptr, common.exclude_rows = &exclude_indptr[0], &exclude_rows[0]
    common.floor = -INFINITY
    if min_score != -INFINITY:
        common.floor = nextafterf(min_score, -<float>INFINITY)
    for table, alive, mask, rows, bias in parts:
        plan = common
        _fill(&plan, table, queries.shape[1], alive, mask, rows, bias)
        plan.k = min(k, plan.n if rows is None else plan.n_positions)
        if plan.k != 0 and n_queries != 0 and (mask is None or plan.mask_bits != 0):
            plans.push_back(plan)

    out_rows, out_scores = np.empty((n_queries, k), np.int64), np.empty((n_queries, k), np.float32)
    if plans.size() == 0:
        out_rows[...], out_scores[...] = -1, -np.inf
        return out_rows, out_scores, _stats_of(native, &total)
    cdef int64_t[:, ::1] ids = out_rows, more_ids
    cdef float[:, ::1] scores = out_scores, more_scores
    if plans.size() > 1:
        more_ids, more_scores = np.empty_like(out_rows), np.empty_like(out_scores)
    with nogil:
        run(&plans[0], num_threads, ids, scores, &total)
        for i in range(1, plans.size()):
            if total.state == 2:
                break
            plans[i].bars, plans[i].bar_stride = &scores[0, k - 1], k
            run(&plans[i], num_threads, more_ids, more_scores, &total)
            if not merge(native, ids, scores, more_ids, more_scores):
                total.state = 2
        native.begin_scratch(kCallScratch)  # what an exceptional search took goes back
    if total.state == 2:
        raise MemoryError("search could not allocate its scratch memory")
    return out_rows, out_scores, _stats_of(native, &total)


cdef int _fill(Plan* plan, Table table, Py_ssize_t dim, alive_words, mask_words, some_rows,
               boosts) except -1:
    """Let `plan`, which has the request's part, search a table."""
    cdef Plan request = plan[0]
    cdef const uint64_t[::1] alive = alive_words, mask = mask_words
    cdef const int64_t[::1] rows = some_rows
    cdef const float[::1] bias = boosts
    if table is None:
        raise TypeError("parts must hold tables, got None")
    plan[0] = table.plan
    plan.native, plan.metric = request.native, request.metric
    plan.queries, plan.n_queries = request.queries, request.n_queries
    plan.exclude_indptr, plan.exclude_rows = request.exclude_indptr, request.exclude_rows
    plan.floor, plan.deadline_ns = request.floor, request.deadline_ns
    if dim != plan.dim:
        raise ValueError(f"queries must have {plan.dim} columns, got {dim}")
    if alive is not None:
        if alive.shape[0] < (plan.n + 63) // 64:
            raise ValueError(f"alive must have {(plan.n + 63) // 64} words, got {alive.shape[0]}")
        plan.alive = &alive[0] if plan.n != 0 else <const uint64_t*>NULL
    if mask is not None and mask.shape[0] != 0:
        plan.mask, plan.mask_bits = &mask[0], 64 * mask.shape[0]
    if bias is not None:
        plan.max_bias = largest_bias(bias, plan.n)
        plan.bias = &bias[0] if plan.n != 0 else <const float*>NULL
    if plan.metric == L2 and (bias is not None or plan.bias != NULL):
        raise ValueError("bias must be None under l2")
    plan.n_positions, plan.ascending = plan.n, plan.rising
    if rows is not None:
        _check_rows(rows, plan.n)
        plan.n_positions = rows.shape[0]
        plan.rows = &rows[0] if rows.shape[0] != 0 else <const int64_t*>NULL
        plan.codes = <const CodeTable*>NULL
    elif plan.codes != NULL:
        plan.n_positions = plan.codes.n_slots
        plan.ascending = (plan.rising and plan.codes.order == NULL
                          and not plan.codes.rows_inside)
    plan.filters = plan.alive != NULL or plan.mask != NULL or plan.exclude_rows != NULL
    return 0


cdef void run(Plan* plan, int num_threads, int64_t[:, ::1] ids, float[:, ::1] scores,
              Report* total) noexcept nogil:
    """Carry out one plan; add what it did to `total`."""
    cdef int64_t n_tasks = split(plan, num_threads) * plan.n_parts, task
    cdef const Report* own
    if not take_arrays(plan, n_tasks):
        total.state = 2
        return
    plan.native.parallel_for(n_tasks, num_threads, scan, plan)
    collect(plan, ids, scores, plan.entries + plan.n_parts * plan.n_queries * plan.k)
    for task in range(n_tasks):
        own = plan.reports + task
        total.coarse += own.coarse
        total.fine += own.fine
        total.float32 += own.float32
        total.float64 += own.float64
        total.survived += own.survived
        total.rescored += own.rescored
        total.state = max(total.state, own.state)


cdef bint merge(const NativeApi* native, int64_t[:, ::1] ids, float[:, ::1] scores,
                int64_t[:, ::1] more_ids, float[:, ::1] more_scores) noexcept nogil:
    """Let the best of both answers be the first; False if memory is short."""
    cdef Py_ssize_t q, k = ids.shape[1]
    cdef int64_t* kept_ids
    cdef float* kept_scores
    native.begin_scratch(kCallScratch)
    kept_ids = <int64_t*>native.take_scratch(kCallScratch, k * sizeof(int64_t))
    kept_scores = <float*>native.take_scratch(kCallScratch, k * sizeof(float))
    if kept_ids == NULL or kept_scores == NULL:
        return False
    for q in range(ids.shape[0]):
        if more_ids[q, 0] < 0:
            continue
        memcpy(kept_ids, &ids[q, 0], k * sizeof(int64_t))
        memcpy(kept_scores, &scores[q, 0], k * sizeof(float))
        merge_pair(kept_ids, kept_scores, &more_ids[q, 0], &more_scores[q, 0], k, &ids[q, 0],
                   &scores[q, 0])
    return True


cdef void* _take(const Plan* plan, int64_t n_bytes) noexcept nogil:
    return plan.native.take_scratch(kCallScratch, n_bytes)


cdef bint take_arrays(Plan* plan, int64_t n_tasks) noexcept nogil:
    """What tasks share: norms and directions of the queries, heaps, counters. False if short."""
    cdef int64_t n_counts = plan.n_parts * plan.n_queries, q, j
    cdef double* query_sq
    cdef double length
    cdef float* unit
    cdef const float* vector
    plan.native.begin_scratch(kCallScratch)
    query_sq = <double*>_take(plan, plan.n_queries * sizeof(double))
    unit = <float*>_take(
        plan, plan.n_queries * plan.dim * sizeof(float) if plan.metric == COSINE else 0)
    plan.reports = <Report*>_take(plan, n_tasks * sizeof(Report))
    plan.counts = <int64_t*>_take(plan, n_counts * sizeof(int64_t))
    plan.entries = <Entry*>_take(
        plan, plan.n_parts * (plan.n_queries + 1) * plan.k * sizeof(Entry))
    plan.scratch = NULL
    plan.scratch_size = (plan.dim + 15) // 16 * 16  # whole cache lines: tasks do not share them
    if is_narrow(plan.vectors):
        plan.scratch = <float*>_take(plan, n_tasks * plan.scratch_size * sizeof(float))
        if plan.scratch == NULL:
            return False
    if (query_sq == NULL or unit == NULL or plan.entries == NULL or plan.reports == NULL
            or plan.counts == NULL):
        return False
    memset(plan.reports, 0, n_tasks * sizeof(Report))
    memset(plan.counts, 0, n_counts * sizeof(int64_t))
    plan.query_sq, plan.scan_queries = query_sq, plan.queries
    for q in range(plan.n_queries):
        vector = plan.queries + q * plan.dim
        query_sq[q] = plan.native.kernels.canonical_dot(vector, vector, plan.dim)
        if plan.metric == COSINE:
            plan.scan_queries = unit
            length = sqrt(query_sq[q])
            for j in range(plan.dim):
                unit[q * plan.dim + j] = <float>(vector[j] / length) if length > 0.0 else 0.0
    return True


cdef object _stats_of(const NativeApi* native, const Report* total):
    return {"level": native.kernels.name.decode(), "partial": total.state == 1,
            "scanned": total.coarse + total.fine + total.float32 + total.float64,
            "coarse": total.coarse, "fine": total.fine, "float32": total.float32,
            "float64": total.float64, "survived": total.survived, "rescored": total.rescored}


cdef int _check_request(int metric, Py_ssize_t k, int num_threads) except -1:
    if metric not in (COSINE, DOT, L2):
        raise ValueError(f"metric must be 0, 1 or 2, got {metric}")
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
    return 0


cdef int _check_rows(const int64_t[::1] rows, int64_t n) except -1:
    cdef int64_t i
    for i in range(rows.shape[0]):
        if rows[i] < 0 or rows[i] >= n or (i > 0 and rows[i] <= rows[i - 1]):
            raise ValueError(f"rows must ascend within [0, {n}), got {rows[i]} at {i}")
    return 0


cdef int _check_exclusions(int64_t n_queries, const int64_t[::1] indptr,
                           const int64_t[::1] exclude_rows) except -1:
    cdef int64_t i, j
    if (indptr is None) != (exclude_rows is None):
        raise ValueError("exclude_indptr and exclude_rows must be given together")
    if indptr is None:
        return 0
    if (indptr.shape[0] != n_queries + 1 or indptr[0] != 0
            or indptr[n_queries] != exclude_rows.shape[0]):
        raise ValueError(f"exclude_indptr must run from 0 to {exclude_rows.shape[0]} "
                         f"over {n_queries} queries")
    for i in range(n_queries):
        if indptr[i] > indptr[i + 1]:
            raise ValueError(f"exclude_indptr must not fall, got {indptr[i + 1]} at {i + 1}")
    for i in range(n_queries):
        for j in range(indptr[i] + 1, indptr[i + 1]):
            if exclude_rows[j - 1] > exclude_rows[j]:
                raise ValueError(f"exclude_rows must ascend within a query, got "
                                 f"{exclude_rows[j]} after {exclude_rows[j - 1]}")
    return 0
