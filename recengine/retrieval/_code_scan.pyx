"""The certified int8 scan: integers nominate, an error bound proves what may be dropped.

Write y for an item (cosine: x / |x|), mu for the mean of all y, z = (y - mu) unit for the centred
item and z ~ s c for its codes, with |z - s c| and |c| kept. A query y_q (cosine: of length 1) is
centred by the multiple A of mu that leaves it shortest, p = y_q - A mu, scaled to length 1, and
coded likewise: p / P ~ s_q c_q. With I = c_q . c, an exact integer,

    (y_q . y - y_q . mu) unit / P  =  p.z / P + (A / P) mu.z
    |p.z / P - s_q s I|  <=  |z - s c| + |p / P - s_q c_q| |s c|          (Cauchy-Schwarz, twice)

so in units of s_q s, where the scan works, an item whose

    I + beta b + delta E + epsilon H + slack   <=   alpha / s

cannot exceed tau: b = mu.z / s, E = |z - s c| / s and H = |c| are the item's (of a panel of 32, the
largest), beta = A / (P s_q), delta = 1 / s_q, epsilon = |p / P - s_q c_q| / s_q are the query's and
alpha = (tau - y_q . mu) unit / (P s_q). Under l2, -|y_q - y|^2 / 2 = p.z - |z|^2 / 2 - P^2 / 2 in
units, which is the same form with A = 1 and b = -|z|^2 / (2 s).

Centring both sides is what keeps a cone of nearly equal vectors apart; without it every item
survives. The slack covers rounding. The test itself runs in float32: at most 8 roundings of
2^-24 of terms no larger than |alpha| S, |beta| B, delta E, epsilon H and 255 |c_q|_1 (S the
largest 1 / s, B the largest |b| of the panel); 2^-20 of each is added. Everything before it runs in
float64, where the canonical score, z, mu.z and y_q . mu are off by less than
kappa = (8 dim + 64) 2^-53 (|y_q| + |A mu|) (|y| + |mu|). tests/retrieval/test_certificate.py holds
the bound against exact arithmetic.

Nothing may overflow but the slack, which then lets all pass: beta b = -inf would drop whatever it
met. As P >= 2^-40 |y_q| (l2: and >= 2^-40), s_q >= 2^-30, |mu| >= 2^-40 or 0 and |z| / s <= 2^15,
beta stays below 2^111 and beta b below 2^87, far from where alpha is cut, 3e38. A boost counts
gamma = unit / (P s_q) times; where gamma, or what it multiplies, leaves that range, zeta = inf.

What the panel's bound lets through is tested again with its own E and H in float64; what is left is
prefetched, scored canonically a batch at a time, and raises tau.
"""

