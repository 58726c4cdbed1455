"""The walk over rows as they lie: those without codes, or all of them."""

from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._float_scan cimport FloatChunk
from recengine.retrieval._plan cimport Plan, Query, Report


cdef bint leaves_order(const Plan* plan, const CodeChunk* codes, const Query* queries,
                       int64_t first, int64_t end) noexcept nogil
cdef void scan_rows(const Plan* plan, CodeChunk* codes, FloatChunk* floats, Query* queries,
                    Report* report) noexcept nogil
cdef void scan_uncoded(const Plan* plan, FloatChunk* floats, Query* queries,
                       Report* report) noexcept nogil
