"""The certified int8 scan: integers nominate, an error bound proves what may be dropped.

Write y for an item (cosine: x / |x|), mu for the mean of all y, z = (y - mu) unit for the centred
item and z ~ s c for its codes, with |z - s c| and |c| kept. A query y_q (cosine: of length 1) is
centred by the multiple A of mu that leaves it shortest, p = y_q - A mu, scaled to length 1, and
coded likewise: p / P ~ s_q c_q. With I = c_q . c, exact in integers,

    (y_q . y - y_q . mu) unit / P  =  p.z / P + (A / P) mu.z
    |p.z / P - s_q s I|  <=  |z - s c| + |p / P - s_q c_q| |s c|          (Cauchy-Schwarz, twice)

so in units of s_q s, where the scan works, an item whose

    I + beta b + delta E + epsilon H + slack   <=   alpha / s

cannot exceed tau: b = mu.z / s, E = |z - s c| / s and H = |c| are the item's (of a panel of 32, the
largest), beta = A / (P s_q), delta = 1 / s_q, epsilon = |p / P - s_q c_q| / s_q are the query's and
alpha = (tau - y_q . mu) unit / (P s_q). Under l2, -|y_q - y|^2 / 2 = p.z - |z|^2 / 2 - P^2 / 2 in
units, which is the same form with A = 1 and b = -|z|^2 / (2 s).

Codes come on two grids. On the fine one c is an integer of 8 bits; on the coarse one its upper four
stand for it, c = 16 h - 120.5, with a residual and a length of their own. Nothing else differs. A
few queries wait for memory, so they read the coarse grid: half the bytes, and a hundred times the
survivors, which are still few.

Centring both sides is what keeps a cone of nearly equal vectors apart; without it every item
survives. Where mu is short it does nothing, so there mu = 0 and b = 0. Rows of nearly equal steps
then share one, and the panel's limit is the same for all of its items: one integer a query, made
before the sums are, instead of a float32 test of each sum. Rounding it down to an integer drops
nothing more, for I is one. Rows are laid out by step within windows of 1,024 for that.

The slack covers rounding. The test itself runs in float32: at most 8 roundings of
2^-24 of terms no larger than |alpha| S, |beta| B, delta E, epsilon H and 255 |c_q|_1 (S the
largest 1 / s, B the largest |b| of the panel); 2^-20 of each is added. Everything before it runs in
float64, where the canonical score, z, mu.z and y_q . mu are off by less than
kappa = (8 dim + 64) 2^-53 (|y_q| + |A mu|) (|y| + |mu|). tests/retrieval/test_certificate.py holds
the bound against exact arithmetic.

Nothing may overflow but the slack, which then lets all pass: beta b = -inf would drop whatever it
met. As P >= 2^-40 |y_q| (l2: and >= 2^-40), s_q >= 2^-30, |mu| >= 2^-40 or 0 and |z| / s <= 2^15,
beta stays below 2^111 and beta b below 2^87, far from where alpha is cut, 3e38. A boost counts
gamma = unit / (P s_q) times; where gamma, or what it multiplies, leaves that range, zeta = inf.

What passes is tested again in float64, without the float32 test's own rounding. What is left is not
scored yet: the same terms taken away give a lower bound, and the k-th best lower bound of all
that a query has met is as good a limit as tau. Only what still reaches the limit at the end of the
walk, or when a query's list is full, is scored canonically, prefetched.

Ties. k items with lower bounds at the limit score no less than a newcomer at or below it, and where
ordinals ascend they also come before it. What is already listed may come before them, and elsewhere
so may a newcomer: there the limit is lowered until what it drops does not even tie after rounding
to float32 (`_code_queries.raise_limit`). Scores cut off at the ends of float32 set no limit.
"""

from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.algorithm cimport nth_element, push_heap

