"""The door of exact batched top-k: checks arguments, prepares a `Plan`, runs `_scan` on the pool.

A wrong call raises, never crashes; the GIL is released while the scan runs.
"""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, isnan, nextafterf, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

from recengine.retrieval._kernels cimport (
    COSINE,
    DOT,
    L2,
    GroupBounds,
    NativeApi,
    code_pairs,
    high_stride,
    kApiCapsule,
    kCallScratch,
    kPanelBytes,
    kPanelRows,
)
from recengine.retrieval._float_scan cimport gamma_bound
from recengine.retrieval._plan cimport CodeTable, Entry, Plan, Report
from recengine.retrieval._rows cimport is_narrow, point_at
from recengine.retrieval._scan cimport collect, scan, split


def search(api, int metric, const float[:, ::1] queries, vectors,
           const double[::1] sq_norms, const float[::1] reach, Py_ssize_t k, *,
           const int64_t[::1] ordinals=None, bint ascending=True,
           const uint64_t[::1] alive=None, const uint64_t[::1] mask=None,
           const int64_t[::1] rows=None,
           const int64_t[::1] exclude_indptr=None, const int64_t[::1] exclude_rows=None,
           const float[::1] bias=None, float min_score=-np.inf, int num_threads=1,
           int64_t deadline_ns=0, codes=None, bint coarse=True):
    """Return the exact top k items of each query, by ordinal.

    Parameters
    ----------
    api : capsule of `_native.api`
    metric : 0 cosine, 1 dot, 2 l2
    queries : (n_queries, dim) float32, finite
    vectors : (n, dim) float32, float16 or uint16 (the bits of bfloat16), finite
    sq_norms, reach : (n,) float64 and float32
        From `_score.squared_norms` and `_score.reach`.
    ordinals : (n,) int64 >= 0, optional
        The stable number of each row, which answers, ties, `mask` and `exclude_rows` speak; the
        row number when omitted.
    ascending : bool
        Whether `ordinals` rise with the row, which makes ties cheap.
    alive : uint64 words, optional
        Bit ``r & 63`` of word ``r >> 6`` set: row r is not deleted.
    mask : uint64 words, optional
        Bit ``o & 63`` of word ``o >> 6`` set: ordinal o may be returned; none beyond the end may.
    rows : (m,) int64 ascending, optional
        Only these rows are looked at.
    exclude_indptr, exclude_rows : CSR of ordinals that a query must not get, ascending per query
    bias : (n,) float32, optional
        By row, added to the score before it is rounded.
    min_score : float
        Lower scores are left out.
    codes : dict of `_native.encode`, optional
        The int8 codes of `vectors`, or of the first of them; the scan runs on float32 without.
    coarse : bool
        Whether few queries may read the upper four bits of the codes alone, where that pays.
    deadline_ns : int
        On the clock of ``time.monotonic_ns``; 0 for none.

    Returns
    -------
    (ordinals (n_queries, k) int64 padded with -1, scores (n_queries, k) float32 padded with -inf,
    stats dict: level, partial, and pairs: scanned, of which coarse, fine, float32 and float64;
    survived, which codes could not drop; rescored)
    """
    cdef Plan plan
    cdef CodeTable table
    cdef int64_t n = point_at(&plan.vectors, vectors), dim = plan.vectors.dim, n_tasks, n_chunks
    _check_search(metric, queries, n, dim, sq_norms, reach, k, num_threads)
    _check_limits(n, queries.shape[0], rows, exclude_indptr, exclude_rows)
    _check_ordinals(n, ordinals, alive)
    _check_bias(metric, n, bias)
    if isnan(min_score):
        raise ValueError("min_score must not be NaN")
    plan.native = <const NativeApi*>PyCapsule_GetPointer(api, kApiCapsule)
    plan.metric = metric
    plan.n, plan.dim, plan.n_queries = n, dim, queries.shape[0]
    plan.n_positions = n if rows is None else rows.shape[0]
    plan.k = min(k, plan.n_positions)
    out_rows = np.empty((plan.n_queries, k), np.int64)
    out_scores = np.empty((plan.n_queries, k), np.float32)
    if plan.k == 0 or plan.n_queries == 0 or (mask is not None and mask.shape[0] == 0):
        return _nothing(out_rows, out_scores, plan.native)
    plan.queries = &queries[0, 0]
    plan.sq_norms, plan.reach = &sq_norms[0], &reach[0]
    plan.bias = <const float*>NULL
    if bias is not None and bias.shape[0] != 0:
        plan.bias = &bias[0]
    plan.max_bias = 0.0 if bias is None else np.abs(bias).max()
    plan.mask = plan.alive = <const uint64_t*>NULL
    plan.mask_bits = 0
    if mask is not None:
        plan.mask, plan.mask_bits = &mask[0], 64 * mask.shape[0]
    if alive is not None:
        plan.alive = &alive[0]
    plan.ordinals = <const int64_t*>NULL
    plan.ascending = True
    if ordinals is not None:
        plan.ordinals, plan.ascending = &ordinals[0], ascending
    plan.rising = plan.ascending
    plan.rows = <const int64_t*>NULL
    if rows is not None and rows.shape[0] != 0:
        plan.rows = &rows[0]
    plan.exclude_indptr = plan.exclude_rows = <const int64_t*>NULL
    if exclude_indptr is not None and exclude_rows.shape[0] != 0:
        plan.exclude_indptr, plan.exclude_rows = &exclude_indptr[0], &exclude_rows[0]
    plan.coarse = coarse
    plan.filters = plan.alive != NULL or plan.mask != NULL or plan.exclude_rows != NULL
    plan.gamma = gamma_bound(plan.dim)
    plan.floor = -INFINITY
    if min_score != -INFINITY:
        plan.floor = nextafterf(min_score, -<float>INFINITY)
    plan.deadline_ns = deadline_ns
    plan.codes = <const CodeTable*>NULL
    if codes is not None and rows is None:
        _fill_codes(&table, codes, n, dim)
        plan.codes = &table
        plan.ascending = plan.ascending and table.order == NULL and not table.rows_inside
        plan.n_positions = table.n_slots

    n_chunks = split(&plan, num_threads)
    n_tasks = n_chunks * plan.n_parts
    cdef int64_t[:, ::1] rows_view = out_rows
    cdef float[:, ::1] scores_view = out_scores
    with nogil:
        if not take_arrays(&plan, n_tasks):
            with gil:
                raise MemoryError("search could not allocate its scratch memory")
        plan.native.parallel_for(n_tasks, num_threads, scan, &plan)
        collect(&plan, rows_view, scores_view,
                plan.entries + plan.n_parts * plan.n_queries * plan.k)
    try:
        return out_rows, out_scores, _stats_of(&plan, n_tasks)
    finally:
        plan.native.begin_scratch(kCallScratch)  # what an exceptional search took goes back


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


