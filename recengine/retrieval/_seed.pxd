"""A limit for each query before the walk begins."""

from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._kernels cimport kPanelRows
from recengine.retrieval._plan cimport Plan


cdef enum:
    SEED_ROWS = 1024     # looked at for a limit
    LEAST_PANELS = 2     # for each of the k items


cdef inline bint seeds(const Plan* plan, int64_t n_slots) noexcept nogil:
    """Whether a walk over so many slots begins with a limit."""
    if plan.codes == NULL or plan.filters or plan.bias != NULL:
        return False
    return min(<int64_t>SEED_ROWS, n_slots) // kPanelRows >= LEAST_PANELS * plan.k


cdef bint seed_limits(const Plan* plan, CodeChunk* chunk, int64_t first,
                      int64_t end) noexcept nogil
