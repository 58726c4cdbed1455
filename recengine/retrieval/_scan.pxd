"""The task that the pool runs, and what becomes of its parts."""

from libc.stdint cimport int64_t

from recengine.retrieval._plan cimport Entry, Plan


cdef void scan(void* context, int64_t task) noexcept nogil
cdef void collect(const Plan* plan, int64_t[:, ::1] out_rows, float[:, ::1] out_scores,
                  Entry* merged) noexcept nogil
cdef int64_t split(Plan* plan, int num_threads) noexcept nogil
