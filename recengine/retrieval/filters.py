"""Filters prepared for many searches: bitmaps over ordinals that follow their index.

What a `Filter` lets through is a bitmap over ordinals, of which only new items and changed chunks
of columns are looked at again. Where few items pass it keeps them as a list, and a copy of their
rows with codes of its own, which is then scanned instead of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import IdArray, Int64Array
from recengine.data import IdMap
from recengine.retrieval import _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._columns import CHUNK, Chunk
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_lists import ids_of_kind
from recengine.retrieval._live import Live
from recengine.retrieval._narrow import Narrow, narrowed
from recengine.retrieval._segment import Segment
from recengine.retrieval.predicate import Predicate

COPY_FEW = 16  # a prepared filter copies its items when at most one in so many passes
LIST_FEW = 5  # and lists them when at most one in so many does


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a filter lets through, worked out for one state of its index.

    Attributes
    ----------
    chunks : tuple of Chunk
        The columns that `words` was worked out from.
    n_ordinals : int
    named : ndarray of uint64 words, or None
        What `allow` and `deny` let through.
    words : ndarray of uint64 words
        What everything together lets through.
    ordinals : ndarray, int64, or None
        The same as a list, where it is short.
    """

    chunks: tuple[Chunk, ...]
    n_ordinals: int
    named: Words | None
    words: Words
    ordinals: Int64Array | None


