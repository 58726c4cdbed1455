"""The delta: rows in order of arrival, in buffers that grow, published by their number.

A writer appends behind the published length; whoever holds a length sees the rows before it, which
never change. Each row knows the earlier row of its item, so the row that an item had at any
published length is found by walking back from the latest one.

The first rows have int8 codes. They are made anew each time that 1,024 rows, or an eighth of those
coded, have come without: a search that reads all of a delta as float32 takes as long for its rows
as for four times as many of the base.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval import _coding
from recengine.retrieval._layout import Layout
from recengine.retrieval._segment import Segment, frozen
from recengine.retrieval._vectors import Vectors

SMALLEST = 64
LEAST_CODED = 1024  # rows that came since codes were made; fewer are read as they are
RECODED_SHARE = 8


class DeltaLog:
    """Append-only rows. One writer at a time; readers at any time.

    Parameters
    ----------
    dim, metric : int
    dtype : dtype
        Of the vectors, as they are stored.
    n_ordinals : int
        How many ordinals are given already; more may come.
    """

    def __init__(self, dim: int, metric: int, dtype: np.dtype[Any], n_ordinals: int) -> None:
        self._metric = metric
        self._codes: dict[str, Any] | None = None
        self._n_coded = 0
        self._vectors: Vectors = np.empty((SMALLEST, dim), dtype)
        self._sq_norms = np.empty(SMALLEST, np.float64)
        self._reach = np.empty(SMALLEST, np.float32)
        self._bias = np.zeros(SMALLEST, np.float32)
        self._is_biased = False  # whether any bias but 0 was ever appended
        self._ordinals = np.empty(SMALLEST, np.int64)
        self._previous = np.empty(SMALLEST, np.int32)  # the item's row before this one, or -1
        self._after_latest = np.zeros(n_ordinals, np.int32)  # by ordinal: 1 + the last row, or 0
        self._show()

    def _show(self) -> None:
        """Look at the buffers as readers may: a part of a read-only array is read-only."""
        buffers = (self._vectors, self._sq_norms, self._reach, self._ordinals, self._bias)
        self._seen = tuple(frozen(buffer[:]) for buffer in buffers)

    def append(
        self,
        length: int,
        ordinals: Int64Array,
        vectors: Vectors,
        sq_norms: Float64Array,
        reach: Float32Array,
        bias: Float32Array | None,
    ) -> int:
        """Write rows (of distinct ordinals) behind `length`; return the length with them.

        O(rows dim) amortised. Nothing is visible until the new length is published.
        """
        end = self._append(length, ordinals, vectors, sq_norms, reach, bias)
        if end - self._n_coded >= max(LEAST_CODED, self._n_coded // RECODED_SHARE):
            self._encode(end)
        return end

    def _encode(self, end: int) -> None:
        vectors, sq_norms, reach, _ordinals, _bias = (part[:end] for part in self._seen)
        codes = _coding.encode(vectors, sq_norms, reach, self._metric, Layout())
        if codes is not None:
            self._codes, self._n_coded = codes | {"n_rows": end}, end

    def _append(
        self,
        length: int,
        ordinals: Int64Array,
        vectors: Vectors,
        sq_norms: Float64Array,
        reach: Float32Array,
        bias: Float32Array | None,
    ) -> int:
        if len(ordinals) == 1:
            boost = 0.0 if bias is None else float(bias[0])
            row = ordinals.item(0), vectors[0], sq_norms[0], reach[0], boost
            return self._append_one(length, *row)
        end = length + len(ordinals)
        self._reserve(end, int(ordinals.max()) + 1)
        self._vectors[length:end] = vectors
        self._sq_norms[length:end] = sq_norms
        self._reach[length:end] = reach
        self._bias[length:end] = 0.0 if bias is None else bias
        self._is_biased |= bias is not None and bool(bias.any())
        self._ordinals[length:end] = ordinals
        # A reader goes from `_after_latest` to `_previous`: written in the opposite order.
        self._previous[length:end] = self._after_latest[ordinals] - 1
        self._after_latest[ordinals] = np.arange(length + 1, end + 1)
        return end

    def _append_one(
        self, length: int, ordinal: int, vector: Any, sq_norm: Any, reach: Any, bias: float
    ) -> int:
        """Do the same for one row, which needs no arrays: a third of the time."""
        self._reserve(length + 1, ordinal + 1)
        self._vectors[length] = vector
        self._sq_norms[length] = sq_norm
        self._reach[length] = reach
        self._bias[length] = bias
        self._is_biased |= bias != 0
        self._ordinals[length] = ordinal
        self._previous[length] = self._after_latest[ordinal] - 1
        self._after_latest[ordinal] = length + 1
        return length + 1

    def _reserve(self, n_rows: int, n_ordinals: int) -> None:
        if n_rows > len(self._ordinals):
            size = max(n_rows, 2 * len(self._ordinals))
            for name in ("_vectors", "_sq_norms", "_reach", "_bias", "_ordinals", "_previous"):
                setattr(self, name, _grown(getattr(self, name), size))
            self._show()
        if n_ordinals > len(self._after_latest):
            size = max(n_ordinals, len(self._after_latest) * 5 // 4)
            self._after_latest = _grown(self._after_latest, size)

    def segment(self, length: int) -> Segment:
        """Return the first `length` rows, those of the last `append`; O(1)."""
        vectors, sq_norms, reach, ordinals, bias = self._seen
        return Segment(
            vectors[:length],
            sq_norms[:length],
            reach[:length],
            ordinals[:length],
            False,
            self._codes,
            bias[:length] if self._is_biased else None,
        )

    def rows_of(self, ordinals: Int64Array, length: int) -> Int64Array:
        """Return the last row of each ordinal among the first `length`, −1 where there is none."""
        rows = self._after_latest[ordinals].astype(np.int64) - 1
        previous = self._previous
        late = np.flatnonzero(rows >= length)
        while len(late):
            rows[late] = previous[rows[late]]
            late = late[rows[late] >= length]
        return rows

    def row_of(self, ordinal: int, length: int) -> int:
        """Return the last row of one ordinal among the first `length`, or −1."""
        row = int(self._after_latest[ordinal]) - 1
        while row >= length:
            row = int(self._previous[row])
        return row


def _grown(old: Any, size: int) -> Any:
    table = np.zeros((size, *old.shape[1:]), old.dtype)
    table[: len(old)] = old
    return table
