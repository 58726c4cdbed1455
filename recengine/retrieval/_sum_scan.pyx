"""The float64 tiles: where float32 cannot tell items apart, all of a tile are scored canonically.

A tile gives the canonical sums of up to 12 queries and a panel of 32 rows, bit for bit those of one
pair at a time. Most of them need no score: a bound shows that it would not exceed tau, the worst
score of the query's full heap. Only the others go through `decide`, their sums known.

The bound. Let T be the middle between tau and the next float32 above, and u = 2^-53. A score is
the rounded value of v + b, v the sum (dot), the sum over |q| |x| (cosine) or the negative root of
the sum (l2) and b the bias; below T it rounds to tau or less. The test computes, for w = |q| under
cosine and 1 elsewhere,

    sum scale + w b   <=   w (T - 2^-44 (|T| + B))

with scale ~ 1 / |x| under cosine, from its float32 rounding by one step of Newton's method, which
leaves a relative error below 2^-47; B is the largest |b|. All roundings on both sides, and those of
v and v + b, are together below 2^-46 (|v| + |b|) and |v| <= |v + b| + |b|, so what is dropped lies
below T. Under l2 the same is asked of squares: -sum <= -T^2 (1 + 2^-44). Where the norm lies beyond
what float32 can invert, scale is NaN, and the score is looked at; for a query of length 0, w = 1.

Ties. A newcomer that equals tau belongs to the answer only if its ordinal is lower than the worst
one's. Where ordinals ascend that cannot be; elsewhere a panel whose lowest ordinal is higher is
tested as if they did, which keeps data whose scores all tie from being looked at item by item.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fabs, nextafterf, sqrt
from libc.stdint cimport int64_t, uint32_t

from recengine.retrieval._float_scan cimport FloatChunk
from recengine.retrieval._kernels cimport COSINE, L2, Kernels, SumTest, kPanelRows, kTileQueries
from recengine.retrieval._plan cimport (
    Plan,
    Query,
    decide,
    decide_all,
    ordinal_of,
    row_of_item,
    take,
)


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)


cdef bint open_sums(const Plan* plan, FloatChunk* chunk, const Query* queries) noexcept nogil:
    """Make room and bring the queries into float64, once; False if memory is short."""
    cdef int64_t q = 0, count, i, j
    cdef const float* vector
    cdef double* wide
    if chunk.wide != NULL:
        return chunk.sums != NULL
    chunk.wide = <double*>take(
        plan, chunk.n_queries * plan.dim * sizeof(double) if chunk.packs else 64)
    chunk.scale = <double*>take(plan, chunk.rows * sizeof(double))
    chunk.lowest = <int64_t*>take(plan, chunk.rows // kPanelRows * sizeof(int64_t))
    chunk.limit = <double*>take(plan, 3 * chunk.n_queries * sizeof(double))
    chunk.worst = <int64_t*>take(plan, chunk.n_queries * sizeof(int64_t))
    if (chunk.wide == NULL or chunk.scale == NULL or chunk.lowest == NULL or chunk.limit == NULL
            or chunk.worst == NULL):
        return False
    chunk.tie_limit = chunk.limit + chunk.n_queries
    chunk.weight = chunk.tie_limit + chunk.n_queries
    for q in range(chunk.n_queries):
        chunk.weight[q] = 1.0
        if plan.metric == COSINE and queries[q].sq_norm != 0.0:
            chunk.weight[q] = sqrt(queries[q].sq_norm)
    q = 0
    while chunk.packs and q < chunk.n_queries:
        count = min(kTileQueries, chunk.n_queries - q)
        wide = chunk.wide + q * plan.dim
        for i in range(count):
            vector = queries[q + i].vector
            for j in range(plan.dim):
                wide[j * count + i] = vector[j]
        q += count
    chunk.measured = False
    chunk.sums = <double*>take(plan, kTileQueries * kPanelRows * sizeof(double))
    return chunk.sums != NULL


cdef double limit_of(const Plan* plan, float tau, double weight) noexcept nogil:
    """What a scaled sum must exceed if its score is to exceed tau."""
    cdef double middle
    if tau == -INFINITY:
        return -INFINITY
    if tau >= FLT_MAX:
        return INFINITY
    middle = 0.5 * (<double>tau + <double>nextafterf(tau, <float>INFINITY))
    if plan.metric != L2:
        return weight * (middle - 2.0 ** -44 * (fabs(middle) + plan.max_bias))
    return INFINITY if middle >= 0.0 else -middle * middle * (1.0 + 2.0 ** -44)


cdef void set_limits(const Plan* plan, FloatChunk* chunk, const Query* queries, int64_t q,
                     int64_t count) noexcept nogil:
    """Take over the thresholds of queries [q, q + count), which may have risen."""
    cdef int64_t i
    cdef float tau
    for i in range(q, q + count):
        if queries[i].count < plan.k:
            chunk.limit[i] = limit_of(plan, queries[i].floor, chunk.weight[i])
            chunk.tie_limit[i], chunk.worst[i] = chunk.limit[i], 0
            continue
        tau = -queries[i].heap[0].first
        chunk.limit[i] = limit_of(plan, max(tau, queries[i].floor), chunk.weight[i])
        chunk.worst[i] = queries[i].heap[0].second
        if not plan.ascending:
            tau = nextafterf(tau, -<float>INFINITY)
            chunk.tie_limit[i] = limit_of(plan, max(tau, queries[i].floor), chunk.weight[i])


cdef inline int64_t row_in(const Plan* plan, const FloatChunk* chunk, int64_t i) noexcept nogil:
    """The row in slot `i` of the loaded block; of equal rows the first."""
    return chunk.number[i] if plan.codes == NULL else row_of_item(plan, chunk.number[i])


cdef void invert_norms(const Plan* plan, FloatChunk* chunk) noexcept nogil:
    """Set scale to the inverse norms of the loaded block, by Newton's step."""
    cdef int64_t i, n_slots = chunk.n_panels * kPanelRows
    cdef double* scale = chunk.scale
    cdef const float* reach = chunk.reach
    cdef double inverse
    for i in range(n_slots):
        scale[i] = plan.sq_norms[row_in(plan, chunk, i)]
    for i in range(n_slots):
        inverse = reach[i]
        scale[i] = inverse * (1.5 - 0.5 * scale[i] * inverse * inverse)