from recengine.retrieval._code_queries cimport (
    Bound,
    CodeChunk,
    CodeQuery,
    Found,
    bound_of,
    raise_limit,
    seat,
    set_floor,
)
from recengine.retrieval._kernels cimport (
    COSINE,
    CodeWalk,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport (
    CHUNK_QUERIES,
    Plan,
    Query,
    any_allowed,
    boost_of_item,
    decide_item,
    holds_copies,
    item_of_slot,
    row_of_item,
)
from recengine.retrieval._rows cimport prefetch_row


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)
    void __builtin_prefetch(const void* address)

cdef enum:
    AHEAD = 6            # vectors asked for before the one that is scored, their rows thrice so
    STEP = 16            # so many are scored at least before tau rules out others


cdef inline int64_t tiles_of(int64_t n_queries) noexcept nogil:
    return (n_queries + kTileQueries - 1) // kTileQueries


cdef int64_t thin(CodeQuery* coded, int64_t first, int64_t to, double limit) noexcept nogil:
    """Move what was found from `first` on and reaches the limit to `to`; returns the list's end."""
    cdef int64_t i, kept = to
    for i in range(first, coded.n_found):
        if not -coded.found[i].first <= limit:
            coded.found[kept] = coded.found[i]
            kept += 1
    coded.n_found = kept
    return kept


cdef inline void ask_for(const Plan* plan, int64_t row) noexcept nogil:
    """Prefetch what the canonical score of a row is made of."""
    prefetch_row(plan.vectors, row)
    if plan.metric == COSINE:
        __builtin_prefetch(plan.sq_norms + row)


cdef int64_t score_found(const Plan* plan, const CodeQuery* coded, Query* query, int64_t first,
                         int64_t end) noexcept nogil:
    cdef int64_t i, n_scored = 0
    cdef const Found* found = coded.found
    for i in range(first, min(first + AHEAD, end)):
        ask_for(plan, row_of_item(plan, found[i].second))
    for i in range(first, end):
        if plan.codes.order != NULL and i + 3 * AHEAD < end:
            __builtin_prefetch(plan.codes.order + found[i + 3 * AHEAD].second)
        if i + AHEAD < end:
            ask_for(plan, row_of_item(plan, found[i + AHEAD].second))
        n_scored += decide_item(plan, query, found[i].second)
    return n_scored


cdef int64_t settle(const Plan* plan, CodeChunk* chunk, Query* queries,
                    int64_t q) noexcept nogil:
    """Score what query q has found and may need; returns how many items that were.

    The k with the best upper bounds go first: their scores rule most of the others out.
    """
    cdef CodeQuery* coded = chunk.queries + q
    cdef int64_t n = thin(coded, 0, 0, coded.keep), step = max(plan.k, STEP), first = 0, last
    cdef int64_t n_scored = 0
    if n > step:
        nth_element(coded.found, coded.found + step, coded.found + n)
    while first < n:
        last = min(n, first + step)
        n_scored += score_found(plan, coded, queries + q, first, last)
        set_floor(plan, chunk, queries + q, q)
        step = STEP if first == 0 else step * 2
        first = last
        n = thin(coded, first, first, coded.keep)
    coded.n_found = 0
    return n_scored


