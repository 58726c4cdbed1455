"""The loops over pairs of rows that share a column (Numba, offline).

Rows are visited in ascending order and each meets only the rows after it: a pair is computed once,
by one thread, its terms added in the order of the columns. Every kernel takes a row range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core.types import Array, float64, int64, uint32

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel
from recengine.factorization._neighbour_heaps import I32_2D, I64, offer

READ_U32 = Array(uint32, 1, "C", readonly=True)
F64 = Array(float64, 1, "C")

STRIP = 32  # sums that are compared with their limits before one of them is looked at
LIMIT = 5e-324  # what a sum must reach to be one
_LARGEST = float(np.finfo(np.float32).max)
_SLACK = 1.0 - 1e-6  # what a product of three roundings and a float32 cannot lose


def _meet_py(
    first: int,
    positions: Any,
    stops: Any,
    rows: Any,
    weights: Any,
    start: int,
    stop: int,
    sums: Any,
) -> None:
    """Add to `sums` the products of entries [start, stop) with those after them in their column.

    Row and column 0 of `sums` stand for row `first`.
    """
    for entry in range(start, stop):
        place = positions[entry]
        target = sums[rows[place] - first]
        weight = np.float64(weights[place + 1])
        for other in range(place + 2, stops[entry], 2):
            target[rows[other] - first] += weight * np.float64(weights[other + 1])


def _meet_few_py(
    first: int,
    positions: Any,
    stops: Any,
    rows: Any,
    weights: Any,
    start: int,
    stop: int,
    sums: Any,
    met: Any,
) -> int:
    """Do what `_meet` does for one row and list the rows met; return how many."""
    n_met = 0
    for entry in range(start, stop):
        place = positions[entry]
        weight = np.float64(weights[place + 1])
        for other in range(place + 2, stops[entry], 2):
            target = rows[other] - first
            if sums[target] == 0.0:
                met[n_met] = target
                n_met += 1
            sums[target] += weight * np.float64(weights[other + 1])
    return n_met


def _find_worthy_py(
    sums: Any, inverse: Any, inverses: Any, limit: Any, limits: Any, met: Any, start: int, stop: int
) -> int:
    """List where a bound on the score reaches a limit, last first; return how many there are."""
    part, ours, theirs = sums[start:stop], inverses[start:stop], limits[start:stop]
    n_met = 0
    for at in range(stop - start):
        bound = part[at] * inverse * ours[at]
        n_met += (bound >= limit) | (bound >= theirs[at])
    if n_met > 0:
        n_met = 0
        for at in range(stop - start - 1, -1, -1):
            bound = part[at] * inverse * ours[at]
            if bound >= limit or bound >= theirs[at]:
                met[n_met] = start + at
                n_met += 1
    return n_met


_meet = inner(_meet_py)
_meet_few = inner(_meet_few_py)
_find_worthy = inner(_find_worthy_py)


@kernel(
    int64,
    _jit.READ_I64,
    _jit.READ_I64,
    _jit.READ_I64,
    _jit.READ_I64,
    READ_U32,
    _jit.READ_F32,
    _jit.F64_2D,
    int64,
    int64,
)
def add_gram_rows(
    blocks: Any,
    block_ends: Any,
    positions: Any,
    stops: Any,
    rows: Any,
    weights: Any,
    gram: Any,
    start: int,
    stop: int,
) -> int:
    """Add the products of the rows of blocks [start, stop) to the upper triangle of `gram`."""
    for block in range(start, stop):
        _meet(0, positions, stops, rows, weights, block_ends[block], block_ends[block + 1], gram)
    return stop - start


def _offer_all_py(
    row: int,
    first: int,
    n_met: int,
    met: Any,
    sums: Any,
    norms: Any,
    inverses: Any,
    labels: Any,
    shrinkage: float,
    names: Any,
    scores: Any,
    held: Any,
    limits: Any,
) -> None:
    """Offer `row` and the first `n_met` rows ``first + met`` to each other's heaps."""
    for number in range(n_met):
        total, other = sums[met[number]], first + met[number]
        bound = total * inverses[row] * inverses[other]
        if bound < limits[row] and bound < limits[other]:
            continue
        length = math.sqrt(norms[row] * norms[other]) + shrinkage
        score = np.float32(min(total / length, _LARGEST))
        if score == 0:
            continue
        held[row] = offer(names[row], scores[row], held[row], labels[other], score)
        held[other] = offer(names[other], scores[other], held[other], labels[row], score)
        if held[row] == names.shape[1]:
            limits[row] = max(scores[row, 0] * _SLACK, LIMIT)
        if held[other] == names.shape[1]:
            limits[other] = max(scores[other, 0] * _SLACK, LIMIT)


_offer_all = inner(_offer_all_py)


@kernel(
    int64,
    _jit.READ_I64,
    _jit.READ_I64,
    _jit.READ_I64,
    _jit.READ_I64,
    READ_U32,
    _jit.READ_F32,
    _jit.READ_I64,
    _jit.READ_F64,
    _jit.READ_F64,
    _jit.READ_I32,
    float64,
    I32_2D,
    _jit.F32_2D,
    I64,
    F64,
    int64,
    int64,
)
def find_neighbours(
    blocks: Any,
    block_ends: Any,
    positions: Any,
    stops: Any,
    rows: Any,
    weights: Any,
    costs: Any,
    norms: Any,
    inverses: Any,
    labels: Any,
    shrinkage: float,
    names: Any,
    scores: Any,
    held: Any,
    limits: Any,
    start: int,
    stop: int,
) -> int:
    """Offer every pair of a row of blocks [start, stop) and one after it to the heaps of both.

    A heap is a row of `names` and `scores`, of which `held` are taken; `limits`, above 0, is what
    a sum times two `inverses` must reach to be worth its exact score. `labels` name the rows.
    Rows with many entries come last and are met first: their cosines are high, and high limits
    save work.
    """
    n_rows = len(norms)
    met = np.empty(n_rows, np.int64)
    for block in range(stop - 1, start - 1, -1):
        first, last = blocks[block], blocks[block + 1]
        width = n_rows - first
        sums = np.zeros((last - first, width), np.float64)
        begin, end = block_ends[block], block_ends[block + 1]
        few = last == first + 1 and costs[block + 1] - costs[block] < width >> 3
        n_met = 0
        if few:
            n_met = _meet_few(first, positions, stops, rows, weights, begin, end, sums[0], met)
        else:
            _meet(first, positions, stops, rows, weights, begin, end, sums)
        for row in range(last - 1, first - 1, -1):
            totals = sums[row - first]
            if few:
                _offer_all(
                    row,
                    first,
                    n_met,
                    met,
                    totals,
                    norms,
                    inverses,
                    labels,
                    shrinkage,
                    names,
                    scores,
                    held,
                    limits,
                )
                continue
            for later in range(width, 0, -STRIP):
                n_met = _find_worthy(
                    totals,
                    inverses[row],
                    inverses[first:],
                    limits[row],
                    limits[first:],
                    met,
                    max(0, later - STRIP),
                    later,
                )
                _offer_all(
                    row,
                    first,
                    n_met,
                    met,
                    totals,
                    norms,
                    inverses,
                    labels,
                    shrinkage,
                    names,
                    scores,
                    held,
                    limits,
                )
    return stop - start
