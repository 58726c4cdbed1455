"""Heaps of the best neighbours of rows (Numba, offline): the worst one stands at the root."""

from __future__ import annotations

from typing import Any

from numba.core.types import Array, int32, int64

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel

I64 = Array(int64, 1, "C")
I32_2D = Array(int32, 2, "C")


def _is_worse_py(score: Any, name: Any, other_score: Any, other_name: Any) -> Any:
    """Tell whether the first of two neighbours comes later: lower score, then higher name."""
    return score < other_score or (score == other_score and name > other_name)


_is_worse = inner(_is_worse_py)


def _offer_py(names: Any, scores: Any, held: int, name: Any, score: Any) -> int:
    """Put a neighbour into a heap whose root is the worst; return how many it holds then."""
    size = len(names)
    if held < size:
        at = held
        while at > 0:
            above = (at - 1) >> 1
            if not _is_worse(score, name, scores[above], names[above]):
                break
            scores[at], names[at] = scores[above], names[above]
            at = above
        scores[at], names[at] = score, name
        return held + 1
    if not _is_worse(scores[0], names[0], score, name):
        return held
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _is_worse(
            scores[below + 1], names[below + 1], scores[below], names[below]
        ):
            below += 1
        if not _is_worse(scores[below], names[below], score, name):
            break
        scores[at], names[at] = scores[below], names[below]
        at = below
    scores[at], names[at] = score, name
    return held


offer = inner(_offer_py)


@kernel(int64, I32_2D, _jit.F32_2D, I64, I32_2D, _jit.F32_2D, I64, int64, int64)
def merge_heaps(
    names: Any,
    scores: Any,
    held: Any,
    other_names: Any,
    other_scores: Any,
    other_held: Any,
    start: int,
    stop: int,
) -> int:
    """Offer what the other heaps of rows [start, stop) hold to the first ones."""
    for row in range(start, stop):
        for at in range(other_held[row]):
            held[row] = offer(
                names[row], scores[row], held[row], other_names[row, at], other_scores[row, at]
            )
    return stop - start
