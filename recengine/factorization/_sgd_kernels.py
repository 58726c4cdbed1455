"""The loop of SGD over the cells of a grid (Numba, offline).

It takes the shards [start, stop) of one turn, releases the GIL and starts no thread. Float32, but
the sum of squared errors in float64; no product is contracted or reassociated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.types import float32, int64

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel


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


_product = inner(_product_py)


@kernel(
    int64,
    _jit.READ_I64_2D,
    _jit.READ_I32,
    _jit.READ_I32,
    _jit.READ_F32,
    _jit.READ_I32,
    _jit.READ_I64,
    float32,
    float32,
    _jit.F32_2D,
    _jit.F32_2D,
    _jit.F32,
    _jit.F32,
    _jit.F64_2D,
    int64,
    int64,
    int64,
)
def descend(
    cells: Any,
    users: Any,
    places: Any,
    ratings: Any,
    members: Any,
    bounds: Any,
    rate: Any,
    decay: Any,
    x_all: Any,
    y_all: Any,
    user_biases: Any,
    item_biases: Any,
    sums: Any,
    turn: int,
    start: int,
    stop: int,
) -> int:
    """Take a step for every rating (less the mean) of the cells of one turn.

    ``sums[shard, block]`` gets the squared errors, each just before its step.
    """
    n_blocks, lanes = cells.shape[0], np.empty(8, np.float32)
    for shard in range(start, stop):
        block = (shard + turn) % n_blocks
        total = 0.0
        for slot in range(cells[shard, block], cells[shard, block + 1]):
            user, item = users[slot], members[bounds[block] + places[slot]]
            x, y = x_all[user], y_all[item]
            known = user_biases[user] + item_biases[item]
            error = ratings[slot] - (known + _product(x, y, lanes))
            step = rate * error
            for f in range(x.shape[0]):
                old, p = x[f], y[f]
                x[f] = decay * old + step * p
                y[f] = decay * p + step * old
            user_biases[user] = decay * user_biases[user] + step
            item_biases[item] = decay * item_biases[item] + step
            total += np.float64(error) * np.float64(error)
        sums[shard, block] = total
    return stop - start
