"""Exact batched top-k: a float32 scan nominates, canonical float64 scores decide.

Items are walked in blocks of panels (32 rows) that stay in the second-level cache while every query
of the chunk passes over them. A tile gives float32 scores; an item is dropped only if an upper
bound of its canonical score cannot exceed tau, the k-th best canonical score that this query has
found so far. What is left is scored canonically and enters a heap of k.

The bound. With u = 2^-24, m = dim + 24 and gamma = m u / (1 - m u), a float32 sum s of q.x obeys
|s - q.x| <= gamma |q| |x| + dim 2^-149 in any summation order, fused or not (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1; the last term is underflow). The 24 spare
units cover the rounding of norms, scales and of the bound itself.

* dot: s + gamma |q| |x| + margin.
* cosine: the query is scaled to length 1 first, s times 1/|x| is within gamma of the cosine.
* l2: s = sum (q - x)^2 has no cancellation, so the true sum is >= s / (1 + gamma) - dim 2^-148.

A sum that overflowed (infinite or NaN) is always re-scored. Rows are walked in ascending order, so
an item that only equals tau loses the tie against those found before it: "exceed" is strict. Hence
the answer does not depend on tiles, blocks, threads or SIMD level.
"""

import numpy as np

from libc.math cimport INFINITY, isnan, nextafter, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libcpp.algorithm cimport pop_heap, push_heap, sort
from libcpp.pair cimport pair

from recengine.retrieval._kernels cimport (
    COSINE,
    DOT,
    L2,
    HitTest,
    Kernels,
    NativeApi,
    canonical_score,
    kApiCapsule,
    kPanelRows,
    kTileQueries,
)

from cpython.pycapsule cimport PyCapsule_GetPointer

from recengine.retrieval._score import squared_norms


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    BLOCK_BYTES = 131072     # of items, shared by all queries of a chunk
    CHUNK_QUERIES = 252      # 21 tiles: heaps and packed queries of a task stay in cache
    ROW_QUERIES = 3          # up to so many queries, packing a panel costs more than it saves
    MAX_PANELS = 4096

# Ordered so that `<` means better: (-score, row). The worst entry is then a max-heap's top.
ctypedef pair[float, int64_t] Entry

cdef struct Query:
    const float* vector      # as given: canonical scores
    double sq_norm
    float slope              # of the bound, per unit of item norm
    float margin
    float floor              # scores must exceed it, whatever the heap holds
    const int64_t* exclude   # ascending
    int64_t n_exclude
    int64_t count            # entries in the heap
    Entry* heap

cdef struct Plan:
    const NativeApi* native
    int metric
    const float* queries
    const float* scan_queries  # what the tiles see: unit length under cosine
    const float* vectors
    const double* sq_norms
    const float* reach
    const float* bias
    const uint64_t* mask
    const int64_t* rows
    const int64_t* exclude_indptr
    const int64_t* exclude_rows
    const double* query_sq
    int64_t dim
    int64_t n_positions
    int64_t n_queries
    int64_t k
    int64_t chunk
    int64_t n_parts
    int64_t part_size
    int64_t deadline_ns
    double gamma
    float max_bias
    float floor
    Entry* entries           # [part][query][k]
    int64_t* counts          # [part][query]
    int64_t* scanned         # [task]
    int64_t* rescored        # [task]
    int64_t* state           # [task]: 0 done, 1 stopped by the deadline, 2 out of memory

cdef struct Block:
    int64_t first            # position of the first row
    int64_t n_rows
    int64_t n_panels
    const float** row        # [n_panels * 32]
    int64_t* number          # [n_panels * 32] row numbers
    float* reach             # [n_panels * 32]
    float* bias              # [n_panels * 32]
    float* panels            # [n_panels][dim][32]


cdef float threshold(const Plan* plan, const Query* query) noexcept nogil:
    """What the canonical score of a newcomer must exceed."""
    cdef float worst
    if query.count < plan.k:
        return query.floor
    worst = -query.heap[0].first
    return worst if worst > query.floor else query.floor


cdef float scan_threshold(const Plan* plan, float tau) noexcept nogil:
    """The same in the scan's own terms: l2 scans negative squares."""
    cdef double square
    if plan.metric != L2 or tau == -INFINITY:
        return tau
    if tau >= 0.0:
        return 0.0 if tau == 0.0 else <float>INFINITY
    square = <double>tau * <double>tau * (1.0 + 2.0 ** -22) + plan.dim * 2.0 ** -147
    square = square * (1.0 + 2.0 * plan.gamma) * (1.0 + 2.0 ** -22)
    if square > 3.4e38:
        return -INFINITY
    return nextafter(-<float>square, -<float>INFINITY)


