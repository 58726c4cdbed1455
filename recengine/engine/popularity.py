"""How many users have each item: counts that one event changes without copying them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine.retrieval import FlatIndex

_CHUNK = 4096


@dataclass(frozen=True)
class Popularity:
    """The number of users who have each item, by ordinal.

    Attributes
    ----------
    chunks : tuple of ndarray, float32
        The counts, `_CHUNK` to a chunk, the last one shorter. Chunks are never written to: an
        event replaces the one it touches, O(4,096) however many items there are.
    n_items : int
    removed : ndarray, int64
        Ordinals that no answer may hold.

    Notes
    -----
    The index is made when a request first needs it, O(n_items), and shared by all requests that
    see this object. Counts are exact up to 2^24 users an item.
    """

    chunks: tuple[Float32Array, ...]
    n_items: int
    removed: Int64Array = field(repr=False)
    _made: list[FlatIndex] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, counts: Float32Array, removed: Int64Array) -> Popularity:
        """Return the popularity that these counts describe."""
        chunks = tuple(
            np.array(counts[start : start + _CHUNK], dtype=np.float32)
            for start in range(0, len(counts), _CHUNK)
        )
        return cls(chunks, len(counts), removed)

    @property
    def counts(self) -> Float32Array:
        """All counts, (n_items,) float32, a copy."""
        return np.concatenate((np.empty(0, np.float32), *self.chunks))

    @property
    def index(self) -> FlatIndex:
        """One-dimensional vectors whose dot product with (1,) is the count."""
        if not self._made:  # two threads may both make one: they are equal, and no lock is held
            index = FlatIndex(self.counts[:, None], metric="dot")
            index.delete(self.removed)
            self._made.append(index)
        return self._made[0]

    def counted(self, ordinals: Iterable[int]) -> Popularity:
        """Return the popularity after one more user has each of these; an item may repeat."""
        chunks = list(self.chunks)
        changed: set[int] = set()
        for ordinal in ordinals:
            place, offset = divmod(ordinal, _CHUNK)
            if place not in changed:
                chunks[place] = chunks[place].copy()
                changed.add(place)
            chunks[place][offset] += 1.0
        return Popularity(tuple(chunks), self.n_items, self.removed)

    def resized(self, n_items: int, removed: Int64Array) -> Popularity:
        """Return the popularity of a catalogue that grew to `n_items` or lost `removed`."""
        new = np.zeros(n_items - self.n_items, np.float32)
        return Popularity.of(np.concatenate((self.counts, new)), removed)
