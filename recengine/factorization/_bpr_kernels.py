"""The loops of BPR over the cells of a grid (Numba, offline).

A kernel takes the shards [start, stop) of one turn, releases the GIL and starts no thread. Float32
throughout, but the sigmoid and the loss in float64; no product is contracted or reassociated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core.types import float32, float64, int64, uint64

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel

TRIES = 8  # adaptive draws of one negative before a uniform one


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


def _free_place_py(places: Any, first: int, stop: int, rank: int) -> int:
    """Return the place with `rank` smaller ones that are not among places[first:stop].

    Those ascend: before the k-th of them lie places[k] − k others.
    """
    low, high = first, stop
    while low < high:
        middle = (low + high) >> 1
        if places[middle] - (middle - first) <= rank:
            low = middle + 1
        else:
            high = middle
    return rank + low - first


def _is_taken_py(places: Any, first: int, stop: int, place: int) -> bool:
    """Tell whether `place` is among the ascending places[first:stop]."""
    low, high = first, stop
    while low < high:
        middle = (low + high) >> 1
        if places[middle] < place:
            low = middle + 1
        else:
            high = middle
    return low < stop and places[low] == place


def _share_py(x: Any, spreads: Any, shares: Any) -> float:
    """Fill `shares` with the running sums of |x_f| σ_f, the bias as a last factor of a user's 1."""
    total, n_factors = 0.0, len(shares)
    for f in range(n_factors):
        size = 1.0 if f + 1 == n_factors else abs(np.float64(x[f]))
        total += size * spreads[f]
        shares[f] = total
    return total


_draw = inner(_draw_py)
_below = inner(_below_py)
_free_place = inner(_free_place_py)
_is_taken = inner(_is_taken_py)
_share = inner(_share_py)


def _hard_place_py(
    places: Any, first: int, stop: int, x: Any, shares: Any, ranked: Any, scale: float, key: Any
) -> Any:
    """Return a place that is not taken and where a factor of the user is high; −1 in bad luck."""
    n_factors, size = ranked.shape
    for number in range(TRIES):
        bits = _draw(key, number)
        share = shares[n_factors - 1] * (np.float64(bits >> uint64(32)) / 4294967296.0)
        low, high = 0, n_factors - 1
        while low < high:
            middle = (low + high) >> 1
            if shares[middle] <= share:
                low = middle + 1
            else:
                high = middle
        uniform = (np.float64(bits & uint64(0xFFFFFFFF)) + 1.0) / 4294967296.0
        rank = int64(-math.log(uniform) * scale * size)
        if rank >= size:
            continue
        if low + 1 < n_factors and x[low] < 0:
            rank = size - 1 - rank
        place = ranked[low, rank]
        if not _is_taken(places, first, stop, place):
            return place
    return -1


def _step_py(
    x: Any, a: Any, b: Any, biases: Any, i: int, j: int, step: Any, decay: Any, lanes: Any
) -> Any:
    """Climb ln σ of the margin of item i over item j by one step; return that margin before."""
    for lane in range(8):
        lanes[lane] = 0
    for block in range(x.shape[0] >> 3):
        x8, a8, b8 = x[8 * block :], a[8 * block :], b[8 * block :]
        for lane in range(8):
            lanes[lane] += x8[lane] * (a8[lane] - b8[lane])
    total = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + (
        (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
    )
    margin = np.float64(total + (biases[i] - biases[j]))
    push = step * np.float32(1.0 / (1.0 + math.exp(margin)))
    for f in range(x.shape[0]):
        old, p, q = x[f], a[f], b[f]
        x[f] = decay * old + push * (p - q)
        a[f] = decay * p + push * old
        b[f] = decay * q - push * old
    biases[i] = decay * biases[i] + push
    biases[j] = decay * biases[j] - push
    return margin


_hard_place = inner(_hard_place_py)
_step = inner(_step_py)


@kernel(
    int64,
    _jit.READ_I64_2D,
    _jit.READ_I32,
    _jit.READ_I32,
    _jit.READ_F32,
    _jit.READ_I32,
    _jit.READ_I64,
    _jit.READ_I32,
    _jit.READ_F64,
    float64,
    uint64,
    float32,
    float32,
    _jit.F32_2D,
    _jit.F32_2D,
    _jit.F32,
    _jit.F64_3D,
    int64,
    int64,
    int64,
)
def climb(
    cells: Any,
    users: Any,
    places: Any,
    weights: Any,
    members: Any,
    bounds: Any,
    ranked: Any,
    spreads: Any,
    scale: float,
    key: Any,
    rate: Any,
    decay: Any,
    x_all: Any,
    y_all: Any,
    biases: Any,
    sums: Any,
    turn: int,
    start: int,
    stop: int,
) -> int:
    """Take a step for every entry of the cells of one turn; `sums` gets what they came to.

    `ranked` holds, block after block and factor after factor, the places of the block by that
    factor, highest first; where `spreads` is empty, negatives are uniform. ``sums[shard, block]``
    is (−Σ ln σ, pairs in the right order, pairs).
    """
    n_blocks, n_factors = cells.shape[0], len(spreads)
    lanes, shares = np.empty(8, np.float32), np.empty(n_factors)
    for shard in range(start, stop):
        block = (shard + turn) % n_blocks
        base, size = bounds[block], bounds[block + 1] - bounds[block]
        columns = ranked[base * n_factors : (base + size) * n_factors].reshape(n_factors, size)
        loss, right, pairs = 0.0, 0, 0
        first, end = cells[shard, block], cells[shard, block + 1]
        while first < end:
            last = first + 1
            while last < end and users[last] == users[first]:
                last += 1
            n_free = size - (last - first)
            x = x_all[users[first]]
            hard = n_free > 0 and n_factors > 0 and _share(x, spreads, shares) > 0
            for slot in range(first, last if n_free > 0 else first):
                bits, place = _draw(key, slot), -1
                if hard:
                    place = _hard_place(places, first, last, x, shares, columns, scale, bits)
                if place < 0:
                    place = _free_place(places, first, last, _below(bits, n_free))
                i, j = members[base + places[slot]], members[base + place]
                step = rate * weights[slot]
                margin = _step(x, y_all[i], y_all[j], biases, i, j, step, decay, lanes)
                loss += math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0)
                right += margin > 0
                pairs += 1
            first = last
        sums[shard, block, 0], sums[shard, block, 1], sums[shard, block, 2] = loss, right, pairs
    return stop - start