cdef bint excluded(const Query* query, int64_t row) noexcept nogil:
    cdef int64_t low = 0, high = query.n_exclude, middle
    while low < high:
        middle = (low + high) >> 1
        if query.exclude[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low < query.n_exclude and query.exclude[low] == row


cdef void enter(const Plan* plan, Query* query, float score, int64_t row) noexcept nogil:
    if query.count == plan.k:
        pop_heap(query.heap, query.heap + plan.k)
        query.count -= 1
    query.heap[query.count].first = -score
    query.heap[query.count].second = row
    query.count += 1
    push_heap(query.heap, query.heap + query.count)


cdef int64_t settle(const Plan* plan, Query* query, const Block* block, int64_t panel,
                    const float* scores) noexcept nogil:
    """Score canonically what the scan could not rule out; returns how many that were."""
    cdef int64_t base = panel * kPanelRows, r, row, n_scored = 0
    cdef int64_t valid = min(kPanelRows, block.n_rows - base)
    cdef uint32_t hits = <uint32_t>0xffffffff
    cdef float tau = threshold(plan, query), score
    cdef HitTest test
    if valid < kPanelRows:
        hits = (<uint32_t>1 << valid) - 1
    if tau != -INFINITY:
        test.scores = scores
        test.scale = test.norm = test.bias = <const float*>NULL
        if plan.metric == COSINE:
            test.scale = block.reach + base
        elif plan.metric == DOT:
            test.norm = block.reach + base
        if plan.bias:
            test.bias = block.bias + base
        test.slope = query.slope
        test.margin = query.margin
        test.threshold = scan_threshold(plan, tau)
        hits &= plan.native.kernels.hits(test)
    while hits != 0:
        r = __builtin_ctz(hits)
        hits &= hits - 1
        row = block.number[base + r]
        if plan.mask != NULL and not (plan.mask[row >> 6] >> (row & 63)) & 1:
            continue
        if query.n_exclude != 0 and excluded(query, row):
            continue
        score = canonical_score(
            plan.native.kernels, plan.metric, query.vector, block.row[base + r], plan.dim,
            query.sq_norm, plan.sq_norms[row], plan.bias[row] if plan.bias else 0.0)
        n_scored += 1
        if score > tau:
            enter(plan, query, score, row)
            tau = threshold(plan, query)
    return n_scored


cdef void start_query(const Plan* plan, int64_t q, int64_t part, Query* query) noexcept nogil:
    cdef double norm
    query.vector = plan.queries + q * plan.dim
    query.sq_norm = plan.query_sq[q]
    query.floor = plan.floor
    query.count = 0
    query.heap = plan.entries + (part * plan.n_queries + q) * plan.k
    query.exclude = <const int64_t*>NULL
    query.n_exclude = 0
    if plan.exclude_indptr != NULL:
        query.exclude = plan.exclude_rows + plan.exclude_indptr[q]
        query.n_exclude = plan.exclude_indptr[q + 1] - plan.exclude_indptr[q]
    query.slope, query.margin = 0.0, 0.0
    if plan.metric == L2:
        return
    norm = sqrt(query.sq_norm) * (1.0 + 2.0 ** -22)
    if plan.metric == DOT:
        query.slope = <float>(plan.gamma * norm * (1.0 + 2.0 ** -22))
        query.margin = <float>(plan.dim * 2.0 ** -148) if norm > 0.0 else <float>0.0
    elif norm > 0.0:
        query.margin = <float>(plan.gamma * (1.0 + 2.0 ** -22))
    query.margin += 8.0 * <float>(2.0 ** -24) * plan.max_bias


cdef void load_block(const Plan* plan, Block* block, int64_t first, int64_t n_rows,
                     bint pack) noexcept nogil:
    cdef int64_t i, row, n_slots
    block.first, block.n_rows = first, n_rows
    block.n_panels = (n_rows + kPanelRows - 1) // kPanelRows
    n_slots = block.n_panels * kPanelRows
    for i in range(n_slots):
        # Idle slots repeat the last row, so that tiles read what exists; their hits are cleared.
        row = first + min(i, n_rows - 1)
        if plan.rows != NULL:
            row = plan.rows[row]
        block.number[i] = row
        block.row[i] = plan.vectors + row * plan.dim
        block.reach[i] = plan.reach[row]
        if plan.bias != NULL:
            block.bias[i] = plan.bias[row]
    if pack:
        for i in range(block.n_panels):
            plan.native.kernels.pack_panel(block.row + i * kPanelRows, plan.dim,
                                           block.panels + i * kPanelRows * plan.dim)


cdef int64_t scan_block(const Plan* plan, const Block* block, Query* queries, int64_t q0,
                        int64_t n_queries, const float* packed, float* tile,
                        bint packs) noexcept nogil:
    """Pass every query of the chunk over one block; returns the items scored canonically."""
    cdef const Kernels* kernels = plan.native.kernels
    cdef int64_t group = kTileQueries if packs else 1
    cdef int64_t q = 0, count, panel, i, n_scored = 0
    while q < n_queries:
        count = min(group, n_queries - q)
        for panel in range(block.n_panels):
            if not packs and plan.metric == L2:
                kernels.l2_rows(plan.scan_queries + (q0 + q) * plan.dim,
                                block.row + panel * kPanelRows, plan.dim, tile)
            elif not packs:
                kernels.dot_rows(plan.scan_queries + (q0 + q) * plan.dim,
                                 block.row + panel * kPanelRows, plan.dim, tile)
            elif plan.metric == L2:
                kernels.l2_panel(block.panels + panel * kPanelRows * plan.dim,
                                 packed + q * plan.dim, plan.dim, count, tile)
            else:
                kernels.dot_panel(block.panels + panel * kPanelRows * plan.dim,
                                  packed + q * plan.dim, plan.dim, count, tile)
            for i in range(count):
                n_scored += settle(plan, queries + q + i, block, panel, tile + i * kPanelRows)
        q += count
    return n_scored


cdef void pack_queries(const Plan* plan, int64_t q0, int64_t n_queries,
                       float* packed) noexcept nogil:
    """Lay each group of up to 12 queries out as [dim][group], groups one after another."""
    cdef int64_t q = 0, count, i, j
    while q < n_queries:
        count = min(kTileQueries, n_queries - q)
        for j in range(plan.dim):
            for i in range(count):
                packed[q * plan.dim + j * count + i] = (
                    plan.scan_queries[(q0 + q + i) * plan.dim + j])
        q += count


cdef void scan(void* context, int64_t task) noexcept nogil:
    """One chunk of queries over one range of positions."""
    cdef Plan* plan = <Plan*>context
    cdef int64_t part = task % plan.n_parts
    cdef int64_t q0 = (task // plan.n_parts) * plan.chunk
    cdef int64_t n_queries = min(plan.chunk, plan.n_queries - q0)
    cdef int64_t first = part * plan.part_size
    cdef int64_t end = min(plan.n_positions, first + plan.part_size)
    cdef bint packs = n_queries > ROW_QUERIES
    cdef int64_t panels = min(max(1, BLOCK_BYTES // (4 * plan.dim * kPanelRows)), MAX_PANELS)
    cdef int64_t slots = panels * kPanelRows, i, n_rows
    cdef int64_t panel_bytes = slots * plan.dim * 4 if packs else 64
    cdef Block block
    cdef Query* queries = <Query*>malloc(n_queries * sizeof(Query))
    cdef float* packed = <float*>malloc(n_queries * plan.dim * sizeof(float))
    cdef float* tile = <float*>aligned_alloc(64, kTileQueries * kPanelRows * sizeof(float))
    block.row = <const float**>malloc(slots * sizeof(float*))
    block.number = <int64_t*>malloc(slots * sizeof(int64_t))
    block.reach = <float*>malloc(2 * slots * sizeof(float))
    block.bias = block.reach + slots
    block.panels = <float*>aligned_alloc(64, (panel_bytes + 63) // 64 * 64)
    plan.state[task] = 0
    if (queries == NULL or packed == NULL or tile == NULL or block.row == NULL
            or block.number == NULL or block.reach == NULL or block.panels == NULL):
        plan.state[task] = 2
    else:
        for i in range(n_queries):
            start_query(plan, q0 + i, part, queries + i)
        if packs:
            pack_queries(plan, q0, n_queries, packed)
        while first < end:
            if plan.deadline_ns != 0 and plan.native.now_ns() >= plan.deadline_ns:
                plan.state[task] = 1
                break
            n_rows = min(slots, end - first)
            load_block(plan, &block, first, n_rows, packs)
            plan.rescored[task] += scan_block(plan, &block, queries, q0, n_queries, packed, tile,
                                              packs)
            plan.scanned[task] += n_rows * n_queries
            first += n_rows
        for i in range(n_queries):
            plan.counts[part * plan.n_queries + q0 + i] = queries[i].count
    free(queries)
    free(packed)
    free(tile)
    free(<void*>block.row)
    free(block.number)
    free(block.reach)
    free(block.panels)


cdef void collect(const Plan* plan, int64_t[:, ::1] out_rows, float[:, ::1] out_scores,
                  Entry* merged) noexcept nogil:
    """Merge the parts of each query in total order and pad."""
    cdef int64_t q, part, i, count
    cdef Entry* heap
    for q in range(plan.n_queries):
        count = 0
        for part in range(plan.n_parts):
            heap = plan.entries + (part * plan.n_queries + q) * plan.k
            for i in range(plan.counts[part * plan.n_queries + q]):
                merged[count] = heap[i]
                count += 1
        sort(merged, merged + count)
        for i in range(out_rows.shape[1]):
            if i < count:
                out_rows[q, i] = merged[i].second
                out_scores[q, i] = -merged[i].first + <float>0.0
            else:
                out_rows[q, i] = -1
                out_scores[q, i] = -INFINITY


def search(api, int metric, const float[:, ::1] queries, const float[:, ::1] vectors,
           const double[::1] sq_norms, const float[::1] reach, Py_ssize_t k, *,
           const uint64_t[::1] mask=None, const int64_t[::1] rows=None,
           const int64_t[::1] exclude_indptr=None, const int64_t[::1] exclude_rows=None,
           const float[::1] bias=None, float min_score=-np.inf, int num_threads=1,
           int64_t deadline_ns=0):
    """Return the exact top k rows of each query.

    Parameters
    ----------
    api : capsule of `_native.api`
    metric : 0 cosine, 1 dot, 2 l2
    queries, vectors : (n_queries, dim), (n, dim) float32, finite
    sq_norms, reach : (n,) float64 and float32
        From `_score.squared_norms` and `_score.reach`.
    mask : uint64 words, optional
        Bit ``r & 63`` of word ``r >> 6`` set: row r may be returned.
    rows : (m,) int64 ascending, optional
        Only these rows are looked at.
    exclude_indptr, exclude_rows : CSR of rows that a query must not get, ascending per query
    bias : (n,) float32, optional
        Added to the score before it is rounded.
    min_score : float
        Lower scores are left out.
    deadline_ns : int
        On the clock of ``time.monotonic_ns``; 0 for none.

    Returns
    -------
    (rows (n_queries, k) int64 padded with -1, scores (n_queries, k) float32 padded with -inf,
    stats dict: level, scanned and rescored pairs, partial)
    """
    cdef Plan plan
    cdef int64_t n = vectors.shape[0], n_tasks, n_chunks, i
    _check_search(metric, queries, vectors, sq_norms, reach, k, num_threads)
    _check_limits(n, queries.shape[0], mask, rows, exclude_indptr, exclude_rows)
    _check_bias(metric, n, bias)
    if isnan(min_score):
        raise ValueError("min_score must not be NaN")
    plan.native = <const NativeApi*>PyCapsule_GetPointer(api, kApiCapsule)
    plan.metric = metric
    plan.dim, plan.n_queries = vectors.shape[1], queries.shape[0]
    plan.n_positions = n if rows is None else rows.shape[0]
    plan.k = min(k, plan.n_positions)
    out_rows = np.full((plan.n_queries, k), -1, np.int64)
    out_scores = np.full((plan.n_queries, k), -np.inf, np.float32)
    stats = {"level": (<bytes>plan.native.kernels.name).decode(), "scanned": 0, "rescored": 0,
             "partial": False}
    if plan.k == 0 or plan.n_queries == 0:
        return out_rows, out_scores, stats

    cdef const double[::1] query_sq = squared_norms(api, queries)
    scan_array = np.asarray(queries)
    if metric == COSINE:
        lengths = np.sqrt(np.asarray(query_sq))[:, None]
        scan_array = np.divide(scan_array, lengths, where=lengths > 0.0,
                               out=np.zeros(scan_array.shape)).astype(np.float32)
    cdef const float[:, ::1] scan_queries = scan_array
    plan.queries, plan.scan_queries = &queries[0, 0], &scan_queries[0, 0]
    plan.vectors, plan.sq_norms, plan.reach = &vectors[0, 0], &sq_norms[0], &reach[0]
    plan.query_sq = &query_sq[0]
    plan.bias = <const float*>NULL
    if bias is not None and bias.shape[0] != 0:
        plan.bias = &bias[0]
    plan.max_bias = 0.0 if bias is None else np.abs(bias).max()
    plan.mask = <const uint64_t*>NULL
    if mask is not None and mask.shape[0] != 0:
        plan.mask = &mask[0]
    plan.rows = <const int64_t*>NULL
    if rows is not None and rows.shape[0] != 0:
        plan.rows = &rows[0]
    plan.exclude_indptr = plan.exclude_rows = <const int64_t*>NULL
    if exclude_indptr is not None and exclude_rows.shape[0] != 0:
        plan.exclude_indptr, plan.exclude_rows = &exclude_indptr[0], &exclude_rows[0]
    plan.gamma = _gamma(plan.dim)
    plan.floor = -INFINITY
    if min_score != -INFINITY:
        plan.floor = nextafter(min_score, -<float>INFINITY)
    plan.deadline_ns = deadline_ns

    n_chunks = _split(&plan, num_threads)
    n_tasks = n_chunks * plan.n_parts
    counters = np.zeros((3, n_tasks), np.int64)
    counts = np.zeros((plan.n_parts, plan.n_queries), np.int64)
    cdef int64_t[:, ::1] counter_view = counters
    cdef int64_t[:, ::1] count_view = counts
    plan.scanned, plan.rescored = &counter_view[0, 0], &counter_view[1, 0]
    plan.state, plan.counts = &counter_view[2, 0], &count_view[0, 0]
    heaps = np.empty((plan.n_parts * plan.n_queries + plan.n_parts, plan.k, sizeof(Entry)),
                     np.uint8)
    cdef unsigned char[:, :, ::1] heap_view = heaps
    plan.entries = <Entry*>&heap_view[0, 0, 0]
    cdef int64_t[:, ::1] rows_view = out_rows
    cdef float[:, ::1] scores_view = out_scores
    with nogil:
        plan.native.parallel_for(n_tasks, num_threads, scan, &plan)
        collect(&plan, rows_view, scores_view,
                plan.entries + plan.n_parts * plan.n_queries * plan.k)
    if (counters[2] == 2).any():
        raise MemoryError("search could not allocate its scratch memory")
    stats["scanned"], stats["rescored"] = int(counters[0].sum()), int(counters[1].sum())
    stats["partial"] = bool((counters[2] == 1).any())
    return out_rows, out_scores, stats


cdef double _gamma(int64_t dim):
    cdef double mu = (dim + 24) * 2.0 ** -24
    return mu / (1.0 - mu) if mu < 0.5 else INFINITY


cdef int64_t _split(Plan* plan, int num_threads):
    """Threads share queries where there are enough, else items; returns the chunks of queries."""
    cdef int64_t panels = (plan.n_positions + kPanelRows - 1) // kPanelRows
    cdef int64_t share = (plan.n_queries + num_threads - 1) // num_threads
    plan.n_parts = 1
    plan.chunk = CHUNK_QUERIES
    if plan.n_queries >= 2 * kTileQueries * num_threads:
        share = (share + kTileQueries - 1) // kTileQueries * kTileQueries
        plan.chunk = min(<int64_t>CHUNK_QUERIES, share)
    else:
        plan.n_parts = max(<int64_t>1, min(<int64_t>num_threads, panels // 8))
    plan.part_size = (panels + plan.n_parts - 1) // plan.n_parts * kPanelRows
    return (plan.n_queries + plan.chunk - 1) // plan.chunk


def _check_search(int metric, const float[:, ::1] queries, const float[:, ::1] vectors,
                  const double[::1] sq_norms, const float[::1] reach, Py_ssize_t k,
                  int num_threads):
    if metric not in (COSINE, DOT, L2):
        raise ValueError(f"metric must be 0, 1 or 2, got {metric}")
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    if num_threads < 1:
        raise ValueError(f"num_threads must be >= 1, got {num_threads}")
    if vectors.shape[1] < 1 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"queries must have {vectors.shape[1]} > 0 columns, got {queries.shape[1]}")
    if sq_norms.shape[0] != vectors.shape[0] or reach.shape[0] != vectors.shape[0]:
        raise ValueError(f"sq_norms and reach must have {vectors.shape[0]} entries, "
                         f"got {sq_norms.shape[0]} and {reach.shape[0]}")


def _check_limits(int64_t n, int64_t n_queries, const uint64_t[::1] mask,
                  const int64_t[::1] rows, const int64_t[::1] indptr,
                  const int64_t[::1] exclude_rows):
    cdef int64_t i, j
    if mask is not None and mask.shape[0] < (n + 63) // 64:
        raise ValueError(f"mask must have {(n + 63) // 64} words, got {mask.shape[0]}")
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
