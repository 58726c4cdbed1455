"""One search, prepared: what `_search` fills in and `_scan` carries out."""

from libc.stdint cimport int64_t, uint64_t
from libcpp.pair cimport pair

from recengine.retrieval._kernels cimport NativeApi

# Ordered so that `<` means better: (-score, row). The worst entry is then a max-heap's top.
ctypedef pair[float, int64_t] Entry


cdef struct Plan:
    const NativeApi* native
    int metric
    const float* queries
    const float* scan_queries  # what the tiles see: unit length under cosine
    const float* vectors
    const double* sq_norms
    const float* reach
    const float* bias
    const uint64_t* mask
    const int64_t* rows
    const int64_t* exclude_indptr
    const int64_t* exclude_rows
    const double* query_sq
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
    Entry* entries           # [part][query][k]
    int64_t* counts          # [part][query]
    int64_t* scanned         # [task]
    int64_t* rescored        # [task]
    int64_t* state           # [task]: 0 done, 1 stopped by the deadline, 2 out of memory


cdef void scan(void* context, int64_t task) noexcept nogil
cdef void collect(const Plan* plan, int64_t[:, ::1] out_rows, float[:, ::1] out_scores,
                  Entry* merged) noexcept nogil
cdef int64_t split(Plan* plan, int num_threads) noexcept nogil
cdef double gamma_bound(int64_t dim) noexcept nogil
