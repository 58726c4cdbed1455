"""The certified int8 scan: a chunk of queries in codes, passed over panels of item codes."""

from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._plan cimport Plan, Query


cdef int64_t scan_codes(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t first,
                        int64_t end, int64_t* n_scored) noexcept nogil
cdef int64_t settle_codes(const Plan* plan, CodeChunk* chunk, Query* queries) noexcept nogil
cdef int64_t drop_finished(const Plan* plan, CodeChunk* chunk, Query* queries,
                           int64_t panel) noexcept nogil