cdef int64_t make_room(const Plan* plan, CodeChunk* chunk, Query* queries,
                       int64_t q) noexcept nogil:
    """Score some of a list that is as long as its room; returns how many items that were.

    What the limit has overtaken goes for nothing, then the best are scored: the limit rises and
    most of the others need no score. Those that do may fill more room, up to half the capacity.
    """
    cdef CodeQuery* coded = chunk.queries + q
    cdef int64_t n = thin(coded, 0, 0, coded.keep), step = max(plan.k, n // 8), n_scored = 0
    while 2 * n > coded.room:
        step = min(step, n)
        nth_element(coded.found, coded.found + step, coded.found + n)
        n_scored += score_found(plan, coded, queries + q, 0, step)
        set_floor(plan, chunk, queries + q, q)
        n = thin(coded, step, 0, coded.keep)
        if coded.room < chunk.capacity:
            coded.room = min(2 * coded.room, chunk.capacity)
            break
        step *= 2
    return n_scored


cdef int64_t settle_codes(const Plan* plan, CodeChunk* chunk, Query* queries) noexcept nogil:
    """Score what all queries have found; returns how many items that were."""
    cdef int64_t q, n_scored = 0
    for q in range(chunk.n_queries):
        n_scored += settle(plan, chunk, queries, q)
    return n_scored


cdef int64_t drop_finished(const Plan* plan, CodeChunk* chunk, Query* queries,
                           int64_t panel) noexcept nogil:
    """Settle and leave out the queries whose limit no item from `panel` on reaches at any angle.

    Slots are in order of falling norm then. Tiles are made anew only if that saves one. Returns
    how many items were scored canonically.
    """
    cdef int64_t place, q, n_kept = 0, n_scored = 0
    cdef double reach = plan.codes.block_reach[panel] * (1.0 + 2.0 ** -40), best
    cdef const CodeQuery* coded
    cdef bint[CHUNK_QUERIES] keep
    for place in range(chunk.n_seated):
        q = chunk.seated[place]
        coded = chunk.queries + q
        best = sqrt(queries[q].sq_norm) * reach + plan.max_bias
        best = best * coded.tau_scale * (1.0 + 2.0 ** -40)
        best += coded.tau_shift + 2.0 ** -40 * fabs(coded.tau_shift)
        keep[place] = not best <= coded.alpha
        n_kept += keep[place]
    if n_kept == chunk.n_seated or (n_kept != 0
                                    and tiles_of(n_kept) == tiles_of(chunk.n_seated)):
        return 0
    n_kept = 0
    for place in range(chunk.n_seated):
        q = chunk.seated[place]
        if keep[place]:
            chunk.member[n_kept] = q
            n_kept += 1
        else:
            n_scored += settle(plan, chunk, queries, q)
    seat(chunk, n_kept)
    return n_scored


cdef inline void replace_top(double* heap, int64_t n, double value) noexcept nogil:
    """Put `value` in the place of the largest of a max-heap.

    The hole goes down to a leaf without asking for `value`, which then rises, mostly not at all:
    fewer branches that nobody can foretell.
    """
    cdef int64_t hole = 0, child = 2, above
    while child < n:
        child -= heap[child - 1] > heap[child]
        heap[hole] = heap[child]
        hole, child = child, 2 * child + 2
    if child == n:
        heap[hole] = heap[child - 1]
        hole = child - 1
    while hole > 0:
        above = (hole - 1) >> 1
        if heap[above] >= value:
            break
        heap[hole] = heap[above]
        hole = above
    heap[hole] = value


cdef void meet(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t q, int64_t slot,
               int64_t item, double raw, double boost, int64_t* n_scored) noexcept nogil:
    """Test an item with its own bounds, in float64; keep it and its lower bound if it survives."""
    cdef CodeQuery* coded = chunk.queries + q
    cdef Bound bound = bound_of(plan, coded, chunk.coarse, slot, raw)
    cdef double upper = (bound.centre + bound.slack) * bound.step + boost * coded.own.gamma, lower
    if upper <= coded.alpha:
        return
    if plan.filters and not any_allowed(plan, queries + q, item):
        return
    if coded.n_found == coded.room:
        n_scored[0] += make_room(plan, chunk, queries, q)
        if upper <= coded.alpha:
            return
    coded.found[coded.n_found].first, coded.found[coded.n_found].second = -upper, item
    coded.n_found += 1
    if plan.bias != NULL and holds_copies(plan, item):
        return  # the boost is that of one of the copies, which may be filtered
    lower = (bound.centre - bound.slack) * bound.step + boost * coded.own.gamma
    if coded.n_lower == plan.k:
        if -lower >= coded.lower[0]:
            return
        replace_top(coded.lower, plan.k, -lower)
    else:
        coded.lower[coded.n_lower] = -lower
        coded.n_lower += 1
        push_heap(coded.lower, coded.lower + coded.n_lower)
    if coded.n_lower == plan.k:
        raise_limit(plan, chunk, q)


cdef uint32_t unfiltered(const Plan* plan, int64_t panel) noexcept nogil:
    """Which rows of a panel tombstones and mask leave, where its slots are rows and ordinals.

    Elsewhere all: `allowed` asks for each item.
    """
    cdef uint64_t bits = <uint64_t>0xffffffff
    cdef int64_t word = panel >> 1, shift = 32 * (panel & 1)
    if plan.codes.order != NULL or plan.codes.rows_inside:
        return <uint32_t>bits
    if plan.alive != NULL:
        bits &= plan.alive[word] >> shift
    if plan.mask != NULL and plan.ordinals == NULL:
        bits &= plan.mask[word] >> shift if <uint64_t>(word * 64) < plan.mask_bits else 0
    return <uint32_t>bits


cdef int64_t meet_hits(const Plan* plan, CodeChunk* chunk, Query* queries, const CodeWalk* walk,
                       int64_t start, int64_t panel, int64_t n_rows,
                       int64_t* n_scored) noexcept nogil:
    """Meet what a tile has hit in one panel of `n_rows` rows; returns how many items that were."""
    cdef int64_t i, q, r, item, n_hits = 0
    cdef uint32_t hits, valid = <uint32_t>0xffffffff
    cdef bint masked = plan.mask != NULL and (plan.codes.order != NULL or plan.codes.rows_inside)
    cdef double raw, boost = 0.0
    if n_rows < kPanelRows:
        valid = (<uint32_t>1 << n_rows) - 1
    valid &= unfiltered(plan, panel)
    for i in range(walk.n_queries):
        hits = walk.masks[i] & valid
        while hits != 0:
            r = __builtin_ctz(hits)
            hits &= hits - 1
            n_hits += 1
            q, item = chunk.seated[start + i], item_of_slot(plan, panel * kPanelRows + r)
            if masked and not any_allowed(plan, queries + q, item):
                continue
            raw = walk.raw[i * kPanelRows + r]
            if plan.bias != NULL:
                boost = walk.boost[(panel - walk.boost_first) * kPanelRows + r]
            meet(plan, chunk, queries, q, panel * kPanelRows + r, item, raw, boost, n_scored)
    return n_hits


cdef void load_boosts(const Plan* plan, CodeChunk* chunk, int64_t first,
                      int64_t end) noexcept nogil:
    """Bring the biases of slots [first, end) into their order; slots beyond the end get 0."""
    cdef int64_t slot
    for slot in range(first, (end + kPanelRows - 1) // kPanelRows * kPanelRows):
        chunk.boost[slot - first] = 0.0
        if slot < end:
            chunk.boost[slot - first] = boost_of_item(plan, item_of_slot(plan, slot))


cdef int64_t scan_codes(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t first,
                        int64_t end, int64_t* n_scored) noexcept nogil:
    """Pass the chunk over slots [first, end), first a multiple of 32; returns the hits.

    Adds to `n_scored` what had to be scored canonically on the way.
    """
    cdef int64_t start = 0, panel, n_hits = 0
    cdef int64_t first_panel = first // kPanelRows, last = (end + kPanelRows - 1) // kPanelRows
    cdef uint32_t[12] masks
    cdef CodeWalk walk
    walk.high, walk.low = plan.codes.high, plan.codes.low
    if chunk.coarse:
        walk.low = <const uint8_t*>NULL
    walk.boost, walk.boost_first = <const float*>NULL, first_panel
    walk.rows_inside = plan.codes.rows_inside
    walk.pairs, walk.raw, walk.masks = chunk.pairs, chunk.raw, masks
    if plan.bias != NULL:
        load_boosts(plan, chunk, first, end)
        walk.boost = chunk.boost
    while start < chunk.n_seated:
        walk.n_queries = min(kTileQueries, chunk.n_seated - start)
        walk.words = chunk.words + start * 2 * chunk.pairs
        walk.queries = chunk.tiles + start // kTileQueries
        panel = plan.native.next_hit(plan.native.kernels[0], walk, first_panel, last)
        while panel < last:
            n_hits += meet_hits(plan, chunk, queries, &walk, start, panel,
                                end - panel * kPanelRows, n_scored)
            panel = plan.native.next_hit(plan.native.kernels[0], walk, panel + 1, last)
        start += walk.n_queries
    return n_hits