from libc.math cimport INFINITY, fabs, nearbyint, nextafterf, sqrt
from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from recengine.retrieval._kernels cimport (
    COSINE,
    L2,
    CodePanel,
    CodeQueries,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport CHUNK_QUERIES, CodeTable, Plan, Query, decide, threshold


cdef extern from * nogil:
    int __builtin_ctz(unsigned int)
    void __builtin_prefetch(const void*)
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    WIDE_QUERIES = 3     # up to so many queries are bound by memory: their codes get 16 bits

cdef double TEST_ROUNDING = 2.0 ** -20
cdef double SMALLEST_EXTENT = 2.0 ** -40
cdef double SMALLEST_STEP = 2.0 ** -30
cdef double LARGEST_BOOST = 1e30


cdef void set_limit(const Plan* plan, CodeChunk* chunk, const Query* query,
                    int64_t q) noexcept nogil:
    """Make tau, which has risen, the limit of query q."""
    cdef CodeQuery* coded = chunk.queries + q
    cdef CodeQueries* tile = chunk.tiles + q // kTileQueries
    cdef int64_t slot = q % kTileQueries
    cdef double alpha, tau
    coded.tau = threshold(plan, query)
    tau = coded.tau
    if tau == -INFINITY:
        alpha = -INFINITY
    elif plan.metric == L2 and tau > 0.0:
        alpha = INFINITY
    elif plan.metric == L2:
        tau *= plan.codes.unit
        alpha = -0.5 * tau * tau * (1.0 + (plan.dim + 64) * 2.0 ** -52) * coded.tau_scale
        alpha += coded.tau_shift
    else:
        alpha = tau * coded.tau_scale + coded.tau_shift
    alpha = max(-3e38, min(alpha, 3e38)) if tau != -INFINITY else alpha
    tile.alpha[slot] = <float>alpha
    if tile.alpha[slot] > alpha:  # a limit that underflows must not rise
        tile.alpha[slot] = nextafterf(tile.alpha[slot], -<float>INFINITY)
    alpha = fabs(alpha)
    if plan.bias != NULL:
        tile.gamma[slot] = <float>coded.tau_scale
        alpha += plan.max_bias * coded.tau_scale
        if max(<double>plan.max_bias, 1.0) * coded.tau_scale > LARGEST_BOOST:
            tile.gamma[slot] = 0.0
            alpha = INFINITY
    tile.zeta[slot] = <float>((alpha * TEST_ROUNDING + coded.kappa) * (1.0 + TEST_ROUNDING))


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
    cdef CodeQueries* tile = chunk.tiles + q // kTileQueries
    cdef int64_t slot = q % kTileQueries, j, code, high
    cdef int64_t first = q - slot, tile_size = min(kTileQueries, chunk.n_queries - first)
    cdef int64_t digits = 2 if chunk.wide else 1, sum_high = 0, sum_low = 0, total = 0
    cdef int64_t top = plan.native.kernels.query_code_max, base = 2 * top + 1
    cdef int64_t limit = base * top + top if chunk.wide else top
    cdef double* p = chunk.scratch
    cdef double multiple, length, along, norm = 0.0, largest = 0.0, step, lost = 0.0, gap, extent
    cdef int8_t* bytes = <int8_t*>(chunk.words + first * chunk.groups * digits)
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
    step = largest / extent / limit
    if step < SMALLEST_STEP:
        step = SMALLEST_STEP if largest > 0.0 else 1.0
    for j in range(plan.dim):
        code = <int64_t>nearbyint(p[j] / extent / step)
        gap = p[j] / extent - step * code
        lost += gap * gap
        high = <int64_t>nearbyint(<double>code / base) if chunk.wide else code
        bytes[((j >> 2) * tile_size * digits + slot) * 4 + (j & 3)] = <int8_t>high
        sum_high += high
        total += code if code > 0 else -code
        if chunk.wide:
            code -= high * base
            bytes[((j >> 2) * tile_size * digits + tile_size + slot) * 4 + (j & 3)] = <int8_t>code
            sum_low += code
    tile.base = base
    tile.beta[slot] = <float>(multiple / (extent * step))
    tile.delta[slot] = <float>(sqrt(norm) / extent / step * (1.0 + 2.0 * TEST_ROUNDING))
    tile.epsilon[slot] = <float>(sqrt(lost) / step * (1.0 + 2.0 * TEST_ROUNDING))
    tile.eta[slot] = <float>(fabs(multiple) / (extent * step) * 2.0 * TEST_ROUNDING)
    tile.offset[slot] = <float>(128.0 * (sum_high * (base if chunk.wide else 1) + sum_low)
                                - 255.0 * total * TEST_ROUNDING)
    set_scales(plan, coded, multiple, length, along, extent * step, extent)
    set_limit(plan, chunk, query, q)


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
                     int64_t n_queries) noexcept nogil:
    """Code a chunk of queries; False where memory is short."""
    cdef int64_t n_tiles = (n_queries + kTileQueries - 1) // kTileQueries, q
    chunk.n_queries = n_queries
    chunk.groups = (plan.dim + 3) // 4
    chunk.wide = n_queries <= WIDE_QUERIES
    chunk.n_pending = 0
    chunk.tiles = <CodeQueries*>aligned_alloc(64, n_tiles * sizeof(CodeQueries))
    chunk.queries = <CodeQuery*>calloc(n_queries, sizeof(CodeQuery))
    chunk.words = <int32_t*>calloc(n_queries * chunk.groups * (2 if chunk.wide else 1), 4)
    chunk.member = <int64_t*>calloc(n_queries, sizeof(int64_t))
    if plan.codes.order != NULL:
        chunk.spare = <int32_t*>calloc(n_queries * chunk.groups * (2 if chunk.wide else 1), 4)
    chunk.raw = <int32_t*>aligned_alloc(64, 2 * kTileQueries * kPanelRows * 4)
    chunk.scratch = <double*>calloc(plan.dim, sizeof(double))
    if (chunk.tiles == NULL or chunk.queries == NULL or chunk.words == NULL or chunk.raw == NULL
            or chunk.scratch == NULL or chunk.member == NULL
            or (plan.codes.order != NULL and chunk.spare == NULL)):
        return False
    memset(chunk.tiles, 0, n_tiles * sizeof(CodeQueries))
    for q in range(n_queries):
        chunk.member[q] = q
        start_code_query(plan, chunk, queries + q, q0, q)
    return True