cdef void measure(const Plan* plan, FloatChunk* chunk) noexcept nogil:
    """Set scale, and where ordinals do not ascend the panels' lowest, for the loaded block."""
    cdef int64_t i, panel, ordinal, n_slots = chunk.n_panels * kPanelRows
    chunk.measured = True
    if plan.metric == COSINE:
        invert_norms(plan, chunk)
    else:
        for i in range(n_slots):
            chunk.scale[i] = -1.0 if plan.metric == L2 else 1.0
    if plan.ascending:
        return
    for panel in range(chunk.n_panels):
        chunk.lowest[panel] = -1
        if plan.codes != NULL and plan.codes.starts != NULL and not plan.rising:
            continue  # the lowest ordinal of equal rows need not be that of the first
        for i in range(panel * kPanelRows, (panel + 1) * kPanelRows):
            ordinal = ordinal_of(plan, row_in(plan, chunk, i))
            if i == panel * kPanelRows or ordinal < chunk.lowest[panel]:
                chunk.lowest[panel] = ordinal


cdef void add_up(const Plan* plan, FloatChunk* chunk, const Query* queries, int64_t q,
                 int64_t count, int64_t panel) noexcept nogil:
    """The canonical sums of queries [q, q + count) and a panel."""
    cdef const Kernels* kernels = plan.native.kernels
    cdef int64_t first = panel * kPanelRows
    cdef const float* items = chunk.panels + first * plan.dim
    if chunk.packs and plan.metric == L2:
        kernels.canonical_sqdist_panel(items, chunk.wide + q * plan.dim, plan.dim, count,
                                       chunk.sums)
    elif chunk.packs:
        kernels.canonical_dot_panel(items, chunk.wide + q * plan.dim, plan.dim, count, chunk.sums)
    elif plan.metric == L2:
        kernels.canonical_sqdist_rows(queries[q].vector, chunk.row + first, plan.dim, chunk.sums)
    else:
        kernels.canonical_dot_rows(queries[q].vector, chunk.row + first, plan.dim, chunk.sums)


cdef int64_t decide_by_sums(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t q,
                            int64_t count, int64_t panel) noexcept nogil:
    """Sum up queries [q, q + count), a tile, against a panel; returns the items looked at alone."""
    cdef int64_t base = panel * kPanelRows, i, r, n_scored = 0
    cdef uint32_t valid = <uint32_t>0xffffffff, hits
    cdef uint32_t[12] masks
    cdef double[12] limits
    cdef SumTest test
    if not chunk.measured:
        measure(plan, chunk)
    add_up(plan, chunk, queries, q, count, panel)
    test.sums, test.scale, test.bias = chunk.sums, chunk.scale + base, <const float*>NULL
    if plan.bias != NULL:
        test.bias = chunk.bias + base
    test.weight, test.limit = chunk.weight + q, chunk.limit + q
    if not plan.ascending:
        test.limit = limits
        for i in range(count):
            limits[i] = chunk.limit[q + i]
            if chunk.lowest[panel] <= chunk.worst[q + i]:
                limits[i] = chunk.tie_limit[q + i]
    if not plan.native.kernels.sum_hits(test, count, masks):
        return 0
    if chunk.n_rows - base < kPanelRows:
        valid = (<uint32_t>1 << (chunk.n_rows - base)) - 1
    for i in range(count):
        hits = masks[i] & valid
        while hits != 0:
            r = __builtin_ctz(hits)
            hits &= hits - 1
            if plan.codes != NULL:
                n_scored += decide_all(plan, queries + q + i, chunk.number[base + r],
                                       chunk.sums + i * kPanelRows + r)
            else:
                n_scored += decide(plan, queries + q + i, chunk.number[base + r],
                                   chunk.sums + i * kPanelRows + r)
        if masks[i] & valid != 0:
            set_limits(plan, chunk, queries, q + i, 1)
    return n_scored
