"""The scan of exact batched top-k: a float32 scan nominates, canonical float64 scores decide.

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

from libc.math cimport INFINITY, nextafter, sqrt
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libcpp.algorithm cimport pop_heap, push_heap, sort

from recengine.retrieval._kernels cimport (
    COSINE,
    DOT,
    L2,
    HitTest,
    Kernels,
    canonical_score,
    kPanelRows,
    kTileQueries,
)


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    BLOCK_BYTES = 131072     # of items, shared by all queries of a chunk
    CHUNK_QUERIES = 252      # 21 tiles: heaps and packed queries of a task stay in cache
    ROW_QUERIES = 3          # up to so many queries, packing a panel costs more than it saves
    MAX_PANELS = 4096

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

cdef struct Block:
    int64_t first            # position of the first row
    int64_t n_rows
    int64_t n_panels
    const float** row        # [n_panels * 32]
    int64_t* number          # [n_panels * 32] row numbers
    float* reach             # [n_panels * 32]
    float* bias              # [n_panels * 32]
    float* panels            # [n_panels][dim][32]


cdef double gamma_bound(int64_t dim) noexcept nogil:
    """Relative error of a float32 sum of `dim` products, with 24 roundings to spare."""
    cdef double mu = (dim + 24) * 2.0 ** -24
    return mu / (1.0 - mu) if mu < 0.5 else INFINITY


cdef int64_t split(Plan* plan, int num_threads) noexcept nogil:
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
