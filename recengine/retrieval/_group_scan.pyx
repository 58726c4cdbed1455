"""The walk over groups of like items, where the code table is in such an order (`_clusters`).

The rows y of a group lie about an axis u of length 1: low <= y.u <= high, and what is left of y
across u is no longer than `across`. With t = q.u

    q.y  <=  max(t low, t high) + sqrt(|q|^2 - t^2) across              (Cauchy-Schwarz)

A query passes over a group only if this exceeds its limit tau. It visits the groups about its
nearest axis first: they give most queries the limit that they will end with, which rules out most
of the others. Queries are seated in tiles anew for each group: those that pass over it, no others.

Here t comes from a float32 kernel and |u| is off by up to 2^-22: together |error| <= gamma |q|
(`_float_scan.gamma_bound` has 24 roundings to spare), so |t| is lowered by that under the root and
the first term raised. The root is not taken: with need = tau -
max(t low, t high), a group is skipped if need > 0 and (|q|^2 - t^2) across^2 <= need^2. 2^-18 of
each term covers the rounding, and squares that leave float32 skip nothing.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk, CodeQuery, seat
from recengine.retrieval._code_scan cimport scan_codes
from recengine.retrieval._float_scan cimport gamma_bound, pack_queries
from recengine.retrieval._kernels cimport (
    COSINE,
    GroupFacts,
    GroupQueries,
    kGroupLanes,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport Plan, Query, Report, take

cdef enum:
    ROW_QUERIES = 3          # up to so many queries, packing axes costs more than it saves
    SAMPLED = 64             # groups that tell whether the walk pays,
    MOST_READ = 45           # which it does if queries pass over less than so many in a hundred

cdef double SQUARE_ROUNDING = 2.0 ** -18

ctypedef const float* Axis


cdef struct Directions:
    int64_t stride           # n_queries, in whole lanes
    float* t                 # [n_axes][stride] q.u
    float* error             # [stride] of t
    float* square            # [stride] |q|^2, rounded up
    float* tau               # [stride] what a score must exceed
    int64_t* nearest         # [n_queries] axis


cdef bint open_directions(const Plan* plan, int64_t n_queries, int64_t q0,
                          Directions* along) noexcept nogil:
    """Multiply every query by every axis; False where memory is short."""
    cdef int64_t axis = 0, n_axes = plan.codes.n_axes, r, q, i, count, n_rows
    cdef bint packs = n_queries > ROW_QUERIES
    cdef Axis[32] rows
    cdef float* panel = <float*>take(plan, plan.dim * kPanelRows * sizeof(float) if packs else 0)
    cdef float* packed = <float*>take(plan, plan.dim * n_queries * sizeof(float) if packs else 0)
    cdef float* out = <float*>take(plan, kTileQueries * kPanelRows * sizeof(float))
    along.stride = (n_queries + kGroupLanes - 1) // kGroupLanes * kGroupLanes
    along.t = <float*>take(plan, n_axes * along.stride * sizeof(float))
    along.error = <float*>take(plan, along.stride * sizeof(float))
    along.square = <float*>take(plan, along.stride * sizeof(float))
    along.tau = <float*>take(plan, along.stride * sizeof(float))
    along.nearest = <int64_t*>take(plan, n_queries * sizeof(int64_t))
    if (panel == NULL or packed == NULL or out == NULL or along.t == NULL or along.error == NULL
            or along.square == NULL or along.tau == NULL or along.nearest == NULL):
        return False
    if packs:
        pack_queries(plan, q0, n_queries, packed)
    while axis < n_axes:
        n_rows = min(kPanelRows, n_axes - axis)
        for r in range(kPanelRows):
            rows[r] = plan.codes.axes + (axis + min(r, n_rows - 1)) * plan.dim
        if packs:
            plan.native.kernels.pack_panel(rows, plan.dim, panel)
        q = 0
        while q < n_queries:
            count = min(kTileQueries, n_queries - q) if packs else 1
            if packs:
                plan.native.kernels.dot_panel(panel, packed + q * plan.dim, plan.dim, count, out)
            else:
                plan.native.kernels.dot_rows(plan.scan_queries + (q0 + q) * plan.dim, rows,
                                             plan.dim, out)
            for i in range(count):
                for r in range(n_rows):
                    along.t[(axis + r) * along.stride + q + i] = out[i * kPanelRows + r]
            q += count
            for r in range(n_rows):
                for i in range(n_queries, along.stride):
                    along.t[(axis + r) * along.stride + i] = 0.0
        axis += n_rows
    for i in range(n_queries, along.stride):
        along.error[i] = along.square[i] = along.tau[i] = 0.0
    return True


cdef void start_directions(const Plan* plan, const CodeChunk* chunk, int64_t q0,
                           Directions* along) noexcept nogil:
    cdef int64_t q, axis, n_queries = chunk.n_queries
    cdef double gamma = gamma_bound(plan.dim), length
    for q in range(n_queries):
        length = sqrt(plan.query_sq[q0 + q])
        if plan.metric == COSINE and length > 0.0:
            length = 1.0
        length *= 1.0 + 2.0 ** -20
        along.error[q] = <float>(gamma * length * (1.0 + 2.0 ** -20) + plan.dim * 2.0 ** -148)
        along.square[q] = <float>max(length * length * (1.0 + SQUARE_ROUNDING), 2.0 ** -100)
        along.tau[q] = tau_of(chunk.queries + q)
        along.nearest[q] = 0
    for axis in range(1, plan.codes.n_axes):
        for q in range(n_queries):
            if along.t[axis * along.stride + q] > along.t[along.nearest[q] * along.stride + q]:
                along.nearest[q] = axis


cdef inline float tau_of(const CodeQuery* coded) noexcept nogil:
    """The limit of a query as a score, rounded down."""
    cdef double tau
    if coded.alpha == -INFINITY:
        return -INFINITY
    tau = (coded.alpha - coded.tau_shift) / coded.tau_scale
    tau -= 2.0 ** -40 * (fabs(coded.alpha) + fabs(coded.tau_shift)) / coded.tau_scale
    if not tau > -3e38:
        return -INFINITY
    tau = min(tau, 3e38)
    return <float>(tau - 2.0 ** -23 * fabs(tau) - 2.0 ** -126)


cdef void visit(const Plan* plan, CodeChunk* chunk, Query* queries, Directions* along,
                int64_t group, int64_t n_seated, int64_t first, int64_t end,
                Report* report) noexcept nogil:
    """Let the first `n_seated` of `member` pass over a group, within slots [first, end)."""
    cdef int64_t i
    first = max(first, plan.codes.group_starts[group] * kPanelRows)
    end = min(end, plan.codes.group_starts[group + 1] * kPanelRows)
    seat(chunk, n_seated)
    report.survived += scan_codes(plan, chunk, queries, first, end, &report.rescored)
    report.fine += (end - first) * n_seated
    for i in range(n_seated):
        along.tau[chunk.seated[i]] = tau_of(chunk.queries + chunk.seated[i])


cdef int64_t reaching(const Plan* plan, CodeChunk* chunk, const Directions* along,
                      int64_t group) noexcept nogil:
    """Make `member` the queries that must pass over a group; returns how many they are."""
    cdef int64_t axis = plan.codes.group_axis[group], n_reaching = 0, n_found, i
    cdef GroupQueries known
    cdef GroupFacts facts
    known.t = along.t + axis * along.stride
    known.error, known.square, known.tau = along.error, along.square, along.tau
    facts.low, facts.high = plan.codes.group_low[group], plan.codes.group_high[group]
    facts.across, facts.bias = plan.codes.group_across[group], plan.max_bias
    n_found = plan.native.reaching(known, facts, chunk.n_queries, chunk.member)
    for i in range(n_found):
        chunk.member[n_reaching] = chunk.member[i]
        n_reaching += along.nearest[chunk.member[i]] != axis
    return n_reaching


cdef bint pays(const Plan* plan, CodeChunk* chunk, const Directions* along, int64_t first_group,
               int64_t last_group) noexcept nogil:
    """Whether queries skip enough of a sample of the groups."""
    cdef int64_t step = max(<int64_t>1, (last_group - first_group) // SAMPLED), n_read = 0
    cdef int64_t group = first_group, n_pairs = 0
    while group < last_group:
        n_read += reaching(plan, chunk, along, group)
        n_pairs += chunk.n_queries
        group += step
    return n_read * 100 <= n_pairs * MOST_READ


cdef Walked walk_groups(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t q0,
                        int64_t first, int64_t end, Report* report) noexcept nogil:
    """Walk the groups of slots [first, end).

    Where queries are not like the items, and skip little, nothing has been done but that they have
    a limit to start with: the caller walks all slots.
    """
    cdef int64_t q, group, n_seated = 0, n_queries = chunk.n_queries, first_group = 0, last_group
    cdef int64_t axis = -1
    cdef Directions along
    if not open_directions(plan, n_queries, q0, &along):
        return SHORT_OF_MEMORY
    start_directions(plan, chunk, q0, &along)
    while plan.codes.group_starts[first_group + 1] * kPanelRows <= first:
        first_group += 1
    last_group = first_group
    while (last_group < plan.codes.n_groups
           and plan.codes.group_starts[last_group] * kPanelRows < end):
        last_group += 1
    for group in range(first_group, last_group):
        if plan.codes.group_axis[group] != axis:
            axis, n_seated = plan.codes.group_axis[group], 0
            for q in range(n_queries):
                chunk.member[n_seated] = q
                n_seated += along.nearest[q] == axis
        if n_seated != 0:
            visit(plan, chunk, queries, &along, group, n_seated, first, end, report)
    if not pays(plan, chunk, &along, first_group, last_group):
        for q in range(n_queries):
            chunk.member[q] = q
            if queries[q].floor < FLT_MAX:  # others have their answer
                queries[q].count = chunk.queries[q].n_found = chunk.queries[q].n_lower = 0
        seat(chunk, n_queries)
        return DOES_NOT_PAY
    for group in range(first_group, last_group):
        if plan.deadline_ns != 0 and plan.native.now_ns() >= plan.deadline_ns:
            report.state = 1
            break
        n_seated = reaching(plan, chunk, &along, group)
        if n_seated != 0:
            visit(plan, chunk, queries, &along, group, n_seated, first, end, report)
    return DONE
