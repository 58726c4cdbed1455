"""A chunk of queries in codes, and what each of them has met so far."""

from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t
from libcpp.pair cimport pair

from recengine.retrieval._kernels cimport CodeQueries, PanelFacts, bias_of, kPanelRows
from recengine.retrieval._plan cimport Plan, Query, facts_of


cdef enum:
    COARSE_QUERIES = 3  # so few wait for memory: they read the upper halves of the codes

# An item that may belong to the answer: (- upper bound of its score in alpha's terms, item).
ctypedef pair[double, int64_t] Found

# What a tile must know of a query: see CodeQueries.
cdef struct Coefficients:
    float alpha
    float beta
    float delta
    float epsilon
    float zeta
    float eta
    float offset
    float gamma

# What meeting an item touches stands first: it should lie in one or two cache lines.
cdef struct CodeQuery:
    Coefficients own
    double margin       # of the test's own rounding; part of the offset
    double alpha        # the limit of newcomers: the floor, or the k-th best lower bound
    Found* found        # [capacity] not yet scored, in order of the walk
    int64_t n_found
    double* lower       # [k] max-heap of the best lower bounds, negated, in alpha's terms
    int64_t n_lower
    int64_t seat        # in the tiles; -1 while it has none
    double keep         # the limit of what is found: k others come first, though they came later
    double floor        # alpha of the exact scores so far, or of min_score
    double tie_floor    # the same for what was met before some that is scored: it may win a tie
    double lowest       # beyond these lower bounds say nothing: scores are cut off there
    double highest
    double tau_scale    # tau, in the caller's units, becomes alpha = tau * scale + shift
    double tau_shift
    double kappa        # float64 rounding, in units of 1 / step
    double total        # sum of the query's codes
    int64_t room        # the length of the list at which some of it is scored
    double seed         # the limit that the walk began with
    double idle         # to three cache lines

cdef struct CodeChunk:
    int64_t n_queries
    int64_t n_seated    # of them in the tiles
    int64_t pairs       # of groups of 4 dims
    bint coarse         # the scan reads the high plane alone
    int64_t capacity
    CodeQuery* queries  # [n_queries]
    int32_t* codes      # [n_queries][2 pairs]
    int64_t* member     # [n_queries] who is to be seated next
    int64_t* seated     # [n_seated] which query has this seat
    CodeQueries* tiles  # [ceil(n_seated / 12)]
    int32_t* words      # [tile][2 pairs][queries of the tile]
    int32_t* raw        # [12][32]
    double* scratch     # [dim]
    float* boost        # [rows of a block], NULL without bias
    double* lower       # what the queries' heaps and lists are cut from
    Found* found


cdef bint open_codes(const Plan* plan, CodeChunk* chunk, const Query* queries, int64_t q0,
                     int64_t n_queries, int64_t block_rows) noexcept nogil
cdef double alpha_of(const Plan* plan, const CodeQuery* coded, double tau) noexcept nogil
cdef void set_floor(const Plan* plan, CodeChunk* chunk, const Query* query,
                    int64_t q) noexcept nogil
cdef void raise_limit(const Plan* plan, CodeChunk* chunk, int64_t q) noexcept nogil
cdef double below_ties(const Plan* plan, const CodeQuery* coded, double bound) noexcept nogil
cdef void set_grid(CodeChunk* chunk, bint coarse) noexcept nogil
cdef void seat(CodeChunk* chunk, int64_t n_seated) noexcept nogil

# Between centre - slack and centre + slack lies what an item can score, less its boost: in steps of
# its codes, in alpha's terms times `step`.
cdef struct Bound:
    double centre
    double slack
    double step


cdef inline Bound bound_of(const Plan* plan, const CodeQuery* coded, bint coarse, int64_t slot,
                           double raw) noexcept nogil:
    """The bound of the item in `slot` by the sum of its codes, in float64."""
    cdef const Coefficients* own = &coded.own
    cdef const PanelFacts* facts = facts_of(plan, slot)
    cdef const float* bounds = facts.bounds[1 if coarse else 0]
    cdef int64_t r = slot % kPanelRows
    cdef double bias = bias_of(facts[0], plan.codes.rows_inside)[r]
    cdef double inverse = facts.inverse_step[r]
    cdef Bound bound
    bound.step = 1.0 / inverse
    bound.centre = raw - own.offset - coded.margin + bias * own.beta
    bound.slack = (<double>own.delta * bounds[0] + <double>own.epsilon * bounds[1]
                   + <double>own.zeta * inverse + <double>own.eta * fabs(bias)
                   + coded.margin)
    return bound
