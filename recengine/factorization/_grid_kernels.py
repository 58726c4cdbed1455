"""Dealing entries into the cells of a grid (Numba, offline)."""

from __future__ import annotations

from typing import Any

from numba.core.types import int64

from recengine.factorization import _jit
from recengine.factorization._jit import kernel


@kernel(
    int64,
    _jit.READ_I64,
    _jit.READ_I32,
    _jit.READ_F32,
    _jit.READ_I64,
    _jit.READ_I32,
    _jit.READ_I32,
    _jit.I64_2D,
    _jit.I32,
    _jit.I32,
    _jit.F32,
    int64,
    int64,
)
def deal(
    indptr: Any,
    indices: Any,
    values: Any,
    shards: Any,
    blocks: Any,
    places: Any,
    cells: Any,
    users: Any,
    dealt_places: Any,
    dealt_values: Any,
    start: int,
    stop: int,
) -> int:
    """Deal the entries of shards [start, stop) into their cells, by user, then by column."""
    n_blocks = cells.shape[1] - 1
    for shard in range(start, stop):
        bounds = cells[shard]
        first, last = shards[shard], shards[shard + 1]
        for block in range(n_blocks + 1):
            bounds[block] = 0
        for entry in range(indptr[first], indptr[last]):
            bounds[blocks[indices[entry]] + 1] += 1
        bounds[0] = indptr[first]
        for block in range(n_blocks):
            bounds[block + 1] += bounds[block]
        for user in range(first, last):
            for entry in range(indptr[user], indptr[user + 1]):
                block = blocks[indices[entry]]
                slot = bounds[block]
                bounds[block] += 1
                users[slot] = user
                dealt_places[slot] = places[indices[entry]]
                dealt_values[slot] = values[entry]
        for block in range(n_blocks, 0, -1):
            bounds[block] = bounds[block - 1]
        bounds[0] = indptr[first]
    return stop - start
