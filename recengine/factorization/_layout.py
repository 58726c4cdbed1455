"""Sparse rows laid out so that every pair that shares a column is met once, mostly in cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Float64Array, Int32Array, Int64Array
from recengine.factorization._likes import Likes

_N_RANGES = 64  # whatever the number of threads
_CACHE_BYTES = 2**19  # of sums that are added to at a time


@dataclass(frozen=True)
class Pairs:
    """Sparse rows laid out so that each meets only the rows after it.

    `labels` (n_rows,) int32 names the rows as they lie here. `rows` and `weights` list the rows
    of each column, ascending: entry p is ``rows[2 p]`` and ``weights[2 p + 1]``, side by side in
    one array. Block b holds rows ``blocks[b]`` to ``blocks[b + 1]``, and entries
    ``block_ends[b]`` to ``block_ends[b + 1]`` of `positions` (where an entry stands in `rows`)
    and `stops` (where its column ends), column by column, so that a block reads `rows` once and
    forward. ``costs[b]`` counts the products of the blocks before b.
    """

    labels: Int32Array
    blocks: Int64Array
    block_ends: Int64Array
    positions: Int64Array
    stops: Int64Array
    rows: NDArray[np.uint32]
    weights: Float32Array
    costs: Int64Array

    @property
    def layout(self) -> tuple[Any, ...]:
        """What every kernel over pairs takes first."""
        return (
            self.blocks,
            self.block_ends,
            self.positions,
            self.stops,
            self.rows,
            self.weights,
        )

    def bounds(self) -> Int64Array:
        """Return the bounds of at most `_N_RANGES` ranges of blocks of about equal cost."""
        n_rows, n_blocks = len(self.labels), len(self.blocks) - 1
        left = n_rows - self.blocks[:-1]
        looks = np.concatenate([[0], np.cumsum(np.diff(self.blocks) * left)]) / 8
        cost = self.costs + np.minimum(looks, self.costs) + 16.0 * self.blocks
        shares = np.linspace(0, cost[-1], min(_N_RANGES, max(n_blocks, 1)) + 1)
        bounds = np.searchsorted(cost, shares).astype(np.int64)
        bounds[0], bounds[-1] = 0, n_blocks
        return np.unique(bounds)

    def norms(self) -> Float64Array:
        """Return the sum of the squared weights of each row, (n_rows,) float64."""
        squares = self.weights[1::2].astype(np.float64) ** 2
        sums: Any = np.bincount(self.rows[::2], squares, minlength=len(self.labels))
        return np.asarray(sums, dtype=np.float64)


def lay_out(likes: Likes, weights: Float32Array, order: Int64Array) -> Pairs:
    """Return the rows of `likes`, entries weighing `weights` (not 0), in the given order."""
    from scipy.sparse import csr_array

    n_entries, (n_rows, n_columns) = len(weights), likes.shape
    counts = likes.counts[order]
    ends = np.concatenate([[0], np.cumsum(counts)])
    source = np.repeat(likes.indptr[order] - ends[:-1], counts) + np.arange(n_entries)
    listed = csr_array((weights[source], likes.indices[source], ends), shape=likes.shape).tocsc()
    column_ends = listed.indptr.astype(np.int64)
    after = np.repeat(column_ends[1:], np.diff(column_ends)) - np.arange(1, n_entries + 1)
    row_costs: Any = np.bincount(listed.indices, after, minlength=n_rows)
    blocks = _blocks(row_costs.astype(np.float64))
    block_of = np.repeat(np.arange(len(blocks) - 1), np.diff(blocks))
    by_block = csr_array(
        (np.arange(n_entries), block_of[listed.indices], column_ends),
        shape=(n_columns, len(blocks) - 1),
    ).tocsc()
    pairs = np.empty(2 * n_entries, np.uint32)
    pairs[::2] = listed.indices
    pairs.view(np.float32)[1::2] = listed.data
    return Pairs(
        labels=order.astype(np.int32),
        blocks=blocks,
        block_ends=by_block.indptr.astype(np.int64),
        positions=2 * by_block.data,
        stops=2 * column_ends[by_block.indices + np.int64(1)],
        rows=pairs,
        weights=pairs.view(np.float32),
        costs=np.concatenate([[0], np.cumsum(row_costs)])[blocks].astype(np.int64),
    )


def _blocks(row_costs: Float64Array) -> Int64Array:
    """Return the bounds of blocks whose sums fit `_CACHE_BYTES`; a row of few sums is one."""
    n_rows = len(row_costs)
    bounds, row = [0], 0
    fewest = n_rows - np.arange(n_rows) >> 3
    few = (row_costs < fewest).tolist()
    while row < n_rows:
        size = 1 if few[row] else max(1, _CACHE_BYTES // (8 * (n_rows - row)))
        row = min(n_rows, row + size)
        bounds.append(row)
    return np.array(bounds, np.int64)
