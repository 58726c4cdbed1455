"""What bounds the scores of a panel of 32 rows, so that a query may skip it.

Let y be an item: x under dot, x / |x| under cosine. Rows that point the same way lie together, in
panels of 32; some panels in a row share an axis u with 1 - 2^-22 <= |u| <= 1. Of each panel, or of
a group of them, is known

    low <= y.u / |u| <= high,   |y - (y.u / u.u) u| <= across        (for each of its rows)

so for a query e of length 1 (under dot scores are |q| times as large), with T = e.u / |u|,

    e.y  <=  max(T low, T high) + sqrt(1 - T^2) across                (Cauchy-Schwarz across u)

A panel whose bound does not reach the k-th best score / |q| holds nothing that is wanted. The scan
has only float32 numbers, e rounded to float32 among them. It evaluates

    t = e.u,   bound = max(t low, t high) + sqrt(max(0, square - t t)) across

and nothing else: all slack is in the facts. |t - T| <= eta = 1.001 (dim + 8) 2^-24, in whatever
order t is summed: dim roundings of the sum, 2 of e, 4 for |u|. As |t| <= 1 + eta, 1 - T^2 is at
most 1 - t^2 + 3 eta; square = 1 + 4 eta leaves eta for the three roundings of square - t t. So the
root s is not too small, and |t| + s >= 1: what is added to high and across and taken from low
raises any bound by at least as much. That is

    kappa = (eta + 2^-21) R + 2^-120,   R = max(|low|, |high|) + across >= |y|:

eta R for t in place of T; 2^-21 R for five roundings of the bound, and for those in float64, of the
facts and of the canonical score, which are below (8 dim + 64) 2^-53 R; 2^-120 for what underflows.
Where the bound is below (the float32 before tau) / |q|, rounded down, the canonical score of
no row ties with tau after its rounding to float32. A zero query, or one that is not finite, has no
direction: it must not skip. tests/retrieval/test_panel_bounds.py holds all this against exact
numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._vectors import Vectors, widened

COSINE, DOT = 0, 1
PANEL_ROWS = 32


class Bounds(NamedTuple):
    """Of some rows, with slack: along an axis and across it."""

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
        norms = np.sqrt(self.sq_norms[rows, None])
        parts = widened(self.vectors[rows])
        unit = np.divide(parts, norms, out=np.zeros(parts.shape), where=norms > 0)
        return unit.astype(np.float32)

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


def square(dim: int) -> float:
    """Return what stands for the squared length of a query of length 1: a float32."""
    return float(np.float32(1 + 4 * _eta(dim)))


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
    return axis, _with_slack(low, high, np.maximum.reduceat(across, panels), _eta(dim))


def of_groups(bounds: Bounds, starts: Int64Array) -> Bounds:
    """Return the bounds of all panels of each group."""
    firsts = starts[:-1]
    return Bounds(
        np.minimum.reduceat(bounds.low, firsts),
        np.maximum.reduceat(bounds.high, firsts),
        np.maximum.reduceat(bounds.across, firsts),
    )


def _eta(dim: int) -> float:
    return 1.001 * (dim + 8) * 2.0**-24


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


def _with_slack(low: Float64Array, high: Float64Array, across: Float64Array, eta: float) -> Bounds:
    """Return low, high and across with the slack kappa, rounded outward."""
    reach = np.maximum(np.abs(low), np.abs(high)) + across
    slack = (eta + 2.0**-21) * reach + 2.0**-120
    return Bounds(-_rounded_up(slack - low), _rounded_up(high + slack), _rounded_up(across + slack))


def _rounded_up(numbers: Float64Array) -> Float32Array:
    up: Float32Array = np.nextafter(numbers.astype(np.float32), np.float32(np.inf))
    return up