cdef void close_codes(CodeChunk* chunk) noexcept nogil:
    free(chunk.tiles)
    free(chunk.queries)
    free(chunk.member)
    free(chunk.words)
    free(chunk.spare)
    free(chunk.raw)
    free(chunk.scratch)


cdef int64_t drain(const Plan* plan, CodeChunk* chunk, Query* queries) noexcept nogil:
    """Decide what is pending, in order of row; returns how many were scored."""
    cdef int64_t i, q, n_scored = 0
    cdef Query* query
    for i in range(chunk.n_pending):
        q = chunk.pending_query[i]
        query = queries + chunk.member[q]
        n_scored += decide(plan, query, chunk.pending_row[i])
        if threshold(plan, query) != chunk.queries[q].tau:
            set_limit(plan, chunk, query, q)
    chunk.n_pending = 0
    return n_scored


cdef inline int64_t row_of(const Plan* plan, int64_t slot) noexcept nogil:
    """The row of a slot of the code table."""
    if plan.codes.order == NULL:
        return slot
    return max(<int64_t>0, min(plan.codes.order[slot], plan.n - 1))


cdef void drop_finished(const Plan* plan, CodeChunk* chunk, const Query* queries,
                        int64_t panel) noexcept nogil:
    """Leave out the queries whose tau no item from `panel` on can exceed, whatever its angle.

    Slots are in order of falling norm then. Tiles are made anew only if that saves one.
    """
    cdef int64_t q, n_kept = 0
    cdef double reach = plan.codes.block_reach[panel] * (1.0 + 2.0 ** -40)
    cdef const Query* query
    cdef bint[CHUNK_QUERIES] keep
    for q in range(chunk.n_queries):
        query = queries + chunk.member[q]
        keep[q] = not sqrt(query.sq_norm) * reach + plan.max_bias <= threshold(plan, query)
        n_kept += keep[q]
    if n_kept != 0 and tiles_of(n_kept) == tiles_of(chunk.n_queries):
        return
    retile(chunk, keep, n_kept)


cdef inline int64_t tiles_of(int64_t n_queries) noexcept nogil:
    return (n_queries + kTileQueries - 1) // kTileQueries


cdef void retile(CodeChunk* chunk, const bint* keep, int64_t n_kept) noexcept nogil:
    """Close the ranks: queries that are not kept disappear, the rest keep their order."""
    cdef int64_t q, to = 0, digits = 2 if chunk.wide else 1, digit, g
    cdef int64_t old_size, new_size, old_first, new_first
    cdef CodeQueries* source
    cdef CodeQueries* target
    for q in range(chunk.n_queries):
        if not keep[q]:
            continue
        old_first, new_first = q - q % kTileQueries, to - to % kTileQueries
        old_size = min(kTileQueries, chunk.n_queries - old_first)
        new_size = min(kTileQueries, n_kept - new_first)
        for digit in range(digits):
            for g in range(chunk.groups):
                chunk.spare[(new_first * chunk.groups + g * new_size) * digits
                            + digit * new_size + to - new_first] = (
                    chunk.words[(old_first * chunk.groups + g * old_size) * digits
                                + digit * old_size + q - old_first])
        source, target = chunk.tiles + q // kTileQueries, chunk.tiles + to // kTileQueries
        move_coefficients(source, q % kTileQueries, target, to % kTileQueries)
        chunk.queries[to] = chunk.queries[q]
        chunk.member[to] = chunk.member[q]
        to += 1
    chunk.words, chunk.spare = chunk.spare, chunk.words
    chunk.n_queries = n_kept


