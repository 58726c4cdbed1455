"""The walk over groups of like items, where the code table is in such an order (`_clusters`).

The rows y of a group lie about an axis u of length 1: low <= y.u <= high, and what is left of y
across u is no longer than `across`. With t = q.u

    q.y  <=  max(t low, t high) + sqrt(|q|^2 - t^2) across              (Cauchy-Schwarz)

A query passes over a group only if this exceeds its limit tau. It visits the groups about its
nearest axis first: they give most queries the limit that they will end with, which rules out most
of the others, all groups about an axis at once or one by one. Queries are seated in tiles anew for
each group: those that pass over it, no others.

Here t comes from a float32 kernel and |u| is off by up to 2^-22: together |error| <= gamma |q|
(`_float_scan.gamma_bound` has 24 roundings to spare). So |t| is lowered by that under the root, and
error max(|low|, |high|) is added. The test itself has at most 8 roundings of 2^-24 of each of its
terms, |q| max(|low|, |high|), root across, |tau| and the largest bias: 2^-18 of each covers them,
2^-120 what underflows. Where t or a square leaves float32 the root is infinite; a query without a
limit has NaN for one. Nothing is skipped then.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from recengine.retrieval._code_queries cimport CodeChunk, CodeQuery, seat
from recengine.retrieval._code_scan cimport scan_codes
from recengine.retrieval._float_scan cimport gamma_bound, pack_queries
from recengine.retrieval._kernels cimport (
    COSINE,
    GroupCursor,
    GroupQueries,
    kGroupLanes,
    kPanelRows,
    kTileQueries,
)
from recengine.retrieval._plan cimport CodeTable, Plan, Query, Report, take

cdef enum:
    ROW_QUERIES = 3          # up to so many queries, packing axes costs more than it saves
    SAMPLED = 32             # axes whose groups tell whether the walk pays,
    MOST_READ = 45           # which it does if queries pass over less than so many in a hundred

cdef double ROUNDING = 2.0 ** -18

ctypedef const float* Axis


# The walk of a chunk over the groups of its slots [first, end).
cdef struct GroupWalk:
    GroupQueries along
    int64_t* blocks          # of a cursor
    int64_t* nearest         # [n_queries] the queries, in order of their nearest axis,
    int64_t* nearest_starts  # [n_axes + 1] where those of each axis begin
    int64_t first
    int64_t end
    int64_t first_group
    int64_t end_group
    int64_t first_axis       # of the first group
    int64_t end_axis         # after that of the last


cdef int64_t last_start(const int64_t* starts, int64_t n, int64_t place) noexcept nogil:
    """Return the last of n that starts at or before `place`; the first one starts at 0."""
    cdef int64_t low = 0, middle
    while n - low > 1:
        middle = (low + n) // 2
        if starts[middle] <= place:
            low = middle
        else:
            n = middle
    return low


cdef GroupCursor cursor_at(const Plan* plan, const GroupWalk* walk, int64_t first_axis,
                           int64_t end_axis) noexcept nogil:
    """Return a cursor over the groups of these axes, as far as they are walked."""
    cdef GroupCursor cursor
    cursor.group = max(walk.first_group, plan.codes.groups.axis_starts[first_axis])
    cursor.end = min(walk.end_group, plan.codes.groups.axis_starts[end_axis])
    cursor.axis, cursor.n_blocks, cursor.blocks = first_axis, -1, walk.blocks
    return cursor


cdef bint open_walk(const Plan* plan, int64_t n_queries, int64_t first, int64_t end,
                    GroupWalk* walk) noexcept nogil:
    """Take memory and find the groups of slots [first, end); False where memory is short."""
    cdef GroupQueries* along = &walk.along
    cdef const CodeTable* codes = plan.codes
    along.n_queries, along.n_axes = n_queries, codes.n_axes
    along.stride = (n_queries + kGroupLanes - 1) // kGroupLanes * kGroupLanes
    along.t = <float*>take(plan, 2 * codes.n_axes * along.stride * sizeof(float))
    along.error = <float*>take(plan, 4 * along.stride * sizeof(float))
    along.nearest = <int32_t*>take(plan, along.stride * sizeof(int32_t))
    walk.blocks = <int64_t*>take(plan, along.stride // kGroupLanes * sizeof(int64_t))
    walk.nearest = <int64_t*>take(plan, n_queries * sizeof(int64_t))
    walk.nearest_starts = <int64_t*>take(plan, (codes.n_axes + 1) * sizeof(int64_t))
    if (along.t == NULL or along.error == NULL or along.nearest == NULL or walk.blocks == NULL
            or walk.nearest == NULL or walk.nearest_starts == NULL):
        return False
    along.rest = along.t + codes.n_axes * along.stride
    along.square = along.error + along.stride
    along.margin = along.square + along.stride
    along.limit = along.margin + along.stride
    memset(along.error, 0, 4 * along.stride * sizeof(float))
    walk.first, walk.end = first, end
    walk.first_group = last_start(codes.group_starts, codes.n_groups, first // kPanelRows)
    walk.end_group = last_start(codes.group_starts, codes.n_groups, (end - 1) // kPanelRows) + 1
    walk.first_axis = last_start(codes.groups.axis_starts, codes.n_axes, walk.first_group)
    walk.end_axis = last_start(codes.groups.axis_starts, codes.n_axes, walk.end_group - 1) + 1
    return True


cdef bint multiply(const Plan* plan, int64_t q0, GroupQueries* along) noexcept nogil:
    """Multiply every query by every axis; False where memory is short."""
    cdef int64_t axis = 0, n_queries = along.n_queries, stride = along.stride, r, q, i
    cdef int64_t count, n_rows
    cdef bint packs = n_queries > ROW_QUERIES
    cdef Axis[32] rows
    cdef float* panel = <float*>take(plan, plan.dim * kPanelRows * sizeof(float) if packs else 0)
    cdef float* packed = <float*>take(plan, plan.dim * n_queries * sizeof(float) if packs else 0)
    cdef float* out = <float*>take(plan, kTileQueries * kPanelRows * sizeof(float))
    if panel == NULL or packed == NULL or out == NULL:
        return False
    if packs:
        pack_queries(plan, q0, n_queries, packed)
    while axis < along.n_axes:
        n_rows = min(kPanelRows, along.n_axes - axis)
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
                    along.t[(axis + r) * stride + q + i] = out[i * kPanelRows + r]
            q += count
        for r in range(n_rows):
            for i in range(n_queries, stride):
                along.t[(axis + r) * stride + i] = 0.0
        axis += n_rows
    return True


cdef void start_queries(const Plan* plan, const CodeChunk* chunk, int64_t q0,
                        GroupWalk* walk) noexcept nogil:
    """Set what the test must know of each query, and order them by their nearest axis."""
    cdef GroupQueries* along = &walk.along
    cdef int64_t q, axis, n_axes = along.n_axes
    cdef int64_t* starts = walk.nearest_starts
    cdef double gamma = gamma_bound(plan.dim), length, error
    for q in range(along.n_queries):
        length = sqrt(plan.query_sq[q0 + q])
        if plan.metric == COSINE and length > 0.0:
            length = 1.0
        length *= 1.0 + 2.0 ** -20
        error = gamma * length * (1.0 + 2.0 ** -20) + plan.dim * 2.0 ** -148
        along.error[q] = <float>error
        along.square[q] = <float>(length * length * (1.0 + ROUNDING))
        along.margin[q] = <float>(error + length * ROUNDING)
        along.limit[q] = limit_of(plan, chunk.queries + q)
    for q in range(along.n_queries, along.stride):
        along.limit[q] = INFINITY  # visits nothing
    plan.native.split_directions(along[0])
    memset(starts, 0, (n_axes + 1) * sizeof(int64_t))
    for q in range(along.n_queries):
        starts[along.nearest[q]] += 1
    for axis in range(n_axes):
        starts[axis + 1] += starts[axis]
    for q in range(along.n_queries - 1, -1, -1):  # ends become starts
        starts[along.nearest[q]] -= 1
        walk.nearest[starts[along.nearest[q]]] = q


cdef inline float limit_of(const Plan* plan, const CodeQuery* coded) noexcept nogil:
    """What a bound must exceed: the limit of a query as a score, rounded down; NaN for none."""
    cdef double tau
    if coded.alpha == -INFINITY:
        return NAN
    tau = (coded.alpha - coded.tau_shift) / coded.tau_scale
    tau -= 2.0 ** -40 * (fabs(coded.alpha) + fabs(coded.tau_shift)) / coded.tau_scale
    tau -= ROUNDING * (fabs(tau) + plan.max_bias) + plan.max_bias + 2.0 ** -120
    if not tau > -3e38:
        return NAN
    return <float>min(tau, 3e38)


cdef void visit(const Plan* plan, CodeChunk* chunk, Query* queries, GroupWalk* walk,
                int64_t group, int64_t n_seated, Report* report) noexcept nogil:
    """Let the first `n_seated` of `member` pass over a group."""
    cdef int64_t i
    cdef int64_t first = max(walk.first, plan.codes.group_starts[group] * kPanelRows)
    cdef int64_t end = min(walk.end, plan.codes.group_starts[group + 1] * kPanelRows)
    seat(chunk, n_seated)
    report.survived += scan_codes(plan, chunk, queries, first, end, &report.rescored)
    report.fine += (end - first) * n_seated
    for i in range(n_seated):
        walk.along.limit[chunk.seated[i]] = limit_of(plan, chunk.queries + chunk.seated[i])


cdef void visit_nearest(const Plan* plan, CodeChunk* chunk, Query* queries, GroupWalk* walk,
                        Report* report) noexcept nogil:
    """Let each query pass over the groups about its nearest axis."""
    cdef int64_t axis, group, start, n_seated, i
    cdef GroupCursor cursor
    for axis in range(walk.first_axis, walk.end_axis):
        start = walk.nearest_starts[axis]
        n_seated = walk.nearest_starts[axis + 1] - start
        if n_seated == 0:
            continue
        cursor = cursor_at(plan, walk, axis, axis + 1)
        for group in range(cursor.group, cursor.end):
            for i in range(n_seated):
                chunk.member[i] = walk.nearest[start + i]
            visit(plan, chunk, queries, walk, group, n_seated, report)


cdef bint pays(const Plan* plan, CodeChunk* chunk, const GroupWalk* walk) noexcept nogil:
    """Whether queries skip enough of a sample of the groups."""
    cdef int64_t step = max(<int64_t>1, (walk.end_axis - walk.first_axis) // SAMPLED)
    cdef int64_t axis = walk.first_axis, n_pairs = 0, n_read = 0, n_reached
    cdef GroupCursor cursor
    while axis < walk.end_axis:
        cursor = cursor_at(plan, walk, axis, axis + 1)
        n_pairs += (cursor.end - cursor.group) * chunk.n_queries
        while plan.native.next_reached(walk.along, plan.codes.groups, &cursor, chunk.member,
                                       &n_reached) != cursor.end:
            n_read += n_reached
        axis += step
    return n_read * 100 <= n_pairs * MOST_READ


cdef Walked walk_groups(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t q0,
                        int64_t first, int64_t end, Report* report) noexcept nogil:
    """Walk the groups of slots [first, end).

    Where queries are not like the items, and skip little, nothing has been done but that they have
    a limit to start with: the caller walks all slots.
    """
    cdef int64_t q, group, n_reached, n_queries = chunk.n_queries
    cdef GroupCursor cursor
    cdef GroupWalk walk
    if not open_walk(plan, n_queries, first, end, &walk) or not multiply(plan, q0, &walk.along):
        return SHORT_OF_MEMORY
    start_queries(plan, chunk, q0, &walk)
    visit_nearest(plan, chunk, queries, &walk, report)
    if not pays(plan, chunk, &walk):
        for q in range(n_queries):
            chunk.member[q] = q
            if queries[q].floor < FLT_MAX:  # others have their answer
                queries[q].count = chunk.queries[q].n_found = chunk.queries[q].n_lower = 0
        seat(chunk, n_queries)
        return DOES_NOT_PAY
    cursor = cursor_at(plan, &walk, walk.first_axis, walk.end_axis)
    while True:
        group = plan.native.next_reached(walk.along, plan.codes.groups, &cursor, chunk.member,
                                         &n_reached)
        if group == cursor.end:
            return DONE
        if plan.deadline_ns != 0 and plan.native.now_ns() >= plan.deadline_ns:
            report.state = 1
            return DONE
        visit(plan, chunk, queries, &walk, group, n_reached, report)
