"""A limit for each query before the walk begins, from the best item of each of the first panels.

Without one, every item of the first panel survives, and of the next ones too many: half of what a
short table costs. k items of different panels, each with a lower bound of its score, are k that are
no worse than the worst of these bounds: what does not even reach that is not among the best k.
Ordinals say nothing here, for these items are met later than what is dropped; so the limit lies
below what would tie after rounding (`_code_queries.below_ties`).

A larger k looks at more panels, where the table is long. Any item would do, so which one stands for
its panel need not be exact. Under filters too few of
them may be had for this to pay.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libcpp.algorithm cimport nth_element

from recengine.retrieval._code_queries cimport (
    Bound,
    CodeChunk,
    CodeQuery,
    Found,
    below_ties,
    bound_of,
    raise_limit,
)
from recengine.retrieval._kernels cimport (
    PanelFacts,
    bias_of,
    kPanelBytes,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport Plan, facts_of, take


cdef struct Seeds:
    int64_t panel         # the first
    int64_t n_panels
    float* step           # [n_panels][32]
    int32_t* raw          # [n_panels][12][32]
    float* scores         # [n_panels][32]
    Found* best           # [n_panels] of a query: (- score, panel)


cdef int64_t place_of_best(const float* scores, float best) noexcept nogil:
    cdef int64_t r = 0
    while r < kPanelRows - 1 and not scores[r] == best:
        r += 1
    return r


cdef void seed_query(const Plan* plan, CodeChunk* chunk, int64_t q, const int32_t* raw,
                     Seeds* seeds) noexcept nogil:
    """`raw` is that of the query in the first panel; the next ones follow, a tile apart."""
    cdef CodeQuery* coded = chunk.queries + q
    cdef int64_t i, r, panel, tile = kTileQueries * kPanelRows
    cdef double lowest = coded.highest, least
    cdef const float* bias
    cdef Bound bound
    for i in range(seeds.n_panels):
        bias = bias_of(facts_of(plan, (seeds.panel + i) * kPanelRows)[0], plan.codes.rows_inside)
        seeds.best[i].first = -plan.native.kernels.panel_best(
            raw + i * tile, seeds.step + i * kPanelRows, bias, coded.own.offset, coded.own.beta,
            seeds.scores + i * kPanelRows)
        seeds.best[i].second = i
    nth_element(seeds.best, seeds.best + plan.k, seeds.best + seeds.n_panels)
    for i in range(plan.k):
        panel = seeds.best[i].second
        r = place_of_best(seeds.scores + panel * kPanelRows, -<float>seeds.best[i].first)
        bound = bound_of(plan, coded, False, (seeds.panel + panel) * kPanelRows + r,
                         raw[panel * tile + r])
        least = (bound.centre - bound.slack) * bound.step
        lowest = least if not least >= lowest else lowest
    if lowest > coded.lowest:
        coded.seed = below_ties(plan, coded, lowest)
        raise_limit(plan, chunk, q)


cdef bint seed_limits(const Plan* plan, CodeChunk* chunk, int64_t first,
                      int64_t end) noexcept nogil:
    """Give the seated queries a limit from the whole panels of slots [first, end).

    False where memory is short. pre: the fine grid; `seeds` of these slots.
    """
    cdef Seeds seeds
    cdef int64_t start = 0, n_queries, i, q, r, bytes = plan.codes.pairs * kPanelBytes
    cdef const PanelFacts* facts
    cdef const uint8_t* high
    seeds.panel, seeds.n_panels = first // kPanelRows, (end - first) // kPanelRows
    seeds.step = <float*>take(plan, seeds.n_panels * kPanelRows * sizeof(float))
    seeds.raw = <int32_t*>take(plan, seeds.n_panels * kTileQueries * kPanelRows * sizeof(int32_t))
    seeds.scores = <float*>take(plan, seeds.n_panels * kPanelRows * sizeof(float))
    seeds.best = <Found*>take(plan, seeds.n_panels * sizeof(Found))
    if (seeds.step == NULL or seeds.raw == NULL or seeds.scores == NULL or seeds.best == NULL):
        return False
    for i in range(seeds.n_panels):
        facts = facts_of(plan, (seeds.panel + i) * kPanelRows)
        for r in range(kPanelRows):
            seeds.step[i * kPanelRows + r] = 1 / facts.inverse_step[r]
    while start < chunk.n_seated:
        n_queries = min(kTileQueries, chunk.n_seated - start)
        for i in range(seeds.n_panels):
            high = plan.codes.high + (seeds.panel + i) * plan.codes.stride
            plan.native.kernels.dot_codes(
                high, plan.codes.low + (seeds.panel + i) * bytes,
                chunk.words + start * 2 * chunk.pairs, chunk.pairs, n_queries,
                seeds.raw + i * kTileQueries * kPanelRows)
        for i in range(n_queries):
            q = chunk.seated[start + i]
            seed_query(plan, chunk, q, seeds.raw + i * kPanelRows, &seeds)
        start += n_queries
    return True
