"""Exact batched top-k: one task is a chunk of queries over a range of rows.

Rows are walked in blocks that stay in the second-level cache while every query of the chunk passes
over them, by int8 codes where the index has them, by float32 where it has none or where the codes
cannot tell the items of this neighbourhood apart. Both scans only nominate; both drop an item only
if it provably cannot belong to the answer, ties by ordinal included, so the answer does not depend
on blocks, tiles, threads or SIMD level.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, nextafterf, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset
from libcpp.algorithm cimport sort

from recengine.retrieval._code_queries cimport (
    COARSE_QUERIES,
    CodeChunk,
    open_codes,
    set_floor,
    set_grid,
)
from recengine.retrieval._code_scan cimport drop_finished, scan_codes, settle_codes
from recengine.retrieval._float_scan cimport FloatChunk, open_floats, scan_floats
from recengine.retrieval._group_scan cimport DOES_NOT_PAY, SHORT_OF_MEMORY, Walked, walk_groups
from recengine.retrieval._kernels cimport DOT, L2, kPanelRows, kTaskScratch, kTileQueries
from recengine.retrieval._plan cimport (
    CHUNK_QUERIES,
    Entry,
    Plan,
    Query,
    Report,
    allowed,
    enter,
    ordinal_of,
    take,
)
from recengine.retrieval._row_scan cimport leaves_order, scan_rows, scan_uncoded
from recengine.retrieval._seed cimport seed_limits, seed_rows

cdef enum:
    BLOCK_BYTES = 131072     # of items, shared by all queries of a chunk
    COARSE_CROWDED = 48      # where upper halves leave a pair for every so many rows they do not
    COARSE_CREDIT = 512      # pay, beyond so many that every scan meets before its limit has risen:
    FINE_BLOCKS = 16         # so many blocks are read whole, the next time twice as many
    CROWDED = 32             # a block whose codes leave one pair in so many is crowded,
    FLOAT_BLOCKS = 16        # and the next so many go by float32, twice as many the next time,
    LONGEST_PAUSE = 4096     # up to so many,
    ORDERED_PAUSE = 64       # or, where queries may be finished with after each block, so many
    TRIAL_ROWS = 64          # of the first block, or after a crowded one; then four times as many


cdef int64_t split(Plan* plan, int num_threads) noexcept nogil:
    """Threads share queries where there are enough, else items; returns the chunks of queries."""
    cdef int64_t panels = (plan.n_positions + kPanelRows - 1) // kPanelRows
    cdef int64_t n_chunks = (plan.n_queries + CHUNK_QUERIES - 1) // CHUNK_QUERIES, share
    plan.n_parts = 1
    if plan.n_queries >= 2 * kTileQueries * num_threads:
        n_chunks = max(n_chunks, <int64_t>num_threads)
    else:
        plan.n_parts = max(<int64_t>1, min(<int64_t>num_threads, panels // 8))
    # Chunks of equal size, in whole tiles: no chunk passes over the items for a few queries.
    share = (plan.n_queries + n_chunks - 1) // n_chunks
    plan.chunk = (share + kTileQueries - 1) // kTileQueries * kTileQueries
    plan.part_size = (panels + plan.n_parts - 1) // plan.n_parts * kPanelRows
    return (plan.n_queries + plan.chunk - 1) // plan.chunk


cdef void start_query(const Plan* plan, int64_t q, int64_t part, Query* query) noexcept nogil:
    cdef double norm
    query.vector = plan.queries + q * plan.dim
    query.sq_norm = plan.query_sq[q]
    query.scratch = NULL
    if plan.scratch != NULL:
        query.scratch = plan.scratch + (
            q // plan.chunk * plan.n_parts + part) * plan.scratch_size
    query.floor = plan.floor
    if plan.bars != NULL:  # which may be equalled by an item with a lower ordinal
        query.floor = max(plan.floor,
                          nextafterf(plan.bars[q * plan.bar_stride], -<float>INFINITY))
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


cdef void answer_zeros(const Plan* plan, Query* query, int64_t part) noexcept nogil:
    """Give a query of length 0 its answer: all items score 0, so the first k that it may have.

    No bound tells tied items apart, and in an order of the codes' own each would be looked at.
    """
    cdef int64_t row = 0
    if part == 0 and query.floor < 0.0:
        while row < plan.n and query.count < plan.k:
            if allowed(plan, query, row):
                enter(plan, query, 0.0, ordinal_of(plan, row))
            row += 1
    query.floor = FLT_MAX


cdef int64_t block_rows(int64_t row_bytes) noexcept nogil:
    cdef int64_t panels = BLOCK_BYTES // (row_bytes * kPanelRows)
    return max(<int64_t>1, panels) * kPanelRows


cdef bint floats_are_open(const Plan* plan, FloatChunk* floats, int64_t q0, int64_t n_queries,
                          Report* report) noexcept nogil:
    """Make room for the float32 scan where there is none yet; False if memory is short."""
    if floats.rows == 0 and not open_floats(plan, floats, q0, n_queries, block_rows(4 * plan.dim)):
        report.state = 2
        return False
    return True


cdef void walk(Plan* plan, int64_t task, Query* queries, CodeChunk* codes, FloatChunk* floats,
               int64_t q0, int64_t n_queries) noexcept nogil:
    """Walk the task's rows, block by block."""
    cdef int64_t start = (task % plan.n_parts) * plan.part_size, first = start, seeded = start
    cdef int64_t end = min(plan.n_positions, first + plan.part_size), stop, n_hits, share
    cdef int64_t to_seed = start + seed_rows(plan, end - start)
    cdef int64_t code_rows = block_rows((plan.dim + 3) // 4 * 4)
    cdef int64_t by_float = 0, active = n_queries
    cdef Report* report = plan.reports + task
    cdef int64_t by_fine = 0, patience = FINE_BLOCKS, debt = -COARSE_CREDIT
    cdef int64_t rows = TRIAL_ROWS, pause = FLOAT_BLOCKS, q
    cdef bint coarse
    cdef Walked walked
    if plan.codes == NULL:
        by_float = 1
    elif plan.codes.n_groups != 0 and first < end:
        walked = walk_groups(plan, codes, queries, q0, first, end, report)
        if walked == SHORT_OF_MEMORY:
            report.state = 2
        if walked != DOES_NOT_PAY:
            first = end
    while first < end:
        if plan.deadline_ns != 0 and first >= seeded and (
                plan.native.now_ns() >= plan.deadline_ns):
            report.state = 1
            break
        if seeded < to_seed:
            seeded = to_seed
            if not seed_limits(plan, codes, start, seeded):
                report.state = 2
                return
        if by_float != 0:
            if not floats_are_open(plan, floats, q0, n_queries, report):
                return
            stop = min(end, first + floats.rows)
            scan_floats(plan, floats, queries, first, stop, report)
            if plan.codes != NULL:
                by_float -= 1
                for q in range(codes.n_queries if by_float == 0 else 0):
                    set_floor(plan, codes, queries + q, q)
        else:
            if plan.codes.block_reach != NULL:
                report.rescored += drop_finished(plan, codes, queries, first // kPanelRows)
                active = codes.n_seated
                if active == 0:
                    break
            # In order of norm the limit must rise fast, and little is read.
            coarse = plan.coarse and active <= COARSE_QUERIES and by_fine == 0
            coarse = coarse and plan.codes.block_reach == NULL
            if codes.coarse != coarse:
                set_grid(codes, coarse)
            by_fine -= 1 if by_fine != 0 else 0
            rows = min(rows, code_rows)
            stop = min(end, first + rows)
            rows *= 4
            n_hits = scan_codes(plan, codes, queries, first, stop, &report.rescored)
            # Early on, before tau has risen, a share of k / rows seen is met by every scan.
            share = (stop - first) * active
            report.survived += n_hits
            if codes.coarse:
                report.coarse += share
                debt += n_hits - (stop - first) // COARSE_CROWDED
                if debt > 0:
                    by_fine, patience, debt = patience, 2 * patience, -COARSE_CREDIT // 8
                    rows = TRIAL_ROWS
            else:
                report.fine += share
                if n_hits > share // CROWDED + share * 8 * plan.k // (stop - start):
                    by_float, rows, pause = pause, TRIAL_ROWS, min(
                        2 * pause,
                        LONGEST_PAUSE if plan.codes.block_reach == NULL else ORDERED_PAUSE)
                    report.rescored += settle_codes(plan, codes, queries)
                    # The codes had their second chance.
                    if pause > 2 * FLOAT_BLOCKS and leaves_order(plan, codes, queries, stop, end):
                        scan_rows(plan, codes, floats, queries, report)
                        stop = end
                elif rows > code_rows:
                    pause = FLOAT_BLOCKS
        first = stop
    if plan.codes != NULL:
        report.rescored += settle_codes(plan, codes, queries)
        if (plan.codes.n_rows < plan.n and report.state == 0
                and task % plan.n_parts == plan.n_parts - 1
                and floats_are_open(plan, floats, q0, n_queries, report)):
            scan_uncoded(plan, floats, queries, report)


cdef void scan(void* context, int64_t task) noexcept nogil:
    """One chunk of queries over one range of rows."""
    cdef Plan* plan = <Plan*>context
    cdef int64_t part = task % plan.n_parts, q0 = (task // plan.n_parts) * plan.chunk, i
    cdef int64_t n_queries = min(plan.chunk, plan.n_queries - q0)
    cdef CodeChunk codes
    cdef FloatChunk floats
    cdef Query* queries
    cdef Report* report = plan.reports + task
    plan.native.begin_scratch(kTaskScratch)
    queries = <Query*>take(plan, n_queries * sizeof(Query))
    memset(&codes, 0, sizeof(CodeChunk))
    memset(&floats, 0, sizeof(FloatChunk))
    if queries == NULL:
        report.state = 2
        return
    for i in range(n_queries):
        start_query(plan, q0 + i, part, queries + i)
        if (queries[i].sq_norm == 0.0 and plan.metric != L2 and plan.bias == NULL and plan.rising
                and plan.rows == NULL):
            answer_zeros(plan, queries + i, part)
    if plan.codes != NULL and not open_codes(
            plan, &codes, queries, q0, n_queries, block_rows((plan.dim + 3) // 4 * 4)):
        report.state = 2
    else:
        walk(plan, task, queries, &codes, &floats, q0, n_queries)
    for i in range(n_queries):
        plan.counts[part * plan.n_queries + q0 + i] = queries[i].count
    plan.native.begin_scratch(kTaskScratch)  # what an exceptional search took goes back


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
