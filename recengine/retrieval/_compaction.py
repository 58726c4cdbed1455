"""From one generation to the next: rows die, the delta is folded into a new base.

Everything here returns new states and changes none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import IdArray, Int64Array
from recengine.retrieval import _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._delta import DeltaLog
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_book import IdBook
from recengine.retrieval._segment import Segment, joined


@dataclass(frozen=True, slots=True)
class Places:
    """Where distinct ids stand in a generation.

    Attributes
    ----------
    ordinals : ndarray (m,), int64
        −1 where an id has none.
    base, delta : ndarray (m,), int64
        The live row of each, −1 where there is none. An item has at most one of the two.
    """

    ordinals: Int64Array
    base: Int64Array
    delta: Int64Array

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether each is in the index."""
        alive: NDArray[np.bool_] = (self.base & self.delta) >= 0  # −1 has all bits set
        return alive


def places(now: Generation, ids: IdArray) -> Places:
    """Look distinct ids up; one of them without what arrays of any length cost."""
    if len(ids) == 1:
        ordinal = now.book.find_one(ids.item(0), now.n_ordinals)
        base = delta = -1
        if ordinal >= 0:
            base, delta = now.base.row_of(ordinal), now.log.row_of(ordinal, now.delta.n_rows)
            base = base if _bits.has_one(now.base_alive, base) else -1
            delta = delta if _bits.has_one(now.delta_alive, delta) else -1
        found = np.array((ordinal, base, delta), np.int64)
        return Places(found[:1], found[1:2], found[2:])
    ordinals = now.known_ordinals(ids)
    base_rows, delta_rows = (np.full(len(ids), -1, np.int64) for _ in range(2))
    known = np.flatnonzero(ordinals >= 0)
    if len(known):
        base_rows[known], delta_rows[known] = now.locate(ordinals[known])
    return Places(ordinals, base_rows, delta_rows)


def without_rows(now: Generation, dying: Places) -> dict[str, Any]:
    """Return what changes when these rows no longer count."""
    base, delta = _there(dying.base), _there(dying.delta)
    changes: dict[str, Any] = {"n_alive": now.n_alive - len(base) - len(delta)}
    if len(base):
        words = _bits.full(now.base.n_rows) if now.base_alive is None else now.base_alive
        changes["base_alive"] = _bits.without(words, base)
        changes["n_base_alive"] = now.n_base_alive - len(base)
    if len(delta):
        changes["delta_alive"] = _bits.without(now.delta_alive, delta)
    return changes


def _there(rows: Int64Array) -> Int64Array:
    """Return the rows that are not −1."""
    if len(rows) == 1:
        return rows if rows.item(0) >= 0 else rows[:0]
    return rows[rows >= 0]


def with_own_log(now: Generation) -> Generation:
    """Return the same state with a log and a book that nobody else adds to. O(delta dim)."""
    log = DeltaLog(now.dim, now.metric, now.base.vectors.dtype, now.n_ordinals)
    length = _copy_rows(log, now.delta, live_rows(now.delta, now.delta_alive))
    return replace(
        now,
        book=now.book.copied(now.n_ordinals),
        log=log,
        delta=log.segment(length),
        delta_alive=_bits.full(length),
    )


def compacted(now: Generation) -> Segment:
    """Return one segment, with codes, of all live rows. O(n_items dim)."""
    if now.is_clean:
        return now.base
    base_rows = live_rows(now.base, now.base_alive)
    delta_rows = live_rows(now.delta, now.delta_alive)
    return joined(now.base, base_rows, now.delta, delta_rows, now.metric)


def rebased(now: Generation, start: Generation, base: Segment, book: IdBook) -> Generation:
    """Return `now` on top of `base`, the compacted rows of `start`. O(updates in between).

    pre: `now` grew from `start` by updates alone, so they share their base and their log.
    """
    died = [
        segment.ordinals_of(np.flatnonzero(_bits.unpacked(lost, segment.n_rows)))
        for segment, lost in (
            (start.base, _lost(start.base_alive, now.base_alive)),
            (start.delta, _lost(start.delta_alive, now.delta_alive)),
        )
        if lost is not None
    ]
    dead = base.rows_of(np.concatenate(died)) if died else np.empty(0, np.int64)
    if book is start.book:
        book = now.book
    elif now.n_ordinals > start.n_ordinals:
        late = np.arange(start.n_ordinals, now.n_ordinals)
        book = book.added(now.book.names(late, now.n_ordinals), start.n_ordinals)
    log = DeltaLog(now.dim, now.metric, now.base.vectors.dtype, now.n_ordinals)
    rows = live_rows(now.delta, now.delta_alive)
    length = _copy_rows(log, now.delta, rows[rows >= start.delta.n_rows])
    return replace(
        now,
        book=book,
        base=base,
        base_alive=_bits.without(_bits.full(base.n_rows), dead) if len(dead) else None,
        n_base_alive=base.n_rows - len(dead),
        log=log,
        delta=log.segment(length),
        delta_alive=_bits.full(length),
    )


def live_rows(segment: Segment, alive: Words | None) -> Int64Array:
    """Return the rows that count, ascending."""
    return np.flatnonzero(_bits.unpacked(alive, segment.n_rows))


def _lost(before: Words | None, after: Words | None) -> Words | None:
    """Return the bits that were set and are not any more; None where there are none."""
    if after is None or after is before:
        return None
    if before is None:
        return ~after
    return before & ~after[: len(before)]


def _copy_rows(log: DeltaLog, source: Segment, rows: Int64Array) -> int:
    """Write rows of `source` to an empty log; return their number."""
    if len(rows) == 0:
        return 0
    return log.append(
        0,
        source.ordinals_of(rows),
        source.vectors[rows],
        source.sq_norms[rows],
        source.reach[rows],
        None if source.bias is None else source.bias[rows],
    )
