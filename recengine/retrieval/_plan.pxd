"""One search, prepared: what `_search` fills in and the scans carry out.

Also the decision that both scans share: what has been nominated is filtered, scored canonically and
entered into the query's heap of k.
"""

from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libcpp.algorithm cimport pop_heap, push_heap
from libcpp.pair cimport pair

from recengine.retrieval._kernels cimport (
    COSINE,
    Groups,
    NativeApi,
    PanelFacts,
    canonical_sum,
    kPanelBytes,
    kPanelRows,
    kTaskScratch,
    score_of_sum,
)
from recengine.retrieval._rows cimport Rows, row_at

cdef enum:
    CHUNK_QUERIES = 384      # of one task: heaps and packed queries stay in cache

# Ordered so that `<` means better: (-score, ordinal). The worst entry is then a max-heap's top.
ctypedef pair[float, int64_t] Entry

cdef struct CodeTable:
    const uint8_t* high        # [n_panels]: upper four bits of the codes, and PanelFacts
    const uint8_t* low         # [n_panels]: lower four bits
    int64_t pairs              # of groups of 4 dims
    int64_t stride             # of the high plane, in bytes
    const double* mean         # [dim]
    int64_t n_slots
    int64_t n_rows             # with codes, the first ones; those behind are scanned as they lie
    bint rows_inside           # the row of each slot stands in its panel
    const int32_t* order       # [n_slots] its (first) row, NULL where slots are rows
    const int64_t* members     # [n] the equal rows of each slot, one slot after another; NULL
    const int64_t* starts      # [n_slots + 1] where a slot's begin; where all differ
    const float* block_reach   # [n_panels] largest norm from this panel on; NULL in other orders
    int64_t n_groups           # of like items, see _group_scan; 0 in other orders
    const int64_t* group_starts  # [n_groups + 1] first panel
    int64_t n_axes
    const float* axes          # [n_axes][dim]
    Groups groups
    double unit
    double mean_norm
    double largest_norm        # of y, in units

cdef struct Query:
    const float* vector      # as given: canonical scores
    double sq_norm
    float* scratch           # [dim] of its task, to widen a row into; NULL where rows are float32
    float slope              # of the bound, per unit of item norm
    float margin
    float floor              # scores must exceed it, whatever the heap holds
    const int64_t* exclude   # ascending
    int64_t n_exclude
    int64_t count            # entries in the heap
    Entry* heap

# What a task did, in pairs of query and item; a cache line, so that tasks do not share it.
cdef struct Report:
    int64_t coarse           # tested by the upper halves of their codes
    int64_t fine             # by their codes
    int64_t float32
    int64_t float64          # by canonical sums of whole tiles
    int64_t survived         # that codes could not drop
    int64_t rescored         # scored canonically one by one
    int64_t state            # 0 done, 1 stopped by the deadline, 2 out of memory
    int64_t idle

cdef struct Plan:
    const NativeApi* native
    int metric
    const float* queries
    const float* scan_queries  # what the tiles see: unit length under cosine
    Rows vectors
    const double* sq_norms
    const float* reach
    const CodeTable* codes     # NULL: the float32 scan alone
    const float* bias          # by row
    const int64_t* ordinals    # by row, NULL where they are the rows
    bint rising                # ordinals rise with the row
    bint ascending             # and in the order of the walk
    bint coarse                # few queries may read the upper halves of codes alone
    bint filters               # there are tombstones, a mask or lists of what to exclude
    const uint64_t* alive      # by row
    const uint64_t* mask       # by ordinal
    uint64_t mask_bits
    const int64_t* rows        # to be walked, NULL for all
    const int64_t* exclude_indptr
    const int64_t* exclude_rows
    const double* query_sq
    int64_t n                  # rows
    int64_t dim
    int64_t n_positions
    int64_t n_queries
    int64_t k
    int64_t chunk
    int64_t n_parts
    int64_t part_size
    int64_t deadline_ns
    double gamma
    float max_bias
    float floor
    const float* bars        # [query * bar_stride] k-th best score in other tables; NULL: none
    int64_t bar_stride
    float* scratch           # [task][scratch_size]; NULL where rows are float32
    int64_t scratch_size
    Entry* entries           # [part][query][k]
    int64_t* counts          # [part][query]
    Report* reports          # [task]


cdef inline void* take(const Plan* plan, int64_t n_bytes) noexcept nogil:
    """Memory of the task that runs on this thread, aligned to 64 bytes; NULL if it is short."""
    return plan.native.take_scratch(kTaskScratch, n_bytes)


cdef inline float threshold(const Plan* plan, const Query* query) noexcept nogil:
    """What the canonical score of a newcomer must exceed.

    Where ordinals ascend, a newcomer that ties with the worst comes after it; elsewhere it may
    come before it, so the threshold lies just below.
    """
    cdef float worst
    if query.count < plan.k:
        return query.floor
    worst = -query.heap[0].first
    if not plan.ascending:
        worst = nextafterf(worst, -<float>INFINITY)
    return worst if worst > query.floor else query.floor


cdef inline bint excluded(const Query* query, int64_t ordinal) noexcept nogil:
    cdef int64_t low = 0, high = query.n_exclude, middle
    while low < high:
        middle = (low + high) >> 1
        if query.exclude[middle] < ordinal:
            low = middle + 1
        else:
            high = middle
    return low < query.n_exclude and query.exclude[low] == ordinal


