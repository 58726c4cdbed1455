"""A base of its own for a filter that lets few items through: their rows, side by side, with codes.

A row of a base never changes: an upsert moves its item to the delta. So the rows that pass, once
copied, stay the right ones for as long as the base does; only those that died since are masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recengine._types import Int64Array
from recengine.retrieval import _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._generation import Generation
from recengine.retrieval._segment import Segment, frozen, sealed


@dataclass(frozen=True, slots=True)
class Narrow:
    """The rows of one base that were alive, and passed, when it was made.

    Attributes
    ----------
    base : Segment
        The base that they come from.
    n_base_alive : int
        How many of its rows were alive then.
    rows : ndarray (n_rows,), int64, ascending
    segment : Segment
    """

    base: Segment
    n_base_alive: int
    rows: Int64Array
    segment: Segment

    def serves(self, now: Generation) -> bool:
        """Say whether it stands for the base of this state: the same base, not an older look."""
        return now.base is self.base and now.n_base_alive <= self.n_base_alive

    def alive(self, now: Generation) -> Words | None:
        """Return which of its rows are alive."""
        if now.base_alive is None or now.n_base_alive == self.n_base_alive:
            return None
        return _bits.packed(_bits.has(now.base_alive, self.rows))


def narrowed(now: Generation, ordinals: Int64Array) -> Narrow:
    """Copy the base rows of these ordinals. O(ordinals dim) time and memory."""
    rows = now.base.rows_of(ordinals)
    rows = rows[_bits.has(now.base_alive, rows)]
    base = now.base
    segment = sealed(
        frozen(np.take(base.vectors, rows, axis=0)),
        now.metric,
        ordinals=frozen(base.ordinals_of(rows).copy()),
        sq_norms=frozen(base.sq_norms[rows]),
        reach=frozen(base.reach[rows]),
        bias=None if base.bias is None else frozen(base.bias[rows]),
    )
    return Narrow(base, now.n_base_alive, rows, segment)
