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
"""

from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int64_t, uint32_t

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
    boost_of_slot,
    decide,
    decide_slot,
    row_of_slot,
    take,
    threshold,
)
from recengine.retrieval._rows cimport is_narrow, prefetch_row, row_at


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)

cdef enum:
    AHEAD = 12               # rows asked for before the one that is loaded
    ROW_QUERIES = 3          # up to so many queries, packing a panel costs more than it saves


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


cdef int64_t settle(const Plan* plan, Query* query, const FloatChunk* block, int64_t panel,
                    const float* scores) noexcept nogil:
    """Score canonically what the scan could not rule out; returns how many that were."""
    cdef int64_t base = panel * kPanelRows, r, n_scored = 0
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
    while hits != 0:
        r = __builtin_ctz(hits)
        hits &= hits - 1
        if plan.codes != NULL:
            n_scored += decide_slot(plan, query, block.number[base + r])
        else:
            n_scored += decide(plan, query, block.number[base + r])
    return n_scored


cdef inline int64_t row_of(const Plan* plan, int64_t position) noexcept nogil:
    if plan.rows != NULL:
        return plan.rows[position]
    return row_of_slot(plan, position) if plan.codes != NULL else position


cdef void load_block(const Plan* plan, FloatChunk* block, int64_t first, int64_t n_rows,
                     bint pack) noexcept nogil:
    cdef int64_t i, row, n_slots
    cdef float* scratch = NULL
    # Rows that are widened are read one by one, not 32 at once: the machine asks for too few.
    cdef bint asks = block.widened != NULL or plan.rows != NULL
    block.n_rows = n_rows
    block.n_panels = (n_rows + kPanelRows - 1) // kPanelRows
    n_slots = block.n_panels * kPanelRows
    for i in range(n_slots):
        # Idle slots repeat the last row, so that tiles read what exists; their hits are cleared.
        row = row_of(plan, first + min(i, n_rows - 1))
        block.number[i] = first + min(i, n_rows - 1) if plan.codes != NULL else row
        if asks and i + AHEAD < n_rows:
            prefetch_row(plan.vectors, row_of(plan, first + i + AHEAD))
        if block.widened != NULL:
            scratch = block.widened + (i % kPanelRows if pack else i) * plan.dim
        block.row[i] = row_at(plan.vectors, row, scratch)
        block.reach[i] = plan.reach[row]
        if plan.bias != NULL:
            block.bias[i] = plan.bias[row]
            if plan.codes != NULL:
                block.bias[i] = boost_of_slot(plan, block.number[i])
        if pack and i % kPanelRows == kPanelRows - 1:
            plan.native.kernels.pack_panel(block.row + i + 1 - kPanelRows, plan.dim,
                                           block.panels + (i + 1 - kPanelRows) * plan.dim)


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
    cdef int64_t panel_bytes = rows * plan.dim * 4
    chunk.q0, chunk.n_queries, chunk.rows = q0, n_queries, rows
    chunk.packs = n_queries > ROW_QUERIES
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


cdef int64_t scan_floats(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t first,
                         int64_t end) noexcept nogil:
    """Pass the chunk over positions [first, end); returns the items scored canonically."""
    cdef const Kernels* kernels = plan.native.kernels
    cdef int64_t group = kTileQueries if chunk.packs else 1
    cdef int64_t q = 0, count, panel, i, n_scored = 0
    cdef const float* query
    load_block(plan, chunk, first, end - first, chunk.packs)
    while q < chunk.n_queries:
        count = min(group, chunk.n_queries - q)
        query = plan.scan_queries + (chunk.q0 + q) * plan.dim
        for panel in range(chunk.n_panels):
            i = panel * kPanelRows
            if not chunk.packs and plan.metric == L2:
                kernels.l2_rows(query, chunk.row + i, plan.dim, chunk.tile)
            elif not chunk.packs:
                kernels.dot_rows(query, chunk.row + i, plan.dim, chunk.tile)
            elif plan.metric == L2:
                kernels.l2_panel(chunk.panels + i * plan.dim, chunk.packed + q * plan.dim, plan.dim,
                                 count, chunk.tile)
            else:
                kernels.dot_panel(chunk.panels + i * plan.dim, chunk.packed + q * plan.dim,
                                  plan.dim, count, chunk.tile)
            for i in range(count):
                n_scored += settle(plan, queries + q + i, chunk, panel,
                                   chunk.tile + i * kPanelRows)
        q += count
    return n_scored
