"""A segment: rows that one native call scans, and how the first and the compacted one are made."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine import _native
from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval import _coding, _score
from recengine.retrieval._vectors import Vectors

CHUNK_BYTES = 4 << 20  # how much of the vectors is gathered at once


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
    """

    vectors: Vectors
    sq_norms: Float64Array
    reach: Float32Array
    ordinals: Int64Array | None
    ascending: bool
    codes: dict[str, Any] | None
    bias: Float32Array | None = None

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
        row = bisect_left(self.ordinals, ordinal)
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
) -> Segment:
    """Return the segment of read-only `vectors`; what is not given is computed. O(n_rows dim)."""
    norms = frozen(_score.squared_norms(_native.api(), vectors)) if sq_norms is None else sq_norms
    bound = frozen(_score.reach(metric, norms)) if reach is None else reach
    made = _coding.encode(vectors, norms, bound, metric) if codes is None else codes
    return Segment(vectors, norms, bound, ordinals, True, made, bias)


def joined(parts: list[tuple[Segment, Int64Array]], metric: int) -> Segment:
    """Return one segment of the given rows of several, in order of ordinal. O(n_rows dim).

    Peak memory is that of the new segment and a few MiB.
    """
    numbers = np.concatenate([segment.ordinals_of(rows) for segment, rows in parts])
    order = np.argsort(numbers, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ordinals = numbers[order]
    like = parts[0][0].vectors
    vectors = np.empty((len(order), like.shape[1]), like.dtype)
    norms, reach = np.empty(len(order), np.float64), np.empty(len(order), np.float32)
    biased = any(segment.bias is not None for segment, _ in parts)
    bias = np.zeros(len(order), np.float32) if biased else None
    step = max(1, CHUNK_BYTES // (like.itemsize * like.shape[1]))
    done = 0
    for segment, rows in parts:
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            where = place[done : done + len(some)]
            vectors[where] = segment.vectors[some]
            norms[where] = segment.sq_norms[some]
            reach[where] = segment.reach[some]
            if bias is not None and segment.bias is not None:
                bias[where] = segment.bias[some]
            done += len(some)
    dense = len(order) == 0 or int(ordinals[-1]) == len(order) - 1
    return sealed(
        frozen(vectors),
        metric,
        ordinals=None if dense else frozen(ordinals),
        sq_norms=frozen(norms),
        reach=frozen(reach),
        bias=None if bias is None else frozen(bias),
    )


def frozen(array: Any) -> Any:
    """Return `array`, made read-only."""
    array.flags.writeable = False
    return array