cdef inline bint enter(const Plan* plan, Query* query, float score,
                       int64_t ordinal) noexcept nogil:
    """Enter an item into the heap if it belongs to the best k so far; returns whether it does."""
    cdef Entry entry
    entry.first, entry.second = -score, ordinal
    if query.count == plan.k:
        if not entry < query.heap[0]:
            return False
        pop_heap(query.heap, query.heap + plan.k)
        query.count -= 1
    query.heap[query.count] = entry
    query.count += 1
    push_heap(query.heap, query.heap + query.count)
    return True


cdef inline int64_t ordinal_of(const Plan* plan, int64_t row) noexcept nogil:
    return row if plan.ordinals == NULL else plan.ordinals[row]


cdef inline bint allowed(const Plan* plan, const Query* query, int64_t row) noexcept nogil:
    """Whether filters and tombstones let this query have `row`."""
    cdef int64_t ordinal
    if row < 0 or row >= plan.n:
        return False
    ordinal = ordinal_of(plan, row)
    if plan.alive != NULL and not (plan.alive[row >> 6] >> (row & 63)) & 1:
        return False
    if plan.mask != NULL and (<uint64_t>ordinal >= plan.mask_bits
                              or not (plan.mask[ordinal >> 6] >> (ordinal & 63)) & 1):
        return False
    return query.n_exclude == 0 or not excluded(query, ordinal)


cdef inline float score_of(const Plan* plan, const Query* query, int64_t row,
                           const double* known) noexcept nogil:
    """The canonical score of `row`; `known` is its canonical sum, or NULL."""
    cdef double sum_
    if known != NULL:
        sum_ = known[0]
    else:
        sum_ = canonical_sum(plan.native.kernels, plan.metric, query.vector,
                             row_at(plan.vectors, row, query.scratch), plan.dim)
    return score_of_sum(plan.metric, sum_, query.sq_norm,
                        plan.sq_norms[row] if plan.metric == COSINE else 0.0,
                        plan.bias[row] if plan.bias else 0.0)


cdef inline bint decide(const Plan* plan, Query* query, int64_t row,
                        const double* known) noexcept nogil:
    """Score `row` canonically and enter it if it belongs; returns whether it was scored."""
    cdef float score
    if not allowed(plan, query, row):
        return False
    score = score_of(plan, query, row, known)
    if score > query.floor:
        enter(plan, query, score, ordinal_of(plan, row))
    return True


cdef inline const PanelFacts* facts_of(const Plan* plan, int64_t slot) noexcept nogil:
    """What stands behind the codes of a slot's panel."""
    return <const PanelFacts*>(plan.codes.high + slot // kPanelRows * plan.codes.stride
                               + plan.codes.pairs * kPanelBytes)


# A slot of the code table holds an item: a row, or where there is an order a place in that, which
# names a row, or the first of several equal rows.

cdef inline int64_t item_of_slot(const Plan* plan, int64_t slot) noexcept nogil:
    if not plan.codes.rows_inside:
        return slot
    return max(<int64_t>0, min(<int64_t>facts_of(plan, slot).rows[slot % kPanelRows], plan.n - 1))


cdef inline int64_t row_of_item(const Plan* plan, int64_t item) noexcept nogil:
    """The row of an item; of equal rows the first."""
    if plan.codes.order == NULL:
        return item
    return max(<int64_t>0, min(<int64_t>plan.codes.order[item], plan.n - 1))


cdef inline bint holds_copies(const Plan* plan, int64_t item) noexcept nogil:
    return plan.codes.starts != NULL and plan.codes.starts[item + 1] > plan.codes.starts[item] + 1


cdef inline bint any_allowed(const Plan* plan, const Query* query, int64_t item) noexcept nogil:
    """Whether filters and tombstones let this query have a row of `item`."""
    cdef int64_t i
    if not holds_copies(plan, item):
        return allowed(plan, query, row_of_item(plan, item))
    for i in range(plan.codes.starts[item], plan.codes.starts[item + 1]):
        if allowed(plan, query, plan.codes.members[i]):
            return True
    return False


cdef inline float boost_of_item(const Plan* plan, int64_t item) noexcept nogil:
    """The bias of an item; of equal rows the largest."""
    cdef float boost
    cdef int64_t i
    if not holds_copies(plan, item):
        return plan.bias[row_of_item(plan, item)]
    boost = -INFINITY
    for i in range(plan.codes.starts[item], plan.codes.starts[item + 1]):
        boost = max(boost, plan.bias[plan.codes.members[i]])
    return boost


cdef inline bint decide_all(const Plan* plan, Query* query, int64_t item,
                            const double* known) noexcept nogil:
    """`decide` on all rows of an item: equal rows are scored once, unless their biases differ."""
    cdef int64_t i, row
    cdef bint scored = False
    cdef float score = 0.0
    if not holds_copies(plan, item):
        return decide(plan, query, row_of_item(plan, item), known)
    for i in range(plan.codes.starts[item], plan.codes.starts[item + 1]):
        row = plan.codes.members[i]
        if not allowed(plan, query, row):
            continue
        if not scored or plan.bias != NULL:
            score = score_of(plan, query, row, known)
            scored = True
        if score > query.floor and enter(plan, query, score, ordinal_of(plan, row)):
            continue
        if plan.rising and plan.bias == NULL:
            break  # the others tie with this one and come after it
    return scored


cdef inline bint decide_item(const Plan* plan, Query* query, int64_t item) noexcept nogil:
    """`decide_all` where the canonical sum is not known yet."""
    return decide_all(plan, query, item, NULL)
