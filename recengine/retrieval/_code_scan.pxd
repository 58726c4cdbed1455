"""The certified int8 scan: a chunk of queries in codes, passed over panels of item codes."""

from libc.stdint cimport int32_t, int64_t

from recengine.retrieval._kernels cimport CodeQueries
from recengine.retrieval._plan cimport Plan, Query

cdef enum:
    PENDING = 64


# How tau, in the caller's units, becomes a limit in units of the codes.
cdef struct CodeQuery:
    double tau_scale
    double tau_shift
    double kappa        # float64 rounding, in units of 1 / step
    float tau           # that the limit was made from

cdef struct CodeChunk:
    int64_t n_queries
    int64_t groups      # of 4 dims
    bint wide           # two digits per query code
    CodeQueries* tiles  # [ceil(n_queries / 12)]
    CodeQuery* queries  # [n_queries]
    int64_t* member     # [n_queries] which of the task's queries stands here
    int32_t* words      # [tile][groups][queries of the tile, digits one after another]
    int32_t* spare      # of the same size, for retiling
    int32_t* raw        # [24][32]
    double* scratch     # [2][dim]
    int64_t n_pending
    int64_t pending_query[PENDING]
    int64_t pending_row[PENDING]


cdef bint open_codes(const Plan* plan, CodeChunk* chunk, const Query* queries, int64_t q0,
                     int64_t n_queries) noexcept nogil
cdef void drop_finished(const Plan* plan, CodeChunk* chunk, const Query* queries,
                        int64_t panel) noexcept nogil
cdef int64_t scan_codes(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t first,
                        int64_t end) noexcept nogil
cdef void close_codes(CodeChunk* chunk) noexcept nogil
