"""What bounds the scores of a panel of 32 rows, so that a query may skip it.

Let y be an item: x under dot, x / |x| under cosine. Panels in a row that share an axis u are a run.
With v = u / |u|, of each panel is known

    low <= y.v <= high,   |y - (y.v) v| <= across                     (for each of its rows)

which bounds the score of any query, as `_group_scan` proves. u is stored in float32, 1 - 2^-22 <=
|u| <= 1; the facts are those of just that u, formed in float64 and then widened: by 2^-20 of
R = max(|low|, |high|) + across >= |y|, far more than the (8 dim + 64) 2^-53 R by which they and
canonical scores are off, and outward to float32. What a scan rounds is the scan's own business.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._vectors import Vectors, widened

COSINE, DOT = 0, 1
PANEL_ROWS = 32
CHUNK_NUMBERS = 1 << 17  # 1 MiB in float64
SLACK = 2.0**-20  # of the largest |y|


class Bounds(NamedTuple):
    """Of some rows: along an axis and across it, widened."""

    low: Float32Array
    high: Float32Array
    across: Float32Array


class Items(NamedTuple):
    """The items as rows y: what scales each stored row."""

    vectors: Vectors
    sq_norms: Float64Array
    metric: int

    def directions(self, rows: Int64Array) -> Float32Array:
        """Return the rows at length 1; zero rows stay zero."""
        unit = np.zeros((len(rows), self.vectors.shape[1]), np.float32)
        step = max(1, CHUNK_NUMBERS // unit.shape[1])
        for first in range(0, len(rows), step):
            some = slice(first, first + step)
            norms = np.sqrt(self.sq_norms[rows[some], None])
            parts = widened(self.vectors[rows[some]]).astype(np.float64)
            unit[some] = np.divide(parts, norms, out=parts, where=norms > 0)
        return unit

    def lengths(self, rows: Int64Array) -> Float64Array:
        """Return |y| of the rows."""
        norms = np.sqrt(self.sq_norms[rows])
        return norms if self.metric == DOT else (norms > 0).astype(np.float64)

    def wide(self, rows: Int64Array) -> Float64Array:
        """Return y of the rows."""
        numbers = widened(self.vectors[rows]).astype(np.float64)
        if self.metric == COSINE:
            norms = np.sqrt(self.sq_norms[rows, None])
            np.divide(numbers, norms, out=numbers, where=norms > 0)
        return numbers


def panel_bounds(items: Items, order: Int64Array, runs: Int64Array) -> tuple[Float32Array, Bounds]:
    """Return the axis of each run of panels, and the bounds of each panel.

    Parameters
    ----------
    items : Items
    order : ndarray (n,)
        The row of each slot.
    runs : ndarray (n_axes + 1,)
        The first panel of each run, and the number of panels.
    """
    n, dim = items.vectors.shape
    axis = np.empty((len(runs) - 1, dim), np.float32)
    along, across = np.empty(n), np.empty(n)
    for run, (first, last) in enumerate(pairwise(runs)):
        slots = slice(first * PANEL_ROWS, min(n, last * PANEL_ROWS))
        rows = items.wide(order[slots])
        axis[run] = _direction(rows)
        along[slots], across[slots] = _split(rows, axis[run])
    panels = np.arange(0, n, PANEL_ROWS)
    low, high = np.minimum.reduceat(along, panels), np.maximum.reduceat(along, panels)
    return axis, _widened(low, high, np.maximum.reduceat(across, panels))


def of_groups(bounds: Bounds, starts: Int64Array) -> Bounds:
    """Return the bounds of all panels of each group."""
    firsts = starts[:-1]
    return Bounds(
        np.minimum.reduceat(bounds.low, firsts),
        np.maximum.reduceat(bounds.high, firsts),
        np.maximum.reduceat(bounds.across, firsts),
    )


def _direction(rows: Float64Array) -> Float32Array:
    """Return the direction of the mean, |u| in [1 - 2^-22, 1]."""
    mean = rows.mean(axis=0)
    largest = np.abs(mean).max()
    if largest == 0:
        mean[0] = largest = 1.0
    mean /= largest
    unit = mean * ((1 - 2.0**-23) / np.linalg.norm(mean))
    direction: Float32Array = unit.astype(np.float32)
    return direction


def _split(rows: Float64Array, axis: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Return the lengths of rows along the axis, signed, and across, not rounded down."""
    u = axis.astype(np.float64)
    sq_norms = np.einsum("ij,ij->i", rows, rows)
    along = rows @ u / np.sqrt(u @ u)
    noise = (len(u) + 8) * 2.0**-50 * sq_norms
    return along, np.sqrt(np.maximum(0, sq_norms - along * along) + noise)


def _widened(low: Float64Array, high: Float64Array, across: Float64Array) -> Bounds:
    slack = SLACK * (np.maximum(np.abs(low), np.abs(high)) + across)
    return Bounds(-_rounded_up(slack - low), _rounded_up(high + slack), _rounded_up(across + slack))


def _rounded_up(numbers: Float64Array) -> Float32Array:
    up: Float32Array = np.nextafter(numbers.astype(np.float32), np.float32(np.inf))
    return up
