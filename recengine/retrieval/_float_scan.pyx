"""The float32 scan: it nominates, canonical float64 scores decide.

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

A sum that overflowed (infinite or NaN) is always re-scored. Where ordinals ascend in the order of
the walk, an item that only equals tau loses the tie against those found before it: "exceed" is
strict. Elsewhere the threshold lies one float32 below tau (`_plan.threshold`).

Where this leaves too many pairs of a tile, all of them are scored at once (`_sum_scan`).
"""

from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int64_t, uint32_t

from recengine.retrieval._float_block cimport lie_apart, load_block, row_of
from recengine.retrieval._kernels cimport (
    COSINE,
    DOT,
    L2,
    HitTest,
    Kernels,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport (
    Plan,
    Query,
    Report,
    decide,
    decide_item,
    take,
    threshold,
)
from recengine.retrieval._rows cimport is_narrow, prefetch_row
from recengine.retrieval._sum_scan cimport decide_by_sums, open_sums, set_limits


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)
    int __builtin_popcount(unsigned int)

cdef enum:
    SMALLEST_ASKED = 128     # bytes: of shorter rows in a row the machine asks for enough itself
    ROW_QUERIES = 3          # up to so many queries, packing a panel costs more than it saves
    CROWDED = 8              # a tile is, where more than one pair in so many has to be scored:
    LONGEST_PAUSE = 64       # so many tiles at most go by before float32 is tried again


cdef double gamma_bound(int64_t dim) noexcept nogil:
    """Relative error of a float32 sum of `dim` products, with 24 roundings to spare."""
    cdef double mu = (dim + 24) * 2.0 ** -24
    return mu / (1.0 - mu) if mu < 0.5 else INFINITY


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
    return nextafterf(-<float>square, -<float>INFINITY)


cdef uint32_t nominate(const Plan* plan, const Query* query, const FloatChunk* block,
                       int64_t panel, const float* scores) noexcept nogil:
    """What the scan cannot rule out: bit r for row r of the panel."""
    cdef int64_t base = panel * kPanelRows
    cdef int64_t valid = min(kPanelRows, block.n_rows - base)
    cdef uint32_t hits = <uint32_t>0xffffffff
    cdef float tau = threshold(plan, query)
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
    return hits


cdef int64_t settle(const Plan* plan, Query* query, const FloatChunk* block, int64_t panel,
                    uint32_t hits) noexcept nogil:
    """Score canonically what was nominated; returns how many that were."""
    cdef int64_t base = panel * kPanelRows, r, n_scored = 0
    while hits != 0:
        r = __builtin_ctz(hits)
        hits &= hits - 1
        if plan.codes != NULL:
            n_scored += decide_item(plan, query, block.number[base + r])
        else:
            n_scored += decide(plan, query, block.number[base + r], NULL)
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


cdef bint open_floats(const Plan* plan, FloatChunk* chunk, int64_t q0, int64_t n_queries,
                      int64_t rows) noexcept nogil:
    """Make room for blocks of up to `rows` rows and pack the queries; False if memory is short."""
    cdef int64_t panel_bytes = rows * plan.dim * 4, i
    chunk.q0, chunk.n_queries, chunk.rows = q0, n_queries, rows
    chunk.packs = n_queries > ROW_QUERIES
    for i in range(MAX_TILES):
        chunk.pauses[i].left, chunk.pauses[i].length = 0, 1
    if not chunk.packs:
        panel_bytes = 64
    chunk.packed = <float*>take(plan, n_queries * plan.dim * sizeof(float))
    chunk.tile = <float*>take(plan, kTileQueries * kPanelRows * sizeof(float))
    chunk.row = <const float**>take(plan, rows * sizeof(float*))
    chunk.number = <int64_t*>take(plan, rows * sizeof(int64_t))
    chunk.reach = <float*>take(plan, 2 * rows * sizeof(float))
    chunk.bias = chunk.reach + rows
    chunk.panels = <float*>take(plan, panel_bytes)
    if (chunk.packed == NULL or chunk.tile == NULL or chunk.row == NULL or chunk.number == NULL
            or chunk.reach == NULL or chunk.panels == NULL):
        return False
    if is_narrow(plan.vectors):
        chunk.widened = <float*>take(
            plan, (kPanelRows if chunk.packs else rows) * plan.dim * sizeof(float))
        if chunk.widened == NULL:
            return False
    if chunk.packs:
        pack_queries(plan, q0, n_queries, chunk.packed)
    return True


