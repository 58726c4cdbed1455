"""The int8 codes of an index, and in which order they lie: measured on the vectors at build.

Under ``dot`` an item of norm |x| cannot score above |q| |x|. With codes in order of falling norm a
query stops where that falls below its k-th best score; on factors, whose norms follow popularity,
that is after a fraction of the items. Or items that point the same way lie together (`_clusters`),
so that a query passes over few of the groups. Either order costs something: ties no longer come in
order of ordinal, so they are decided one by one. It is chosen only where a sample of queries reads
far less, and of the two the one where what is read and tested costs less. What a sample cannot
know, what other queries are like, decides little: a query at random reads half of the items in
order of norm and a quarter by clusters, at the same price.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine import _native
from recengine._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from recengine.retrieval import _score
from recengine.retrieval._clusters import GROUP_PANELS, Clusters, cluster_order
from recengine.retrieval._duplicates import equal_rows
from recengine.retrieval._layout import Layout, reordered
from recengine.retrieval._vectors import Vectors, widened

LARGEST_CODED_DIM = 65536  # int32 sums of codes are exact up to here
DOT = 1
PANEL_ROWS = 32
FACTS_BYTES = 320  # behind the codes of a panel: see csrc/core/quantize.h
LARGEST_ORDERED = 2**31 - 1  # slots name rows in 32 bits
SMALLEST_ORDERED = 4096  # a smaller index is scanned in microseconds either way
N_PROBES = 32
N_PROBED = 50_000
PROBED_AT_ONCE = 1 << 20  # numbers: 4 MiB in float32
PROBE_RANK = 10
WORTHWHILE = 0.7  # share of the items that a probe must not exceed, in the mean
# What clusters cost, in items read in order of norm. Timed with `_search.search` on ALS factors of
# 200k items, dim 64, k = 10, AVX-512 VNNI, 1 to 256 queries a batch.
CLUSTERED_ITEM = 2.0  # queries are seated anew for each group
TESTED_GROUP = 3.0
LEAST_TESTED = TESTED_GROUP / (GROUP_PANELS * PANEL_ROWS)  # share of the items that tests cost


def encode(
    vectors: Vectors,
    sq_norms: Float64Array,
    reach: Float32Array,
    metric: int,
    layout: Layout | None = None,
) -> dict[str, Any] | None:
    """Return what the int8 scan reads, as read-only arrays; None where nothing can be coded.

    Parameters
    ----------
    vectors : ndarray (n, dim), as stored
    sq_norms, reach : ndarray (n,)
        From `_score.squared_norms` and `_score.reach`.
    metric : int
    layout : Layout, optional
        In which order they lie; measured when omitted.

    Notes
    -----
    O(n dim) time, dim + 10 bytes an item; 4 more where they are in an order of their own;
    where rows are equal less for each copy, and 16 more.
    """
    if len(vectors) == 0 or vectors.shape[1] > LARGEST_CODED_DIM:
        return None
    if len(vectors) > LARGEST_ORDERED:
        layout = Layout()
    elif layout is None:
        layout = _chosen(vectors, sq_norms, metric)
    order, copies, by_norm, clusters = layout
    codes = _native.encode(vectors, sq_norms, metric, order=order)
    if copies is not None:
        codes["members"], codes["starts"] = copies
    if by_norm and order is not None:
        codes["block_reach"] = np.ascontiguousarray(reach[order[::PANEL_ROWS]])
    if clusters is not None:
        codes["axes"], codes["axis_starts"] = clusters.axis, clusters.axis_starts
        codes["group_starts"] = clusters.starts
        for of, bounds in (("axis", clusters.around), ("group", clusters.within)):
            codes |= {f"{of}_{name}": part for name, part in bounds._asdict().items()}
    for part in codes.values():
        if isinstance(part, np.ndarray):
            part.flags.writeable = False
    return codes


def rows_inside(high: UInt8Array, n_rows: int) -> Int32Array:
    """Return a view of the row in each slot of a table with ``codes["rows_inside"]``."""
    n_panels = -(-n_rows // PANEL_ROWS)
    facts = high.reshape(n_panels, -1)[:, -FACTS_BYTES:].view(np.int32)
    return facts[:, PANEL_ROWS : 2 * PANEL_ROWS].reshape(-1)[:n_rows]


def _chosen(vectors: Vectors, sq_norms: Float64Array, metric: int) -> Layout:
    """Measure in which order codes are read least."""
    copies = equal_rows(vectors)
    by_norm, share = _norm_order(vectors, sq_norms) if metric == DOT else (None, 1.0)
    if copies is not None:
        rows, starts = copies
        if by_norm is not None:
            copies = reordered(copies, np.argsort(-sq_norms[rows[starts[:-1]]], kind="stable"))
            rows, starts = copies
        return Layout(rows[starts[:-1]], copies, by_norm is not None)
    clusters = cluster_order(vectors, sq_norms, metric) if share > LEAST_TESTED else None
    if clusters is not None and (by_norm is None or _cost(clusters) < share):
        return Layout(clusters.order, clusters=clusters)
    return Layout() if by_norm is None else Layout(by_norm, by_norm=True)


def _cost(clusters: Clusters) -> float:
    """Return what a query costs, in shares of the items read in order of norm."""
    tested = TESTED_GROUP * len(clusters.within.low) / len(clusters.order)
    return tested + CLUSTERED_ITEM * clusters.share


def _norm_order(vectors: Vectors, sq_norms: Float64Array) -> tuple[Int64Array | None, float]:
    """Return the rows by falling norm where queries would stop early, and the share they read."""
    n_rows = len(vectors)
    if n_rows < SMALLEST_ORDERED:
        return None, 1.0
    order = np.argsort(-sq_norms, kind="stable")
    norms = np.sqrt(sq_norms)
    # Items stand for queries: their directions are those that users have.
    some = np.linspace(0, n_rows - 1, min(n_rows, N_PROBED)).astype(np.int64)
    probes = some[:: max(1, len(some) // N_PROBES)]
    queries = widened(vectors[probes])
    parts = np.array_split(some, 1 + len(some) * vectors.shape[1] // PROBED_AT_ONCE)
    scores = np.concatenate(
        [_score.pairwise(_native.api(), DOT, queries, widened(vectors[part])) for part in parts],
        axis=1,
    )
    scores[probes[:, None] == some] = -np.inf  # a probe is not its own answer
    rank = min(len(some), max(1, PROBE_RANK * len(some) // n_rows))
    taus = -np.partition(-scores, rank - 1, axis=1)[:, rank - 1]
    lengths = norms[probes]
    limits = np.divide(taus, lengths, where=lengths > 0, out=np.zeros(len(probes)))
    ascending = norms[order][::-1]
    share = float(1.0 - np.searchsorted(ascending, limits).mean() / n_rows)
    return (order, share) if share <= WORTHWHILE else (None, 1.0)
