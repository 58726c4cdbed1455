"""A limit for each query before the walk begins."""

from libc.stdint cimport int64_t

from recengine.retrieval._code_queries cimport CodeChunk
from recengine.retrieval._kernels cimport kPanelRows
from recengine.retrieval._plan cimport Plan


cdef enum:
    SEED_ROWS = 1024     # looked at for a limit, or where k is large
    SEED_PANELS = 4      # so many panels for each of the k items,
    LEAST_PANELS = 2     # but never fewer than so many;
    MOST_ROWS = 32768    # they are coded twice,
    SHORT_OF_ALL = 16    # which pays in tables of at least so many times as many


cdef inline int64_t seed_rows(const Plan* plan, int64_t n_slots) noexcept nogil:
    """How many slots a walk over so many looks at for a limit first; 0 where it does not."""
    cdef int64_t rows = SEED_PANELS * plan.k * kPanelRows
    if plan.codes == NULL or plan.filters or plan.bias != NULL:
        return 0
    if SEED_ROWS < rows <= MOST_ROWS and rows * SHORT_OF_ALL <= n_slots:
        return rows
    rows = min(<int64_t>SEED_ROWS, n_slots)
    return rows if rows // kPanelRows >= LEAST_PANELS * plan.k else 0


cdef bint seed_limits(const Plan* plan, CodeChunk* chunk, int64_t first,
                      int64_t end) noexcept nogil
