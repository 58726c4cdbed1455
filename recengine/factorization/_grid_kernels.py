"""Dealing entries into the cells of a grid, and what its sweeps share (Numba, offline)."""

from __future__ import annotations

from typing import Any

from numba.core.types import int64, uint64

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel


def _draw_py(key: Any, counter: Any) -> Any:
    """Return 64 random bits that depend on nothing but `key` and `counter`.

    SplitMix64, whose state is a counter. Steele, Lea, Flood: Fast splittable pseudorandom number
    generators, 2014, section 5.
    """
    bits = key + uint64(counter) * uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> uint64(27))) * uint64(0x94D049BB133111EB)
    return bits ^ (bits >> uint64(31))


def _below_py(bits: Any, n: int) -> Any:
    """Return a number in [0, n) made of the upper half of `bits`, n < 2³²."""
    return int64(((bits >> uint64(32)) * uint64(n)) >> uint64(32))


def _product_py(x: Any, y: Any, lanes: Any) -> Any:
    """Return x·y in float32: eight sums of every eighth product, then a tree over them."""
    for lane in range(8):
        lanes[lane] = 0
    for j in range(x.shape[0] >> 3):
        x8, y8 = x[8 * j :], y[8 * j :]
        for lane in range(8):
            lanes[lane] += x8[lane] * y8[lane]
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + (
        (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
    )


draw = inner(_draw_py)
below = inner(_below_py)
product = inner(_product_py)


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
