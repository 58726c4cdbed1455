"""The walk over groups of like items: a query visits those whose bound reaches its limit."""

from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._plan cimport Plan, Query, Report


cdef enum Walked:
    SHORT_OF_MEMORY
    DOES_NOT_PAY
    DONE

cdef Walked walk_groups(const Plan* plan, CodeChunk* chunk, Query* queries, int64_t q0,
                        int64_t first, int64_t end, Report* report) noexcept nogil
