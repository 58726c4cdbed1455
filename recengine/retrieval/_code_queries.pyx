"""Queries in int8 codes, the coefficients of their test, and the limit that rises as they walk.

The proof stands in `_code_scan`.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fabs, nearbyint, nextafterf, sqrt
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.string cimport memset

from recengine.retrieval._kernels cimport (
    COSINE,
    L2,
    CodeQueries,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport Plan, Query, take, threshold


cdef enum:
    SPARE_FOUND = 160    # capacity of a query's list beyond 8 k: half holds what stays open,
    SPARE_COARSE = 8192  # or, of few queries, so much: the coarse grid leaves more open
    FIRST_ROOM = 64      # so exact scores raise its limit from this length on, beyond 4 k

cdef double TEST_ROUNDING = 2.0 ** -20
cdef double TIE_ROUNDING = 2.0 ** -20
cdef double FINE_OFFSET = 128.0     # what a code has more in the planes: c = (16 h + l) - 128,
cdef double COARSE_OFFSET = 120.5   # or 16 h - 120.5 in the middle of what h stands for
cdef double SMALLEST_EXTENT = 2.0 ** -40
cdef double SMALLEST_STEP = 2.0 ** -30
cdef double LARGEST_BOOST = 1e30
cdef double SMALLEST_BOOST = 2.0 ** -126


cdef double alpha_of(const Plan* plan, const CodeQuery* coded, double tau) noexcept nogil:
    """The limit in units of the codes that scores up to tau stay within."""
    cdef double alpha
    if tau == -INFINITY:
        return -INFINITY
    if plan.metric == L2 and tau > 0.0:
        alpha = INFINITY
    elif plan.metric == L2:
        tau *= plan.codes.unit
        alpha = -0.5 * tau * tau * (1.0 + (plan.dim + 64) * 2.0 ** -52) * coded.tau_scale
        alpha += coded.tau_shift
    else:
        alpha = tau * coded.tau_scale + coded.tau_shift
    return max(-3e38, min(alpha, 3e38))


cdef void set_floor(const Plan* plan, CodeChunk* chunk, const Query* query,
                    int64_t q) noexcept nogil:
    """Let the threshold of exact scores, which may have risen, raise the limit of query q."""
    cdef CodeQuery* coded = chunk.queries + q
    cdef float tau = threshold(plan, query)
    coded.floor = alpha_of(plan, coded, tau)
    coded.tie_floor = coded.floor
    if query.count == plan.k:
        coded.tie_floor = alpha_of(plan, coded, nextafterf(tau, -<float>INFINITY))
    raise_limit(plan, chunk, q)


cdef double denormal_gap(const Plan* plan, const CodeQuery* coded,
                         double alpha) noexcept nogil:
    """How much of alpha the smallest float32, 2^-149, is worth there, twice over."""
    cdef double distance
    if plan.metric != L2:
        return 2.0 ** -148 * coded.tau_scale
    distance = sqrt(max(0.0, 2.0 * (coded.tau_shift - alpha) / coded.tau_scale))
    return 2.0 ** -147 * plan.codes.unit * coded.tau_scale * (
        distance + 2.0 ** -147 * plan.codes.unit)


cdef double below_ties(const Plan* plan, const CodeQuery* coded, double bound) noexcept nogil:
    """What lies below this does not even tie, after rounding to float32, with what lies above."""
    return bound - TIE_ROUNDING * (fabs(bound) + fabs(coded.tau_shift)) - (
        denormal_gap(plan, coded, bound) + 2.0 ** -100)


cdef void raise_limit(const Plan* plan, CodeChunk* chunk, int64_t q) noexcept nogil:
    """Make the k-th best lower bound, or the floor where that is higher, the limit of query q."""
    cdef CodeQuery* coded = chunk.queries + q
    cdef Coefficients* own = &coded.own
    cdef double alpha = max(coded.floor, coded.seed), bound, below
    coded.keep = max(coded.tie_floor, coded.seed)
    if coded.n_lower == plan.k and -coded.lower[0] > coded.lowest:
        bound = min(-coded.lower[0], coded.highest)
        below = below_ties(plan, coded, bound)
        coded.keep = max(coded.keep, below)
        alpha = max(alpha, bound if plan.ascending else below)
    coded.alpha = alpha
    own.alpha = <float>alpha
    if own.alpha > alpha:  # a limit that underflows must not rise
        own.alpha = nextafterf(own.alpha, -<float>INFINITY)
    alpha = fabs(alpha) if alpha != -INFINITY else 0.0
    if plan.bias != NULL:
        own.gamma = <float>coded.tau_scale
        alpha += plan.max_bias * coded.tau_scale
        if (max(<double>plan.max_bias, 1.0) * coded.tau_scale > LARGEST_BOOST
                or coded.tau_scale < SMALLEST_BOOST):  # gamma would be denormal: few bits are left
            own.gamma = 0.0
            alpha = INFINITY
    own.zeta = <float>((alpha * TEST_ROUNDING + coded.kappa) * (1.0 + TEST_ROUNDING))
    if coded.seat >= 0:
        tell(chunk, coded)


cdef double centred(const Plan* plan, int64_t q, double* p, double* length,
                    double* along) noexcept nogil:
    """Fill p; return the multiple of mu taken away; set |y_q| and y_q . mu (l2: in units)."""
    cdef const float* vector = plan.queries + q * plan.dim
    cdef const double* mean = plan.codes.mean
    cdef double square = 0.0, dot = 0.0, scale = 1.0, multiple = 1.0, mean_square
    cdef int64_t j
    if plan.metric == COSINE:
        scale = 1.0 / sqrt(plan.query_sq[q]) if plan.query_sq[q] > 0.0 else 0.0
    elif plan.metric == L2:
        scale = plan.codes.unit
    for j in range(plan.dim):
        p[j] = vector[j] * scale
        square += p[j] * p[j]
        dot += p[j] * mean[j]
    length[0], along[0] = sqrt(square), dot
    mean_square = plan.codes.mean_norm * plan.codes.mean_norm
    if plan.metric != L2:
        multiple = dot / mean_square if mean_square > 0.0 else 0.0
    for j in range(plan.dim):
        p[j] -= multiple * mean[j]
    return multiple


cdef void start_code_query(const Plan* plan, CodeChunk* chunk, const Query* query, int64_t q0,
                           int64_t q) noexcept nogil:
    cdef CodeQuery* coded = chunk.queries + q
    cdef Coefficients* own = &coded.own
    cdef int64_t j, code, total = 0, size = 0
    cdef double* p = chunk.scratch
    cdef double multiple, length, along, norm = 0.0, largest = 0.0, step, lost = 0.0, gap, extent
    cdef int8_t* bytes = <int8_t*>(chunk.codes + q * 2 * chunk.pairs)
    multiple = centred(plan, q0 + q, p, &length, &along)
    for j in range(plan.dim):
        norm += p[j] * p[j]
        largest = max(largest, fabs(p[j]))
    # A query (nearly) along mu has no direction of its own; its codes are then small, not wild.
    extent = max(sqrt(norm), SMALLEST_EXTENT * length)
    if plan.metric == L2:
        extent = max(extent, SMALLEST_EXTENT)
    if extent == 0.0:
        extent = 1.0
    step = largest / extent / plan.native.kernels.query_code_max
    if step < SMALLEST_STEP:
        step = SMALLEST_STEP if largest > 0.0 else 1.0
    for j in range(plan.dim):
        code = <int64_t>nearbyint(p[j] / extent / step)
        gap = p[j] / extent - step * code
        lost += gap * gap
        bytes[j] = <int8_t>code
        total += code
        size += code if code > 0 else -code
    own.beta = <float>(multiple / (extent * step))
    own.delta = <float>(sqrt(norm) / extent / step * (1.0 + 2.0 * TEST_ROUNDING))
    own.epsilon = <float>(sqrt(lost) / step * (1.0 + 2.0 * TEST_ROUNDING))
    own.eta = <float>(fabs(multiple) / (extent * step) * 2.0 * TEST_ROUNDING)
    coded.margin = 255.0 * size * TEST_ROUNDING
    coded.total = total
    set_scales(plan, coded, multiple, length, along, extent * step, extent)
    # Scores beyond float32 are all one score.
    coded.highest = alpha_of(plan, coded, FLT_MAX * (1.0 - 2.0 ** -22))
    coded.lowest = alpha_of(plan, coded, -FLT_MAX * (1.0 - 2.0 ** -22))
    if plan.metric == L2:
        coded.highest = 3e38
    set_floor(plan, chunk, query, q)


cdef void set_scales(const Plan* plan, CodeQuery* coded, double multiple, double length,
                     double along, double unit_step, double extent) noexcept nogil:
    cdef double mean = plan.codes.mean_norm, reach = plan.codes.largest_norm + mean
    cdef double rounding = (8 * plan.dim + 64) * 2.0 ** -53 / unit_step
    if plan.metric == L2:
        coded.tau_scale = 1.0 / unit_step
        coded.tau_shift = 0.5 * extent * extent / unit_step
        coded.kappa = rounding * (length + reach) * (length + reach)
        return
    coded.tau_scale = plan.codes.unit / unit_step
    coded.tau_shift = -along / unit_step
    coded.kappa = rounding * (length + fabs(multiple) * mean) * reach


cdef bint open_codes(const Plan* plan, CodeChunk* chunk, const Query* queries, int64_t q0,
                     int64_t n_queries, int64_t block_rows) noexcept nogil:
    """Code a chunk of queries; False where memory is short."""
    cdef int64_t n_tiles = (n_queries + kTileQueries - 1) // kTileQueries, q
    cdef int64_t word_bytes = n_queries * 2 * plan.codes.pairs * 4
    chunk.n_queries, chunk.n_seated = n_queries, 0
    chunk.pairs = plan.codes.pairs
    chunk.capacity = 8 * plan.k + (SPARE_COARSE if n_queries <= COARSE_QUERIES else SPARE_FOUND)
    chunk.capacity = min(chunk.capacity, plan.n_positions + 1)
    chunk.queries = <CodeQuery*>take(plan, n_queries * sizeof(CodeQuery))
    chunk.codes = <int32_t*>take(plan, word_bytes)
    chunk.member = <int64_t*>take(plan, n_queries * sizeof(int64_t))
    chunk.seated = <int64_t*>take(plan, n_queries * sizeof(int64_t))
    chunk.tiles = <CodeQueries*>take(plan, n_tiles * sizeof(CodeQueries))
    chunk.words = <int32_t*>take(plan, word_bytes)
    chunk.raw = <int32_t*>take(plan, kTileQueries * kPanelRows * 4)
    chunk.scratch = <double*>take(plan, plan.dim * sizeof(double))
    chunk.boost = <float*>take(plan, block_rows * sizeof(float) if plan.bias != NULL else 0)
    chunk.lower = <double*>take(plan, n_queries * plan.k * sizeof(double))
    chunk.found = <Found*>take(plan, n_queries * chunk.capacity * sizeof(Found))
    if (chunk.queries == NULL or chunk.codes == NULL or chunk.member == NULL or chunk.tiles == NULL
            or chunk.seated == NULL
            or chunk.words == NULL or chunk.raw == NULL or chunk.scratch == NULL
            or chunk.boost == NULL or chunk.lower == NULL or chunk.found == NULL):
        return False
    memset(chunk.queries, 0, n_queries * sizeof(CodeQuery))
    memset(chunk.codes, 0, word_bytes)
    memset(chunk.tiles, 0, n_tiles * sizeof(CodeQueries))
    for q in range(n_queries):
        chunk.member[q], chunk.queries[q].seat = q, -1
        chunk.queries[q].seed = -INFINITY
        chunk.queries[q].lower = chunk.lower + q * plan.k
        chunk.queries[q].found = chunk.found + q * chunk.capacity
        chunk.queries[q].room = chunk.capacity
        if n_queries <= COARSE_QUERIES:
            chunk.queries[q].room = min(4 * plan.k + FIRST_ROOM, chunk.capacity)
        start_code_query(plan, chunk, queries + q, q0, q)
    set_grid(chunk, False)
    seat(chunk, n_queries)
    return True


cdef void set_grid(CodeChunk* chunk, bint coarse) noexcept nogil:
    """Choose what stands for an item: its codes, or their upper four bits alone."""
    cdef int64_t q
    cdef double unsigned = FINE_OFFSET if not coarse else COARSE_OFFSET
    cdef CodeQuery* coded
    chunk.coarse = coarse
    for q in range(chunk.n_queries):
        coded = chunk.queries + q
        coded.own.offset = <float>(unsigned * coded.total - coded.margin)
        if coded.seat >= 0:
            tell(chunk, coded)


cdef void tell(CodeChunk* chunk, const CodeQuery* coded) noexcept nogil:
    """Bring a seated query's coefficients into its tile."""
    cdef CodeQueries* tile = chunk.tiles + coded.seat // kTileQueries
    cdef int64_t i = coded.seat % kTileQueries
    tile.alpha[i] = coded.own.alpha
    tile.beta[i] = coded.own.beta
    tile.delta[i] = coded.own.delta
    tile.epsilon[i] = coded.own.epsilon
    tile.zeta[i] = coded.own.zeta
    tile.eta[i] = coded.own.eta
    tile.offset[i] = coded.own.offset
    tile.gamma[i] = coded.own.gamma


cdef void seat(CodeChunk* chunk, int64_t n_seated) noexcept nogil:
    """Give the first `n_seated` of `member`, in any order, their seats; the others have none."""
    cdef int64_t q, place, first, size, groups = 2 * chunk.pairs, g
    cdef const int32_t* codes
    for place in range(chunk.n_seated):
        chunk.queries[chunk.seated[place]].seat = -1
    chunk.n_seated = n_seated
    for place in range(n_seated):
        q = chunk.member[place]
        chunk.seated[place] = q
        first = place - place % kTileQueries
        size = min(kTileQueries, n_seated - first)
        codes = chunk.codes + q * groups
        for g in range(groups):
            chunk.words[first * groups + g * size + place - first] = codes[g]
        chunk.queries[q].seat = place
        tell(chunk, chunk.queries + q)
