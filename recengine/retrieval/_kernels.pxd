"""What the drivers share: the native table, and the canonical score of one pair."""

from libc.float cimport FLT_MAX
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libcpp cimport bool as cbool


cdef extern from "core/native_api.h" namespace "recengine" nogil:
    ctypedef void (*Task)(void* context, int64_t index) noexcept nogil

    cdef struct HitTest:
        const float* scores
        const float* scale
        const float* norm
        const float* bias
        float slope
        float margin
        float threshold

    cdef struct SumTest:
        const double* sums
        const double* scale
        const float* bias
        const double* weight
        const double* limit

    cdef struct CodeQueries:
        float alpha[16]
        float beta[16]
        float delta[16]
        float epsilon[16]
        float zeta[16]
        float eta[16]
        float offset[16]
        float gamma[16]

    cdef struct CodePanel:
        const float* inverse_step
        const float* bias
        const float* bounds
        const float* boost

    cdef struct Kernels:
        const char* name
        int32_t query_code_max
        void (*dot_codes)(const uint8_t* high, const uint8_t* low, const int32_t* queries,
                          int64_t pairs, int64_t n_queries, int32_t* out) noexcept nogil
        cbool (*code_hits)(const int32_t* raw, const CodePanel& panel,
                           const CodeQueries& queries, int64_t n_queries,
                           uint32_t* masks) noexcept nogil
        void (*code_limits)(const CodePanel& panel, const CodeQueries& queries,
                            int32_t* limits) noexcept nogil
        cbool (*raw_hits)(const int32_t* raw, const int32_t* limits, int64_t n_queries,
                          uint32_t* masks) noexcept nogil
        float (*panel_best)(const int32_t* raw, const float* step, const float* bias,
                            float offset, float beta, float* scores) noexcept nogil
        void (*pack_panel)(const float** rows, int64_t dim, float* panel) noexcept nogil
        void (*dot_panel)(const float* panel, const float* queries, int64_t dim,
                          int64_t n_queries, float* out) noexcept nogil
        void (*l2_panel)(const float* panel, const float* queries, int64_t dim,
                         int64_t n_queries, float* out) noexcept nogil
        void (*dot_rows)(const float* query, const float** rows, int64_t dim,
                         float* out) noexcept nogil
        void (*l2_rows)(const float* query, const float** rows, int64_t dim,
                        float* out) noexcept nogil
        uint32_t (*hits)(const HitTest& test) noexcept nogil
        double (*canonical_dot)(const float* a, const float* b, int64_t dim) noexcept nogil
        double (*canonical_sqdist)(const float* a, const float* b, int64_t dim) noexcept nogil
        void (*canonical_dot_panel)(const float* panel, const double* queries, int64_t dim,
                                    int64_t n_queries, double* sums) noexcept nogil
        void (*canonical_sqdist_panel)(const float* panel, const double* queries, int64_t dim,
                                       int64_t n_queries, double* sums) noexcept nogil
        void (*canonical_dot_rows)(const float* query, const float** rows, int64_t dim,
                                   double* sums) noexcept nogil
        void (*canonical_sqdist_rows)(const float* query, const float** rows, int64_t dim,
                                      double* sums) noexcept nogil
        cbool (*sum_hits)(const SumTest& test, int64_t n_queries,
                          uint32_t* masks) noexcept nogil

    cdef struct CodeWalk:
        const uint8_t* high
        const uint8_t* low
        const float* boost
        int64_t boost_first
        cbool rows_inside
        int64_t pairs
        const int32_t* words
        const CodeQueries* queries
        int64_t n_queries
        int32_t* raw
        uint32_t* masks

    cdef struct GroupQueries:
        int64_t n_queries
        int64_t stride
        int64_t n_axes
        float* t
        float* rest
        float* error
        float* square
        float* margin
        float* limit
        int32_t* nearest

    cdef struct GroupBounds:
        const float* low
        const float* high
        const float* across

    cdef struct Groups:
        const int64_t* axis_starts
        GroupBounds around
        GroupBounds within

    cdef struct GroupCursor:
        int64_t group
        int64_t end
        int64_t axis
        int64_t n_blocks
        int64_t* blocks

    cdef struct NativeApi:
        const Kernels* kernels
        void (*parallel_for)(int64_t n_tasks, int num_threads, Task task,
                             void* context) noexcept nogil
        int64_t (*now_ns)() noexcept nogil
        int64_t (*next_hit)(const Kernels& kernels, const CodeWalk& walk, int64_t first,
                            int64_t end) noexcept nogil
        void (*split_directions)(const GroupQueries& queries) noexcept nogil
        int64_t (*next_reached)(const GroupQueries& queries, const Groups& groups,
                                GroupCursor* cursor, int64_t* members,
                                int64_t* n_members) noexcept nogil
        void (*begin_scratch)(int use) noexcept nogil
        void* (*take_scratch)(int use, size_t bytes) noexcept nogil

    const int64_t kGroupLanes
    const int kCallScratch
    const int kTaskScratch

    const char* kApiCapsule


cdef extern from "core/quantize.h" namespace "recengine" nogil:
    cdef struct PanelFacts:
        float inverse_step[32]
        float bias[32]
        int32_t rows[32]
        float bounds[2][8]

    const float* bias_of(const PanelFacts& facts, cbool rows_inside)
    int64_t code_pairs(int64_t dim)
    int64_t high_stride(int64_t pairs)


cdef extern from "core/types.h" namespace "recengine" nogil:
    const int64_t kPanelRows
    const int64_t kPanelBytes
    const int64_t kTileQueries


cdef enum:
    COSINE = 0
    DOT = 1
    L2 = 2

cdef inline float rounded(double value) noexcept nogil:
    """Round once to float32: overflow saturates, -0 becomes +0."""
    if value > FLT_MAX:
        return FLT_MAX
    if value < -FLT_MAX:
        return -FLT_MAX
    return <float>value + <float>0.0


cdef inline double canonical_sum(const Kernels* kernels, int metric, const float* query,
                                 const float* item, int64_t dim) noexcept nogil:
    """What a score is made of: the dot product, or the squared distance, in fixed order."""
    if metric == L2:
        return kernels.canonical_sqdist(query, item, dim)
    return kernels.canonical_dot(query, item, dim)


cdef inline float score_of_sum(int metric, double sum_, double query_sq, double item_sq,
                               double bias) noexcept nogil:
    """The score that a canonical sum stands for, rounded once."""
    if metric == L2:
        return rounded(-sqrt(sum_))
    if metric == COSINE:
        sum_ = 0.0 if query_sq == 0.0 or item_sq == 0.0 else sum_ / sqrt(query_sq * item_sq)
    return rounded(sum_ + bias)


cdef inline float canonical_score(const Kernels* kernels, int metric, const float* query,
                                  const float* item, int64_t dim, double query_sq,
                                  double item_sq, double bias) noexcept nogil:
    """Score of one pair: float64 in fixed order, rounded once (the decision everywhere)."""
    return score_of_sum(metric, canonical_sum(kernels, metric, query, item, dim), query_sq,
                        item_sq, bias)
