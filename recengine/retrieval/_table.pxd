"""What a search reads of a segment."""

from libc.stdint cimport int64_t

from recengine.retrieval._plan cimport CodeTable, Plan


cdef class Table:
    cdef Plan plan      # what it has of one; the rest is the request's
    cdef CodeTable codes
    cdef object arrays  # whose memory the plan points to

cdef float largest_bias(const float[::1] bias, int64_t n) except -1