cdef void score_tile(const Plan* plan, FloatChunk* chunk, int64_t q, int64_t count,
                     int64_t panel) noexcept nogil:
    """Float32 scores of queries [q, q + count) and a panel."""
    cdef const Kernels* kernels = plan.native.kernels
    cdef int64_t first = panel * kPanelRows
    cdef const float* query = plan.scan_queries + (chunk.q0 + q) * plan.dim
    cdef const float* packed = chunk.packed + q * plan.dim
    cdef const float* items = chunk.panels + first * plan.dim
    if not chunk.packs and plan.metric == L2:
        kernels.l2_rows(query, chunk.row + first, plan.dim, chunk.tile)
    elif not chunk.packs:
        kernels.dot_rows(query, chunk.row + first, plan.dim, chunk.tile)
    elif plan.metric == L2:
        kernels.l2_panel(items, packed, plan.dim, count, chunk.tile)
    else:
        kernels.dot_panel(items, packed, plan.dim, count, chunk.tile)


cdef bint scan_tile(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t q,
                    int64_t count, int64_t panel, Report* report) noexcept nogil:
    """Pass queries [q, q + count) over a panel; False if float32 leaves too many of the pairs."""
    cdef int64_t i, n_hits = 0, n_pairs = count * min(kPanelRows, chunk.n_rows - panel * kPanelRows)
    cdef uint32_t[12] masks
    score_tile(plan, chunk, q, count, panel)
    for i in range(count):
        masks[i] = nominate(plan, queries + q + i, chunk, panel, chunk.tile + i * kPanelRows)
        n_hits += __builtin_popcount(masks[i])
    if n_hits * CROWDED > n_pairs and open_sums(plan, chunk, queries):
        return False
    report.float32 += n_pairs
    if n_hits != 0:
        for i in range(count):
            report.rescored += settle(plan, queries + q + i, chunk, panel, masks[i])
    return True


cdef void scan_floats(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t first,
                      int64_t end, Report* report) noexcept nogil:
    """Pass the chunk over positions [first, end).

    A tile whose pairs float32 cannot tell apart goes by canonical sums, and so do the next ones of
    its queries: one at first, then twice as many, until float32 tells a tile's pairs apart again.
    """
    cdef int64_t group = kTileQueries if chunk.packs else 1
    cdef int64_t q = 0, count, panel, i
    cdef Pause* pause = chunk.pauses
    # Rows that are read as they lie are asked for a panel ahead.
    cdef bint asks = not chunk.packs and chunk.widened == NULL and (
        lie_apart(plan) or 4 * plan.dim >= SMALLEST_ASKED)
    load_block(plan, chunk, first, end - first)
    while q < chunk.n_queries:
        count = min(group, chunk.n_queries - q)
        if pause.left != 0:
            set_limits(plan, chunk, queries, q, count)
        for panel in range(chunk.n_panels):
            # Not in a function of its own: GCC takes one that only asks for one that does nothing.
            if asks and q == 0:
                i = first + (panel + 1) * kPanelRows
                for i in range(i, min(i + kPanelRows, plan.n_positions)):
                    prefetch_row(plan.vectors, row_of(plan, i))
            if pause.left != 0:
                pause.left -= 1
            elif scan_tile(plan, chunk, queries, q, count, panel, report):
                pause.length = 1
                continue
            else:
                pause.left, pause.length = pause.length, min(2 * pause.length, LONGEST_PAUSE)
                set_limits(plan, chunk, queries, q, count)
            report.rescored += decide_by_sums(plan, chunk, queries, q, count, panel)
            report.float64 += count * min(kPanelRows, chunk.n_rows - panel * kPanelRows)
        q += count
        pause += 1
