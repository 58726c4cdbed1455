"""A segment: rows that one native call scans, and how the first and the compacted one are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recengine import _native
from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval import _coding, _score
from recengine.retrieval._layout import Layout, carried_over
from recengine.retrieval._table import Table
from recengine.retrieval._vectors import Vectors

# Up to so many bytes of codes few queries read whole: reading them costs little beside scoring what
# the upper halves leave. Timed with `_search.search` on Gaussian vectors of 32 to 384 dims, k = 10,
# one query: at 4 MiB 1.3 to 1.6 times as fast where the codes lie in a cache, and equal where they
# come from memory; there, from 8 MiB on, the upper halves win.
SMALL_CODES = 2**22
CHANGED_SHARE = 4  # one row in so many may have changed before the order of codes is measured anew


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that never change; its arrays are read-only.

    Attributes
    ----------
    vectors : ndarray (n_rows, dim), float32, float16 or uint16 (bfloat16), C-contiguous
        As they are stored (`_vectors`).
    sq_norms : ndarray (n_rows,), float64
        The canonical x·x of each row.
    reach : ndarray (n_rows,), float32
        What the float32 scan needs to know of each row under the metric (`_score.reach`).
    ordinals : ndarray (n_rows,), int64, or None
        The stable number of each row; None where it is the row number.
    ascending : bool
        Whether the ordinals rise with the row.
    codes : dict of arrays, or None
        What the int8 scan reads (`_coding.encode`); None where it reads the vectors.
    bias : ndarray (n_rows,), float32, or None
        Added to the scores; None where it is 0 throughout.
    n_changed : int
        How many rows came or went since the order of the codes was measured.
    """

    vectors: Vectors
    sq_norms: Float64Array
    reach: Float32Array
    ordinals: Int64Array | None
    ascending: bool
    codes: dict[str, Any] | None
    bias: Float32Array | None = None
    n_changed: int = 0
    _table: Table | None = field(default=None, init=False, repr=False, compare=False)

    def table(self) -> Table:
        """Return what native searches read; made once, by whoever asks first."""
        if self._table is None:
            table = Table(
                self.vectors,
                self.sq_norms,
                self.reach,
                ordinals=self.ordinals,
                ascending=self.ascending,
                bias=self.bias,
                codes=self.codes,
                coarse=self.vectors.size > SMALL_CODES,
            )
            object.__setattr__(self, "_table", table)
            return table
        return self._table

    @property
    def n_rows(self) -> int:
        return int(self.vectors.shape[0])

    def ordinals_of(self, rows: Int64Array) -> Int64Array:
        """Return the stable numbers of these rows."""
        return rows if self.ordinals is None else self.ordinals[rows]

    def rows_of(self, ordinals: Int64Array) -> Int64Array:
        """Return the row of each ordinal, −1 where there is none. pre: `ascending`."""
        if self.n_rows == 0:
            return np.full(len(ordinals), -1, np.int64)
        if self.ordinals is None:
            return np.where(ordinals < self.n_rows, ordinals, -1)
        rows = self.ordinals.searchsorted(ordinals)
        rows[rows == self.n_rows] = 0
        return np.where(self.ordinals[rows] == ordinals, rows, -1)

    def row_of(self, ordinal: int) -> int:
        """Return the row of one ordinal >= 0, or −1. pre: `ascending`."""
        if self.ordinals is None:
            return ordinal if ordinal < self.n_rows else -1
        row = int(self.ordinals.searchsorted(ordinal))
        return row if row < self.n_rows and self.ordinals[row] == ordinal else -1


def sealed(
    vectors: Vectors,
    metric: int,
    *,
    ordinals: Int64Array | None = None,
    sq_norms: Float64Array | None = None,
    reach: Float32Array | None = None,
    codes: dict[str, Any] | None = None,
    bias: Float32Array | None = None,
    layout: Layout | None = None,
    n_changed: int = 0,
) -> Segment:
    """Return the segment of read-only `vectors`; what is not given is computed. O(n_rows dim)."""
    norms = frozen(_score.squared_norms(_native.api(), vectors)) if sq_norms is None else sq_norms
    bound = frozen(_score.reach(metric, norms)) if reach is None else reach
    made = _coding.encode(vectors, norms, bound, metric, layout) if codes is None else codes
    return Segment(vectors, norms, bound, ordinals, True, made, bias, n_changed)


def joined(
    base: Segment, base_rows: Int64Array, delta: Segment, delta_rows: Int64Array, metric: int
) -> Segment:
    """Return one segment of some rows of two, in order of ordinal. O(n_rows dim).

    Parameters
    ----------
    base : Segment
        Ascending.
    base_rows, delta_rows : ndarray, int64
        The rows of each, ascending.
    delta : Segment
        In any order.
    metric : int

    Notes
    -----
    Peak memory is that of the new segment and some bytes a row. The GIL is released but for
    microseconds at a time: searches go on beside it.
    """
    kept = base.ordinals_of(base_rows)
    late = delta.ordinals_of(delta_rows)
    by_ordinal = np.argsort(late, kind="stable")
    late, delta_rows = late[by_ordinal], delta_rows[by_ordinal]
    place = np.searchsorted(kept, late) + np.arange(len(late))
    stays = np.ones(len(kept) + len(late), bool)
    stays[place] = False
    stay = np.flatnonzero(stays)
    source = np.zeros(len(stays), np.int64)
    source[stay] = base_rows

    def merged(ours: Any, theirs: Any) -> Any:
        shape = (len(source), *ours.shape[1:])
        table = np.take(ours, source, axis=0) if len(ours) else np.empty(shape, ours.dtype)
        table[place] = theirs[delta_rows]
        return frozen(table)

    ordinals = np.empty(len(stays), np.int64)
    ordinals[stay], ordinals[place] = kept, late
    dense = len(ordinals) == 0 or int(ordinals[-1]) == len(ordinals) - 1
    is_biased = base.bias is not None or delta.bias is not None
    norms = merged(base.sq_norms, delta.sq_norms)
    n_changed = base.n_changed + max(base.n_rows - len(base_rows), len(delta_rows))
    layout = None
    if base.codes is not None and n_changed * CHANGED_SHARE <= len(stays):
        row_now = np.full(base.n_rows, -1, np.int64)
        row_now[base_rows] = stay
        layout = carried_over(base.codes, row_now, place, norms)
    return sealed(
        merged(base.vectors, delta.vectors),
        metric,
        ordinals=None if dense else frozen(ordinals),
        sq_norms=norms,
        reach=merged(base.reach, delta.reach),
        bias=merged(_bias_of(base), _bias_of(delta)) if is_biased else None,
        layout=layout,
        n_changed=0 if layout is None else n_changed,
    )


def _bias_of(segment: Segment) -> Float32Array:
    return np.zeros(segment.n_rows, np.float32) if segment.bias is None else segment.bias


def frozen(array: Any) -> Any:
    """Return `array`, made read-only."""
    array.flags.writeable = False
    return array
