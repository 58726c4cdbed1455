"""Items by cluster: rows that point the same way lie together, so that a query skips the others.

Panels of 32 are filled from one cluster each, the rows that fit it best first. What is left of the
clusters, the rows that fit worst, fills panels of its own at the end, which are read nearly always;
a panel across the border of two clusters would be, too, and be one in six. What a query may skip,
and why, stands in `_panel_bounds`.

Whether it pays is measured: sampled items stand for queries, and the k-th best score of each is
estimated from the sample. Data without structure are found out on a few thousand rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.retrieval._panel_bounds import (
    COSINE,
    DOT,
    PANEL_ROWS,
    Bounds,
    Items,
    of_groups,
    panel_bounds,
)
from recengine.retrieval._vectors import Vectors

AXIS_PANELS = 64
GROUP_PANELS = 2  # fewer: more bounds to test; more: wider bounds, more read in vain
SMALLEST_CLUSTERED = 20_000  # a smaller index is read in about the time that the bounds take
LARGEST_DIM = 4096
LARGEST_NORM = 2.0**120  # facts and bounds of longer rows leave float32
CLUSTER_ROWS = 256
N_CLUSTERS = 2048
PRODUCTS = 1 << 37  # of a row and a centre, times dim: some seconds
ROUNDS = 3
N_PROBES = 48
PROBE_RANK = 10
N_SAMPLED = 50_000
N_TRAINED = 32_768
N_TRIED = 8192
SAMPLED_NUMBERS = 1 << 21  # 8 MiB in float32
AT_ONCE = 1 << 20  # numbers
PROMISING = 0.8  # share of a few rows that few clusters may leave
WORTHWHILE = 0.5  # share of the panels that a probe must not exceed, in the mean


@dataclass(frozen=True)
class Clusters:
    """In which order rows lie, and what bounds the scores of each group of panels.

    Attributes
    ----------
    order : ndarray (n,), int64
        The row of each slot.
    starts : ndarray (n_groups + 1,), int64
        The first panel of each group, and the number of panels.
    axis : ndarray (n_axes, dim), float32
        Directions u; neighbouring groups share one.
    axis_starts : ndarray (n_axes + 1,), int64
        The first group about each axis, and the number of groups.
    around, within : Bounds
        Of the rows about each axis, and of those of each group along its axis; see `_panel_bounds`.
    share : float
        Panels that a probe must read, in the mean.
    """

    order: Int64Array
    starts: Int64Array
    axis: Float32Array
    axis_starts: Int64Array
    around: Bounds
    within: Bounds
    share: float


class Probes(NamedTuple):
    """Rows that stand for queries: directions, and the k-th best score that each would have."""

    directions: Float32Array  # of length 1
    taus: Float32Array  # in units of the query's length


def cluster_order(vectors: Vectors, sq_norms: Float64Array, metric: int) -> Clusters | None:
    """Return rows by cluster where queries would skip most panels, else None.

    Parameters
    ----------
    vectors : ndarray (n, dim), as stored
    sq_norms : ndarray (n,)
        From `_score.squared_norms`.
    metric : int
        0 cosine, 1 dot. Distances (2) are not clustered.

    Notes
    -----
    The same input gives the same answer. O(n dim n_clusters) time where rows are clustered; data
    without structure are found out on a sample.
    """
    n, dim = vectors.shape
    if metric not in (COSINE, DOT) or n < SMALLEST_CLUSTERED or dim > LARGEST_DIM:
        return None
    if metric == DOT and sq_norms.max() > LARGEST_NORM**2:
        return None
    items = Items(vectors, sq_norms, metric)
    rng = np.random.default_rng(0)
    n_sampled = min(n, N_SAMPLED, SAMPLED_NUMBERS // dim)
    sample = rng.permutation(rng.choice(n, n_sampled, replace=False))
    directions, lengths = items.directions(sample), items.lengths(sample)
    probes = _probes(directions, lengths, n)
    if len(probes.taus) == 0:
        return None
    n_clusters = max(1, min(n // CLUSTER_ROWS, N_CLUSTERS, PRODUCTS // (n * dim)))
    centres = directions[:0]
    for n_rows, most in ((N_TRIED, n_clusters), (N_TRAINED, n_clusters)):
        rows = directions[:n_rows]
        centres = _trained(rows, min(most, len(rows) // 16))
        if _share_of_rows(rows, lengths[:n_rows], centres, probes) > PROMISING:
            return None
    order, sizes = _filled(*_assigned(items, centres))
    clusters = _bounded(items, order, sizes, probes)
    return clusters if clusters.share <= WORTHWHILE else None


def _probes(directions: Float32Array, lengths: Float64Array, n: int) -> Probes:
    """Return sampled rows as queries, with the scores that would be their k-th best among all."""
    some = np.flatnonzero(lengths)[:N_PROBES]
    queries = directions[some]
    scores = queries @ directions.T * lengths.astype(np.float32)
    scores[np.arange(len(some)), some] = -np.inf  # a probe is not its own answer
    rank = max(1, PROBE_RANK * len(directions) // n)
    return Probes(queries, -np.partition(-scores, rank - 1, axis=1)[:, rank - 1])


def _trained(rows: Float32Array, n_clusters: int) -> Float32Array:
    """Return the centres of spherical k-means, of length 1; the first rows are the first ones."""
    centres = rows[:n_clusters]
    for _ in range(ROUNDS):
        labels, _ = _nearest(rows, centres)
        by_label = np.argsort(labels, kind="stable")
        firsts = np.flatnonzero(np.diff(labels[by_label], prepend=-1))  # empty ones are left out
        sums = np.add.reduceat(rows[by_label], firsts, axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, norms, where=norms > 0, out=np.zeros_like(sums))
    return centres


def _nearest(rows: Float32Array, centres: Float32Array) -> tuple[Int64Array, Float32Array]:
    """Return the centre with the largest product with each row, and that product."""
    labels, best = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    step = max(1, AT_ONCE // len(centres))
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        scores = rows[part] @ centres.T
        labels[part] = scores.argmax(axis=1)
        best[part] = np.take_along_axis(scores, labels[part, None], axis=1)[:, 0]
    return labels, best


def _share_of_rows(
    rows: Float32Array, lengths: Float64Array, centres: Float32Array, probes: Probes
) -> float:
    """Return which share of these rows alone, each in a panel of its own, would be read."""
    labels, fit = _nearest(rows, centres)
    size = lengths.astype(np.float32)
    along, across = size * fit, size * np.sqrt(np.maximum(0, 1 - fit * fit))
    t = probes.directions @ centres.T
    s = np.sqrt(np.maximum(0, 1 - t * t))
    bounds = t[:, labels] * along + s[:, labels] * across
    return float((bounds >= probes.taus[:, None]).mean())


def _assigned(items: Items, centres: Float32Array) -> tuple[Int64Array, Float64Array]:
    """Return the cluster of each row, and y.u."""
    n, dim = items.vectors.shape
    labels, fit = np.empty(n, np.int64), np.empty(n)
    step = max(1, AT_ONCE // max(dim, len(centres)))
    for first in range(0, n, step):
        rows = np.arange(first, min(n, first + step))
        labels[rows], cosines = _nearest(items.directions(rows), centres)
        fit[rows] = cosines * items.lengths(rows)
    return labels, fit


def _filled(labels: Int64Array, fit: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Return the row of each slot, and how many panels there are of each cluster and of the rest.

    The worst rows of each cluster, those that fill no panel, are the rest.
    """
    order = np.lexsort((-fit, labels))
    counts = np.bincount(labels)
    ends = np.repeat(np.cumsum(counts), counts)
    is_left = ends - np.arange(len(order)) <= np.repeat(counts % PANEL_ROWS, counts)
    order = np.concatenate([order[~is_left], order[is_left]])
    n_left = -(-int(is_left.sum()) // PANEL_ROWS)
    return order, np.append(counts // PANEL_ROWS, n_left)


def _divided(sizes: Int64Array, most: int) -> Int64Array:
    """Return where parts of `most` at most start, of runs of these sizes, and the end."""
    n_parts = -(-sizes // most)
    place = np.arange(n_parts.sum()) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    firsts, each = np.repeat(np.cumsum(sizes) - sizes, n_parts), np.repeat(sizes, n_parts)
    return np.append(firsts + place * each // np.repeat(n_parts, n_parts), sizes.sum())


def _bounded(items: Items, order: Int64Array, sizes: Int64Array, probes: Probes) -> Clusters:
    """Return the bounds of groups of panels within runs of these sizes."""
    runs = _divided(sizes, AXIS_PANELS)
    axis, panels = panel_bounds(items, order, runs)
    starts = _divided(np.diff(runs), GROUP_PANELS)
    axis_starts = np.searchsorted(starts, runs)
    groups = of_groups(panels, starts)
    sizes = np.diff(starts)
    share = _share(probes, axis.repeat(np.diff(axis_starts), axis=0), sizes, groups)
    return Clusters(order, starts, axis, axis_starts, of_groups(panels, runs), groups, share)


def _share(probes: Probes, axes: Float32Array, n_panels: Int64Array, groups: Bounds) -> float:
    """Return the share of panels that probes must read, in the mean."""
    t = probes.directions @ axes.T
    s = np.sqrt(np.maximum(0, 1 - t * t))
    bounds = np.maximum(t * groups.low, t * groups.high) + s * groups.across
    n_read = (bounds >= probes.taus[:, None]) @ n_panels
    return float(n_read.mean() / n_panels.sum())
