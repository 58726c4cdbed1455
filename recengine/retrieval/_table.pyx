"""What a search reads of a segment: its arrays, checked once and read by every search."""

import numpy as np

from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t

from recengine.retrieval._float_scan cimport gamma_bound
from recengine.retrieval._kernels cimport (
    GroupBounds,
    code_pairs,
    high_stride,
    kPanelBytes,
    kPanelRows,
)
from recengine.retrieval._plan cimport CodeTable
from recengine.retrieval._rows cimport point_at


cdef class Table:
    """The rows of a segment for `_search.search_parts`, which keeps what they are read from alive.

    Parameters
    ----------
    vectors : (n, dim) float32, float16 or uint16 (the bits of bfloat16), finite
    sq_norms, reach : (n,) float64 and float32
        From `_score.squared_norms` and `_score.reach`.
    ordinals : (n,) int64 >= 0, optional
        The stable number of each row, which answers, ties, `mask` and `exclude_rows` speak; the
        row number when omitted.
    ascending : bool
        Whether `ordinals` rise with the row, which makes ties cheap.
    bias : (n,) float32, optional
        By row, added to the score before it is rounded.
    codes : dict of `_native.encode`, optional
        The int8 codes of `vectors`, or of the first ``codes["n_rows"]`` of them; the scan runs on
        float32 without.
    coarse : bool
        Whether few queries may read the upper four bits of the codes alone, where that pays.

    Notes
    -----
    Immutable, and so may be searched by many threads.
    """

    def __init__(self, vectors, const double[::1] sq_norms, const float[::1] reach, *,
                 const int64_t[::1] ordinals=None, bint ascending=True,
                 const float[::1] bias=None, codes=None, bint coarse=True):
        cdef int64_t n = point_at(&self.plan.vectors, vectors), dim = self.plan.vectors.dim
        if dim < 1:
            raise ValueError(f"vectors must have columns, got {dim}")
        if sq_norms.shape[0] != n or reach.shape[0] != n:
            raise ValueError(f"sq_norms and reach must have {n} entries, "
                             f"got {sq_norms.shape[0]} and {reach.shape[0]}")
        if ordinals is not None and ordinals.shape[0] != n:
            raise ValueError(f"ordinals must have {n} entries, got {ordinals.shape[0]}")
        self.arrays = (vectors, sq_norms, reach, ordinals, bias, codes)
        self.plan.n, self.plan.dim = n, dim
        self.plan.gamma = gamma_bound(dim)
        self.plan.rising, self.plan.coarse = True, coarse
        if n != 0:
            self.plan.sq_norms, self.plan.reach = &sq_norms[0], &reach[0]
            if ordinals is not None:
                self.plan.ordinals, self.plan.rising = &ordinals[0], ascending
        if bias is not None:
            self.plan.max_bias = largest_bias(bias, n)
            self.plan.bias = &bias[0] if n != 0 else <const float*>NULL
        if codes is not None:
            _fill_codes(&self.codes, codes, n, dim)
            self.plan.codes = &self.codes


cdef float largest_bias(const float[::1] bias, int64_t n) except -1:
    """The largest magnitude of the bias of n rows."""
    if bias.shape[0] != n or not np.isfinite(bias).all():
        raise ValueError(f"bias must be {n} finite numbers")
    return np.abs(bias).max() if n != 0 else 0.0


cdef int _fill_codes(CodeTable* table, codes, int64_t n, int64_t dim) except -1:
    cdef const unsigned char[::1] high = codes["high"], low = codes["low"]
    cdef const double[::1] mean = codes["mean"]
    cdef const int32_t[::1] order = codes.get("order")
    cdef const int64_t[::1] members = codes.get("members"), starts = codes.get("starts")
    cdef const float[::1] block_reach = codes.get("block_reach")
    cdef int64_t n_panels
    table.n_rows = codes.get("n_rows", n)
    table.n_slots = table.n_rows if order is None else order.shape[0]
    table.pairs = code_pairs(dim)
    table.stride = high_stride(table.pairs)
    n_panels = (table.n_slots + kPanelRows - 1) // kPanelRows
    if (table.n_slots == 0 or high.shape[0] != n_panels * table.stride
            or low.shape[0] != n_panels * table.pairs * kPanelBytes or mean.shape[0] != dim
            or (order is not None and codes["rows_inside"])
            or (members is None) != (starts is None) or (starts is not None and order is None)
            or (members is None and table.n_slots != table.n_rows) or table.n_rows > n
            or (order is not None and table.n_rows != n)
            or (block_reach is not None and (order is None or block_reach.shape[0] != n_panels))):
        raise ValueError(f"codes must be those of {n} vectors of dim {dim}")
    table.high, table.low, table.mean = &high[0], &low[0], &mean[0]
    if <size_t>table.high % 64 != 0 or <size_t>table.low % 64 != 0:
        raise ValueError("codes must start at a multiple of 64 bytes")
    table.order, table.rows_inside = <const int32_t*>NULL, codes["rows_inside"]
    table.members = table.starts = <const int64_t*>NULL
    table.block_reach = <const float*>NULL
    if order is not None:
        table.order = &order[0]
    if block_reach is not None:
        table.block_reach = &block_reach[0]
    table.n_groups = 0
    if "axes" in codes:
        _fill_groups(table, codes, dim, n_panels)
    if starts is not None:
        if members.shape[0] != n or starts.shape[0] != table.n_slots + 1 or starts[0] != 0 or (
                starts[table.n_slots] != n):
            raise ValueError(f"codes must be those of {n} vectors of dim {dim}")
        table.members, table.starts = &members[0], &starts[0]
    table.unit = codes["unit"]
    cdef int64_t j
    cdef double square = 0.0
    for j in range(dim):
        square += mean[j] * mean[j]
    table.mean_norm = sqrt(square)
    table.largest_norm = 1.0
    return 0


cdef int _fill_groups(CodeTable* table, codes, int64_t dim, int64_t n_panels) except -1:
    cdef const float[:, ::1] axes = codes["axes"]
    cdef const int64_t[::1] axis_starts = codes["axis_starts"], starts = codes["group_starts"]
    cdef int64_t n_axes = axes.shape[0], n_groups = starts.shape[0] - 1
    if (n_axes == 0 or n_groups < 1 or table.order == NULL or axes.shape[1] != dim
            or axis_starts.shape[0] != n_axes + 1 or axis_starts[0] != 0
            or axis_starts[n_axes] != n_groups or starts[0] != 0 or starts[n_groups] != n_panels
            or not _fill_bounds(&table.groups.around, codes, "axis", n_axes)
            or not _fill_bounds(&table.groups.within, codes, "group", n_groups)):
        raise ValueError(f"codes must hold groups of {n_panels} panels of dim {dim}")
    table.n_groups, table.n_axes = n_groups, n_axes
    table.groups.axis_starts, table.group_starts = &axis_starts[0], &starts[0]
    table.axes = &axes[0, 0]
    return 0


cdef bint _fill_bounds(GroupBounds* bounds, codes, str of, int64_t n) except -1:
    """Point at the bounds of all groups or axes; False where there are not `n`."""
    cdef const float[::1] low = codes[of + "_low"], high = codes[of + "_high"]
    cdef const float[::1] across = codes[of + "_across"]
    if low.shape[0] != n or high.shape[0] != n or across.shape[0] != n:
        return False
    bounds.low, bounds.high, bounds.across = &low[0], &high[0], &across[0]
    return True
