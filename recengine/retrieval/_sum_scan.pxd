"""The float64 tiles: canonical sums of 32 items and up to 12 queries at once."""

from libc.stdint cimport int64_t

from recengine.retrieval._float_scan cimport FloatChunk
from recengine.retrieval._plan cimport Plan, Query


cdef bint open_sums(const Plan* plan, FloatChunk* chunk, const Query* queries) noexcept nogil
cdef void set_limits(const Plan* plan, FloatChunk* chunk, const Query* queries, int64_t q,
                     int64_t count) noexcept nogil
cdef int64_t decide_by_sums(const Plan* plan, FloatChunk* chunk, Query* queries, int64_t q,
                            int64_t count, int64_t panel) noexcept nogil