cdef object _stats_of(const Plan* plan, int64_t n_tasks):
    cdef int64_t task
    cdef Report total = plan.reports[0]
    cdef const Report* own
    for task in range(n_tasks):
        own = plan.reports + task
        if own.state == 2:
            raise MemoryError("search could not allocate its scratch memory")
        if task != 0:
            total.coarse += own.coarse
            total.fine += own.fine
            total.float32 += own.float32
            total.float64 += own.float64
            total.survived += own.survived
            total.rescored += own.rescored
            total.state |= own.state
    return {"level": plan.native.kernels.name.decode(), "partial": total.state == 1,
            "scanned": total.coarse + total.fine + total.float32 + total.float64,
            "coarse": total.coarse, "fine": total.fine, "float32": total.float32,
            "float64": total.float64, "survived": total.survived, "rescored": total.rescored}


cdef object _nothing(out_rows, out_scores, const NativeApi* native):
    out_rows[...], out_scores[...] = -1, -np.inf
    stats = dict.fromkeys(
        ("scanned", "coarse", "fine", "float32", "float64", "survived", "rescored"), 0)
    return out_rows, out_scores, {"level": native.kernels.name.decode(), "partial": False, **stats}


def _check_search(int metric, const float[:, ::1] queries, int64_t n, int64_t dim,
                  const double[::1] sq_norms, const float[::1] reach, Py_ssize_t k,
                  int num_threads):
    if metric not in (COSINE, DOT, L2):
        raise ValueError(f"metric must be 0, 1 or 2, got {metric}")
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
    if dim < 1 or queries.shape[1] != dim:
        raise ValueError(f"queries must have {dim} > 0 columns, got {queries.shape[1]}")
    if sq_norms.shape[0] != n or reach.shape[0] != n:
        raise ValueError(f"sq_norms and reach must have {n} entries, "
                         f"got {sq_norms.shape[0]} and {reach.shape[0]}")


def _check_ordinals(int64_t n, const int64_t[::1] ordinals, const uint64_t[::1] alive):
    if alive is not None and alive.shape[0] < (n + 63) // 64:
        raise ValueError(f"alive must have {(n + 63) // 64} words, got {alive.shape[0]}")
    if ordinals is not None and ordinals.shape[0] != n:
        raise ValueError(f"ordinals must have {n} entries, got {ordinals.shape[0]}")