cdef void move_coefficients(const CodeQueries* source, int64_t i, CodeQueries* target,
                            int64_t j) noexcept nogil:
    target.alpha[j] = source.alpha[i]
    target.beta[j] = source.beta[i]
    target.delta[j] = source.delta[i]
    target.epsilon[j] = source.epsilon[i]
    target.zeta[j] = source.zeta[i]
    target.eta[j] = source.eta[i]
    target.offset[j] = source.offset[i]
    target.gamma[j] = source.gamma[i]


cdef bint survives(const Plan* plan, const CodeChunk* chunk, int64_t q, int64_t slot, double raw,
                   double boost) noexcept nogil:
    """The same test with the item's own bounds, in float64."""
    cdef const CodeQueries* tile = chunk.tiles + q // kTileQueries
    cdef int64_t i = q % kTileQueries
    cdef double bias = plan.codes.bias[slot], inverse = plan.codes.inverse_step[slot]
    return not (raw - tile.offset[i] + bias * tile.beta[i]
                + <double>tile.delta[i] * plan.codes.residual[slot]
                + <double>tile.epsilon[i] * plan.codes.length[slot]
                + <double>tile.zeta[i] * inverse + <double>tile.eta[i] * fabs(bias)
                <= inverse * (tile.alpha[i] - boost * tile.gamma[i]))


cdef int64_t scan_panel(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t first,
                        int64_t count, int64_t panel, uint32_t valid) noexcept nogil:
    """One tile of queries over one panel; returns how many items were scored canonically."""
    cdef const CodeTable* codes = plan.codes
    cdef const CodeQueries* tile = chunk.tiles + first // kTileQueries
    cdef int64_t digits = 2 if chunk.wide else 1, base = panel * kPanelRows, q, r, row, line
    cdef int64_t n_scored = 0
    cdef const int32_t* low = <const int32_t*>NULL
    cdef uint32_t masks[12]
    cdef uint32_t hits
    cdef double raw
    cdef CodePanel items
    cdef const char* vector
    cdef float boost[32]
    if chunk.wide:
        low = chunk.raw + count * kPanelRows
    items.inverse_step = codes.inverse_step + base
    items.bias = codes.bias + base
    items.bounds = codes.bounds + panel * 4
    items.boost = <const float*>NULL
    if plan.bias != NULL:
        for r in range(kPanelRows):
            boost[r] = plan.bias[row_of(plan, min(base + r, plan.n - 1))]
        items.boost = boost
    plan.native.kernels.dot_codes(codes.panels + panel * chunk.groups * kPanelRows * 4,
                                  chunk.words + first * chunk.groups * digits, chunk.groups,
                                  count * digits, chunk.raw)
    if not plan.native.kernels.code_hits(chunk.raw, low, items, tile[0], count, masks):
        return 0
    for q in range(count):
        hits = masks[q] & valid
        while hits != 0:
            r = __builtin_ctz(hits)
            hits &= hits - 1
            raw = chunk.raw[q * kPanelRows + r]
            if chunk.wide:
                raw = raw * tile.base + low[q * kPanelRows + r]
            if not survives(plan, chunk, first + q, base + r, raw,
                            boost[r] if plan.bias else 0.0):
                continue
            row = row_of(plan, base + r)
            vector = <const char*>(plan.vectors + row * plan.dim)
            for line in range(0, plan.dim * 4, 64):
                __builtin_prefetch(vector + line)
            chunk.pending_query[chunk.n_pending] = first + q
            chunk.pending_row[chunk.n_pending] = row
            chunk.n_pending += 1
            if chunk.n_pending == PENDING:
                n_scored += drain(plan, chunk, queries)
    return n_scored


cdef int64_t scan_codes(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t first,
                        int64_t end) noexcept nogil:
    """Pass the chunk over rows [first, end), first a multiple of 32; returns the items scored."""
    cdef int64_t panel, start = 0, count, n_scored = 0
    cdef uint32_t valid
    while start < chunk.n_queries:
        count = min(kTileQueries, chunk.n_queries - start)
        for panel in range(first // kPanelRows, (end + kPanelRows - 1) // kPanelRows):
            valid = <uint32_t>0xffffffff
            if end - panel * kPanelRows < kPanelRows:
                valid = (<uint32_t>1 << (end - panel * kPanelRows)) - 1
            n_scored += scan_panel(plan, chunk, queries, start, count, panel, valid)
        start += count
    return n_scored + drain(plan, chunk, queries)
