"""A block of rows, loaded once and passed over by every query of a chunk."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from recengine.retrieval._float_scan cimport FloatChunk
from recengine.retrieval._kernels cimport kPanelRows
from recengine.retrieval._plan cimport Plan, boost_of_item, item_of_slot
from recengine.retrieval._rows cimport prefetch_row, row_at

cdef enum:
    AHEAD = 12               # rows asked for before the one that is loaded


cdef void load_in_order(const Plan* plan, FloatChunk* block, int64_t first) noexcept nogil:
    """Load `n_rows` float32 rows that follow one another, each as it lies."""
    cdef int64_t i, dim = plan.dim, n = block.n_rows
    cdef const float* row = row_at(plan.vectors, first, NULL)
    cdef const float** rows = block.row
    cdef int64_t* number = block.number
    for i in range(n):
        rows[i] = row + i * dim
        number[i] = first + i
    memcpy(block.reach, plan.reach + first, n * sizeof(float))
    if plan.bias != NULL:
        memcpy(block.bias, plan.bias + first, n * sizeof(float))
    for i in range(n, block.n_panels * kPanelRows):
        rows[i], number[i], block.reach[i] = rows[n - 1], number[n - 1], block.reach[n - 1]
        block.bias[i] = block.bias[n - 1] if plan.bias != NULL else 0.0


cdef void load_block(const Plan* plan, FloatChunk* block, int64_t first,
                     int64_t n_rows) noexcept nogil:
    """Load rows at positions [first, first + n_rows).

    Idle slots repeat the last row, so that tiles read what exists; their hits are cleared.
    """
    cdef int64_t i, row, n_slots
    cdef float* scratch = NULL
    # Rows that are widened, or lie apart, are read one by one: the machine asks for too few.
    cdef bint asks = block.widened != NULL or (block.packs and lie_apart(plan))
    block.n_rows = n_rows
    block.n_panels = (n_rows + kPanelRows - 1) // kPanelRows
    block.measured = False
    if not (block.packs or block.widened != NULL or lie_apart(plan)):
        load_in_order(plan, block, first)
        return
    n_slots = block.n_panels * kPanelRows
    for i in range(n_slots):
        row = row_of(plan, first + min(i, n_rows - 1))
        block.number[i] = row
        if plan.codes != NULL:
            block.number[i] = item_of_slot(plan, first + min(i, n_rows - 1))
        if asks and i + AHEAD < n_rows:
            prefetch_row(plan.vectors, row_of(plan, first + i + AHEAD))
        if block.widened != NULL:
            scratch = block.widened + (i % kPanelRows if block.packs else i) * plan.dim
        block.row[i] = row_at(plan.vectors, row, scratch)
        block.reach[i] = plan.reach[row]
        if plan.bias != NULL:
            block.bias[i] = plan.bias[row]
            if plan.codes != NULL:
                block.bias[i] = boost_of_item(plan, block.number[i])
        if block.packs and i % kPanelRows == kPanelRows - 1:
            plan.native.kernels.pack_panel(block.row + i + 1 - kPanelRows, plan.dim,
                                           block.panels + (i + 1 - kPanelRows) * plan.dim)
