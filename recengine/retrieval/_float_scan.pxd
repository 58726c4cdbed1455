"""The float32 scan: blocks loaded once, passed over by every query of a chunk."""

from libc.stdint cimport int64_t

from recengine.retrieval._plan cimport CHUNK_QUERIES, Plan, Query, Report


cdef enum:
    MAX_TILES = CHUNK_QUERIES // 12

# How long the tiles of up to 12 queries go by float64 before float32 is tried again.
cdef struct Pause:
    int64_t left
    int64_t length

cdef struct FloatChunk:
    int64_t q0
    int64_t n_queries
    bint packs               # panels and groups of queries, or rows as they lie
    int64_t rows             # room for so many rows in a block; 0 before it is opened
    float* packed            # queries, [tile][dim][queries of the tile]
    float* tile              # [12][32]
    int64_t n_rows           # of the block that is loaded
    int64_t n_panels
    const float** row        # [n_panels * 32]
    int64_t* number          # [n_panels * 32] rows; items where there are codes
    float* reach             # [n_panels * 32]
    float* bias              # [n_panels * 32]
    float* panels            # [n_panels][dim][32]
    float* widened           # rows of 2 bytes a number, of a panel (packs) or all; else NULL
    Pause[MAX_TILES] pauses  # of each tile of queries
    # What `_sum_scan` needs; `sums` is NULL until it does.
    double* sums             # [12][32] canonical
    double* wide             # queries, [tile][dim][queries of the tile]
    double* weight           # [n_queries] of the bias: |q| under cosine
    double* limit            # [n_queries] what scaled sums must exceed,
    double* tie_limit        # or may equal: of newcomers with lower ordinals than the worst
    int64_t* worst           # [n_queries] ordinal of the worst entry
    bint measured            # whether the next two are those of the loaded block
    double* scale            # [n_panels * 32] of the sums
    int64_t* lowest          # [n_panels] ordinal


cdef double gamma_bound(int64_t dim) noexcept nogil
cdef void pack_queries(const Plan* plan, int64_t q0, int64_t n_queries,
                       float* packed) noexcept nogil
cdef bint open_floats(const Plan* plan, FloatChunk* chunk, int64_t q0, int64_t n_queries,
                      int64_t rows) noexcept nogil
cdef void scan_floats(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t first,
                      int64_t end, Report* report) noexcept nogil