def _check_limits(int64_t n, int64_t n_queries, const int64_t[::1] rows,
                  const int64_t[::1] indptr, const int64_t[::1] exclude_rows):
    cdef int64_t i, j
    if rows is not None:
        for i in range(rows.shape[0]):
            if rows[i] < 0 or rows[i] >= n or (i > 0 and rows[i] <= rows[i - 1]):
                raise ValueError(f"rows must ascend within [0, {n}), got {rows[i]} at {i}")
    if (indptr is None) != (exclude_rows is None):
        raise ValueError("exclude_indptr and exclude_rows must be given together")
    if indptr is None:
        return
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


def _check_bias(int metric, int64_t n, bias):
    if bias is None:
        return
    if metric == L2:
        raise ValueError("bias must be None under l2")
    if bias.shape[0] != n or not np.isfinite(bias).all():
        raise ValueError(f"bias must be {n} finite numbers")


cdef int _fill_codes(CodeTable* table, codes, int64_t n, int64_t dim) except -1:
    cdef const unsigned char[::1] high = codes["high"], low = codes["low"]
    cdef const double[::1] mean = codes["mean"]
    cdef const int32_t[::1] order = codes.get("order")
    cdef const int64_t[::1] members = codes.get("members"), starts = codes.get("starts")
    cdef const float[::1] block_reach = codes.get("block_reach")
    cdef int64_t n_panels
    table.n_rows = codes.get("n_rows", n)
    table.n_slots = table.n_rows if order is None else order.shape[0]
    table.pairs = code_pairs(dim)
    table.stride = high_stride(table.pairs)
    n_panels = (table.n_slots + kPanelRows - 1) // kPanelRows
    if (table.n_slots == 0 or high.shape[0] != n_panels * table.stride
            or low.shape[0] != n_panels * table.pairs * kPanelBytes or mean.shape[0] != dim
            or (order is not None and codes["rows_inside"])
            or (members is None) != (starts is None) or (starts is not None and order is None)
            or (members is None and table.n_slots != table.n_rows) or table.n_rows > n
            or (order is not None and table.n_rows != n)
            or (block_reach is not None and (order is None or block_reach.shape[0] != n_panels))):
        raise ValueError(f"codes must be those of {n} vectors of dim {dim}")
    table.high, table.low, table.mean = &high[0], &low[0], &mean[0]
    if <size_t>table.high % 64 != 0 or <size_t>table.low % 64 != 0:
        raise ValueError("codes must start at a multiple of 64 bytes")
    table.order, table.rows_inside = <const int32_t*>NULL, codes["rows_inside"]
    table.members = table.starts = <const int64_t*>NULL
    table.block_reach = <const float*>NULL
    if order is not None:
        table.order = &order[0]
    if block_reach is not None:
        table.block_reach = &block_reach[0]
    table.n_groups = 0
    if "axes" in codes:
        _fill_groups(table, codes, dim, n_panels)
    if starts is not None:
        if members.shape[0] != n or starts.shape[0] != table.n_slots + 1 or starts[0] != 0 or (
                starts[table.n_slots] != n):
            raise ValueError(f"codes must be those of {n} vectors of dim {dim}")
        table.members, table.starts = &members[0], &starts[0]
    table.unit = codes["unit"]
    cdef int64_t j
    cdef double square = 0.0
    for j in range(dim):
        square += mean[j] * mean[j]
    table.mean_norm = sqrt(square)
    table.largest_norm = 1.0
    return 0


cdef int _fill_groups(CodeTable* table, codes, int64_t dim, int64_t n_panels) except -1:
    cdef const float[:, ::1] axes = codes["axes"]
    cdef const int64_t[::1] axis_starts = codes["axis_starts"], starts = codes["group_starts"]
    cdef int64_t n_axes = axes.shape[0], n_groups = starts.shape[0] - 1
    if (n_axes == 0 or n_groups < 1 or table.order == NULL or axes.shape[1] != dim
            or axis_starts.shape[0] != n_axes + 1 or axis_starts[0] != 0
            or axis_starts[n_axes] != n_groups or starts[0] != 0 or starts[n_groups] != n_panels
            or not _fill_bounds(&table.groups.around, codes, "axis", n_axes)
            or not _fill_bounds(&table.groups.within, codes, "group", n_groups)):
        raise ValueError(f"codes must hold groups of {n_panels} panels of dim {dim}")
    table.n_groups, table.n_axes = n_groups, n_axes
    table.groups.axis_starts, table.group_starts = &axis_starts[0], &starts[0]
    table.axes = &axes[0, 0]
    return 0


cdef bint _fill_bounds(GroupBounds* bounds, codes, str of, int64_t n) except -1:
    """Point at the bounds of all groups or axes; False where there are not `n`."""
    cdef const float[::1] low = codes[of + "_low"], high = codes[of + "_high"]
    cdef const float[::1] across = codes[of + "_across"]
    if low.shape[0] != n or high.shape[0] != n or across.shape[0] != n:
        return False
    bounds.low, bounds.high, bounds.across = &low[0], &high[0], &across[0]
    return True
