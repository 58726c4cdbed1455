"""A block of rows, loaded for the float32 scan: as they lie, or packed into panels."""

from libc.stdint cimport int64_t

from recengine.retrieval._float_scan cimport FloatChunk
from recengine.retrieval._plan cimport Plan, item_of_slot, row_of_item


cdef inline int64_t row_of(const Plan* plan, int64_t position) noexcept nogil:
    if plan.rows != NULL:
        return plan.rows[position]
    if plan.codes == NULL:
        return position
    return row_of_item(plan, item_of_slot(plan, position))


cdef inline bint lie_apart(const Plan* plan) noexcept nogil:
    """Whether the rows of a walk do not follow one another in memory."""
    return plan.rows != NULL or (plan.codes != NULL and (
        plan.codes.order != NULL or plan.codes.rows_inside))


cdef void load_block(const Plan* plan, FloatChunk* block, int64_t first,
                     int64_t n_rows) noexcept nogil
