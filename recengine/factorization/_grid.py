"""The schedule of stochastic gradient descent: shards of users, blocks of items, turn by turn.

Steps of two threads must never meet in a row, or the result depends on who came first. So users
are cut into shards and items into as many random blocks, anew in each epoch. In turn t the shards
go side by side, shard s over its entries in block (s + t) mod n: no user and no item belongs to
two of them. Inside a cell entries follow each other by user. What is computed depends on the data
and the seed, never on how many threads share the shards of a turn.

References
----------
Gemulla, Nijkamp, Haas, Sismanis: Large-scale matrix factorization with distributed stochastic
gradient descent, 2011, section 4 (there with fixed blocks).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int32Array, Int64Array
from recengine.factorization._likes import Likes
from recengine.factorization._workers import Workers

MOST_BLOCKS = 16  # threads beyond that have nothing to do
CELL_ENTRIES = 4096  # below that, calling a kernel costs more than what it does
BLOCK_ITEMS = 64
LANES = 8  # columns of factors in training are padded to a multiple with zeros, which stay zero


class Grid:
    """The entries of a matrix in the cells of a grid.

    Attributes
    ----------
    n_blocks : int
        Shards, and blocks.
    bounds : ndarray (n_blocks + 1,), int64
        Block b holds the items ``members[bounds[b] : bounds[b + 1]]``, ascending.
    members : ndarray (n_items,), int32
    cells : ndarray (n_blocks, n_blocks + 1), int64
        The slots of shard s in block b are [cells[s, b], cells[s, b + 1]).
    users, places, values : ndarray (n_entries,), int32, int32 and float32
        Of each slot: the user, the item's place in its block, and the entry's value.
    """

    def __init__(self, entries: Likes, num_threads: int) -> None:
        n_users, n_items = entries.shape
        n_entries = len(entries.indices)
        n = min(MOST_BLOCKS, isqrt(n_entries // CELL_ENTRIES), n_items // BLOCK_ITEMS, n_users)
        self.n_blocks = n = max(1, n)
        self._entries = entries
        shares = np.arange(n + 1) * n_entries // n
        self._shards: Int64Array = np.searchsorted(entries.indptr, shares).astype(np.int64)
        self._shards[0], self._shards[-1] = 0, n_users
        self._lots = np.unique(np.arange(num_threads + 1, dtype=np.int64) * n // num_threads)
        self.bounds: Int64Array = np.arange(n + 1, dtype=np.int64) * n_items // n
        self.members: Int32Array = np.arange(n_items, dtype=np.int32)
        self.cells: Int64Array = np.zeros((n, n + 1), np.int64)
        self.users: Int32Array = np.empty(n_entries, np.int32)
        self.places: Int32Array = np.empty(n_entries, np.int32)
        self.values: Float32Array = np.empty(n_entries, np.float32)
        self._dealt = False

    def deal(self, generator: np.random.Generator, team: Workers) -> None:
        """Draw the blocks and deal the entries; O(n_items + n_entries)."""
        if self.n_blocks == 1 and self._dealt:
            return
        from recengine.factorization import _grid_kernels as kernels

        n_items, sizes = len(self.members), np.diff(self.bounds)
        blocks = np.repeat(np.arange(self.n_blocks, dtype=np.int32), sizes)
        if self.n_blocks > 1:
            generator.shuffle(blocks)
        self.members = np.argsort(blocks, kind="stable").astype(np.int32)
        places = np.empty(n_items, np.int32)
        places[self.members] = np.arange(n_items) - np.repeat(self.bounds[:-1], sizes)

        def deal(start: int, stop: int) -> int:
            done: int = kernels.deal(
                self._entries.indptr,
                self._entries.indices,
                self._entries.confidences,
                self._shards,
                blocks,
                places,
                self.cells,
                self.users,
                self.places,
                self.values,
                start,
                stop,
            )
            return done

        team.run(deal, self._lots)
        self._dealt = True

    def sweep(self, function: Callable[[int, int, int], object], team: Workers) -> None:
        """Call ``function(turn, start, stop)`` for all shards of each turn, turn by turn."""
        for turn in range(self.n_blocks):
            team.run(partial(function, turn), self._lots)


def padded(factors: NDArray[np.float32]) -> Float32Array:
    """Return writable factors with zeros behind each row, up to a multiple of `LANES`."""
    n_rows, dim = factors.shape
    wide = np.zeros((n_rows, -(-dim // LANES) * LANES), np.float32)
    wide[:, :dim] = factors
    return wide