class Filter:
    """A filter made ready for many searches; `FlatIndex.filter` makes it.

    Parameters
    ----------
    live : Live
        The updates of the index that it serves.
    allow, deny : array_like of ids, or None
    where : Predicate or None

    Notes
    -----
    It serves the index that made it, any number of threads, and every later state of that index:
    items that are added or changed afterwards are judged when a search first sees them, at a cost
    of O(changed + n_items / 64), and ids in `allow` or `deny` may come into the index later.
    Where at most one item in 16 passes, it holds a copy of their vectors and codes.
    """

    def __init__(self, live: Live, allow: Any, deny: Any, where: Any) -> None:
        if allow is None and deny is None and where is None:
            raise ValueError("filter must be given allow, deny or where")
        self._live = live
        self._allow = None if allow is None else _kept(live.generation, "allow", allow)
        self._deny = None if deny is None else _kept(live.generation, "deny", deny)
        self._where = None if where is None else as_predicate(where)
        self._prepared = self._refreshed(live.generation, None)
        self._narrow: Narrow | None = None
        self.base(live.generation, self._prepared)

    def __repr__(self) -> str:
        parts = [
            f"{name}={len(ids)} ids"
            for name, ids in (("allow", self._allow), ("deny", self._deny))
            if ids is not None
        ]
        parts += [] if self._where is None else [f"where={self._where}"]
        return f"Filter({', '.join(parts)})"

    @property
    def n_items(self) -> int:
        """How many of the items now in the index it lets through. O(n_items)."""
        generation = self._live.generation
        alive = _bits.packed(generation.alive_mask())
        return _bits.count(alive & self.prepared(self._live, generation).words[: len(alive)])

    @property
    def selectivity(self) -> float:
        """The same as a share of the items in the index; 0 where there are none. O(n_items)."""
        return self.n_items / max(1, self._live.generation.n_alive)

    def prepared(self, live: Live, generation: Generation) -> Prepared:
        """Return what it lets through in a state of its index.

        Parameters
        ----------
        live : Live
            Of the index that is searched: another's is refused.
        generation : Generation
        """
        if live is not self._live:
            raise ValueError("filter must come from the index that is searched, got another's")
        known = self._prepared
        unchanged = self._where is None or known.chunks is generation.columns.chunks
        if unchanged and known.n_ordinals >= generation.n_ordinals:
            return known
        fresh = self._refreshed(generation, known)
        self._prepared = fresh  # threads may race here: each one's is right for its own state
        return fresh

    def base(
        self, generation: Generation, prepared: Prepared
    ) -> tuple[Segment, Words | None] | None:
        """Return what to scan instead of the base, None where too many pass to copy them.

        Parameters
        ----------
        generation : Generation
        prepared : Prepared
            What it lets through in that state.
        """
        narrow = self._narrow
        if narrow is None or narrow.base is not generation.base:
            ordinals = prepared.ordinals
            if ordinals is None or len(ordinals) * COPY_FEW > generation.n_ordinals:
                return None
            if prepared.n_ordinals != generation.n_ordinals:  # a reader that is behind
                return None
            narrow = self._narrow = narrowed(generation, ordinals)
        if not narrow.serves(generation):
            return None
        return narrow.segment, narrow.alive(generation)

    def _refreshed(self, generation: Generation, old: Prepared | None) -> Prepared:
        n_ordinals = generation.n_ordinals
        named = self._names(generation, old)
        chunks: tuple[Chunk, ...] = ()
        first = 0 if old is None else old.n_ordinals // 64 * 64  # what lies below is unchanged
        if self._where is None:
            assert named is not None
            words = named
        else:
            chunks = generation.columns.chunks
            words, first = self._matches(generation, old, named)
        ordinals = None
        if _bits.count(words) * LIST_FEW <= n_ordinals:
            head = None if old is None else old.ordinals
            ordinals = _bits.members(words, 0 if head is None else first)
            if head is not None:
                ordinals = np.concatenate([head[: np.searchsorted(head, first)], ordinals])
        return Prepared(chunks, n_ordinals, named, words, ordinals)

    def _names(self, generation: Generation, old: Prepared | None) -> Words | None:
        """Return what `allow` and `deny` let through; ids of known ordinals never change."""
        if self._allow is None and self._deny is None:
            return None
        n_ordinals = generation.n_ordinals
        if old is None or old.named is None:
            keep = np.full(n_ordinals, self._allow is None)
            if self._allow is not None:
                keep[known(generation, self._allow.ids)] = True
            if self._deny is not None:
                keep[known(generation, self._deny.ids)] = False
            return _bits.packed(keep)
        start = old.n_ordinals // 64 * 64
        if n_ordinals <= old.n_ordinals:
            return old.named
        ids = generation.book.names(np.arange(start, n_ordinals), n_ordinals)
        keep = np.ones(len(ids), bool)
        if self._allow is not None:
            keep &= self._allow.indices(ids, missing="mark") >= 0
        if self._deny is not None:
            keep &= self._deny.indices(ids, missing="mark") < 0
        return np.concatenate([old.named[: start // 64], _bits.packed(keep)])

    def _matches(
        self, generation: Generation, old: Prepared | None, named: Words | None
    ) -> tuple[Words, int]:
        """Return (the bitmap, the first ordinal whose chunk was evaluated)."""
        assert self._where is not None
        chunks, n_ordinals = generation.columns.chunks, generation.n_ordinals
        words = np.zeros(-(-n_ordinals // 64), np.uint64)
        before: tuple[Chunk, ...] = ()
        if old is not None:
            before = old.chunks
            shared = min(len(words), len(old.words))
            words[:shared] = old.words[:shared]
        matches = generation.columns.matcher(self._where)
        first = n_ordinals
        for number, chunk in enumerate(chunks):
            if number < len(before) and chunk is before[number]:
                continue
            first = min(first, number * CHUNK)
            start = number * CHUNK // 64
            met = _bits.packed(matches(chunk))
            place = slice(start, start + len(met))
            words[place] = met if named is None else met & named[place]
        return words, first


def as_predicate(where: Any) -> Predicate:
    """Return `where`, if `recengine.where` made it."""
    if not isinstance(where, Predicate):
        raise TypeError(f"where must be made by recengine.where, got {type(where).__name__}")
    return where


def _kept(generation: Generation, name: str, ids: Any) -> IdMap:
    return IdMap(np.unique(ids_of_kind(generation, name, ids, ordered=False)))


def known(generation: Generation, ids: IdArray) -> Int64Array:
    """Return the ordinals of ids that were ever given one, deleted or not."""
    ordinals = generation.book.find(ids, generation.n_ordinals)
    return ordinals[ordinals >= 0]
