"""The walk over rows as they lie: those without codes, and all where the order has nothing to give.

Where codes cannot tell items apart the float32 scan reads the rows themselves, and in an order of
the codes' own it reads each from another place: at three times the price where a few queries wait
for memory. Then the task begins anew and walks all rows from the first to the last. What it has
found is put aside, for the case that a deadline comes first, but not the limits: k items reach
them, so what does not is still left out. Ordinals that rise with the row make ties cheap. Threads
that share the slots keep to them: those of one are not a range of rows.
"""

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, nextafterf, sqrt
from libc.stdint cimport int64_t
from libcpp.algorithm cimport copy_n, set_union, sort

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._float_scan cimport FloatChunk, scan_floats
from recengine.retrieval._kernels cimport kPanelRows
from recengine.retrieval._plan cimport CodeTable, Entry, Plan, Query, Report, take

cdef enum:
    GATHERED = 2             # rows in a row cost less than so many times fewer from all over


cdef bint leaves_order(const Plan* plan, const CodeChunk* codes, const Query* queries,
                       int64_t first, int64_t end) noexcept nogil:
    """Whether all rows as they lie cost less than slots [first, end), or where queries stop."""
    cdef int64_t place, q, low, high, middle, stop = first
    cdef double reach
    if plan.n_parts != 1 or (plan.codes.order == NULL and not plan.codes.rows_inside):
        return False
    for place in range(codes.n_seated if plan.codes.block_reach != NULL else 0):
        q = codes.seated[place]
        reach = (codes.queries[q].alpha - codes.queries[q].tau_shift) / codes.queries[q].tau_scale
        reach = (reach - plan.max_bias) / sqrt(queries[q].sq_norm)
        low, high = stop // kPanelRows, end // kPanelRows
        while low < high:
            middle = (low + high) // 2
            if plan.codes.block_reach[middle] <= reach:
                high = middle
            else:
                low = middle + 1
        stop = max(stop, high * kPanelRows)
    if plan.codes.block_reach == NULL:
        stop = end
    return plan.n < GATHERED * (stop - first)


cdef void begin_anew(const Plan* plan, CodeChunk* codes, Query* queries, Entry* kept,
                     int64_t* n_kept) noexcept nogil:
    """Empty what queries have found, but for those that have their answer, and keep a copy."""
    cdef int64_t q
    for q in range(codes.n_queries):
        n_kept[q] = 0
        if queries[q].floor == FLT_MAX:
            continue
        if queries[q].count == plan.k:
            queries[q].floor = max(queries[q].floor,
                                   nextafterf(-queries[q].heap[0].first, -<float>INFINITY))
        n_kept[q] = queries[q].count
        copy_n(queries[q].heap, n_kept[q], kept + q * plan.k)
        queries[q].count = codes.queries[q].n_found = codes.queries[q].n_lower = 0


cdef void give_back(const Plan* plan, Query* query, Entry* kept, int64_t n_kept,
                    Entry* both) noexcept nogil:
    """Let the best of what was kept and of what is found, both in part, be what is found."""
    cdef Entry* end
    sort(kept, kept + n_kept)
    sort(query.heap, query.heap + query.count)
    end = set_union(kept, kept + n_kept, query.heap, query.heap + query.count, both)
    query.count = min(plan.k, end - both)
    copy_n(both, query.count, query.heap)


cdef bint walk_rows(const Plan* whole, FloatChunk* floats, Query* queries, int64_t first,
                    int64_t end, Report* report) noexcept nogil:
    """Scan rows [first, end) as they lie; False where the deadline came first."""
    while first < end:
        if whole.deadline_ns != 0 and whole.native.now_ns() >= whole.deadline_ns:
            report.state = 1
            return False
        scan_floats(whole, floats, queries, first, min(end, first + floats.rows), report)
        first += floats.rows
    return True


cdef void scan_rows(const Plan* plan, CodeChunk* codes, FloatChunk* floats, Query* queries,
                    Report* report) noexcept nogil:
    """Begin anew, in order of the rows."""
    cdef int64_t q
    cdef Plan whole = plan[0]
    cdef Entry* kept = <Entry*>take(plan, (codes.n_queries + 2) * plan.k * sizeof(Entry))
    cdef int64_t* n_kept = <int64_t*>take(plan, codes.n_queries * sizeof(int64_t))
    if kept == NULL or n_kept == NULL:
        report.state = 2
        return
    whole.codes = <const CodeTable*>NULL
    whole.ascending, whole.n_positions = plan.rising, plan.codes.n_rows
    begin_anew(plan, codes, queries, kept, n_kept)
    if not walk_rows(&whole, floats, queries, 0, plan.codes.n_rows, report):
        for q in range(codes.n_queries):
            if queries[q].floor != FLT_MAX:
                give_back(plan, queries + q, kept + q * plan.k, n_kept[q],
                          kept + codes.n_queries * plan.k)


cdef void scan_uncoded(const Plan* plan, FloatChunk* floats, Query* queries,
                       Report* report) noexcept nogil:
    """Go on with the rows behind those that have codes."""
    cdef Plan behind = plan[0]
    behind.codes = <const CodeTable*>NULL
    behind.ascending, behind.n_positions = plan.rising, plan.n
    walk_rows(&behind, floats, queries, plan.codes.n_rows, plan.n, report)
