"""The caller's ids and their ordinals, append-only: what a request saw stays true beside a writer.

An ordinal is the place of an id in order of first insert. It is never reused, and an id that was
deleted and comes back has its old one, whatever happened in between. So ids are kept for good.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import IdArray, Int64Array, ItemId
from recengine.data import IdMap

SMALLEST = 64
FOLD_AT_LEAST = 4096
FOLD_SHARE = 4  # recent ids are folded when they are more than one in so many


class IdBook:
    """An immutable map of most ids, and a dict of the recent ones that only grows.

    A reader passes the number of ordinals that its generation knows, `size`; a writer may have
    added more.

    Parameters
    ----------
    ids : IdMap
        The first ids, by ordinal.
    """

    def __init__(self, ids: IdMap) -> None:
        self._old = ids
        self._n_old = len(ids)
        self._recent: dict[ItemId, int] = {}
        self._names: IdArray = np.empty(SMALLEST, object if ids.is_str else np.int64)

    def find(self, ids: IdArray, size: int) -> Int64Array:
        """Return the ordinal of each id, −1 where it has none; TypeError for the other kind."""
        if len(ids) == 0 or size == 0:
            return np.full(len(ids), -1, np.int64)
        ordinals = self._old.indices(ids, missing="mark")
        if size > self._n_old:
            get = self._recent.get
            for place in np.flatnonzero(ordinals < 0).tolist():
                found = get(ids[place], -1)
                ordinals[place] = found if found < size else -1
        return ordinals

    def find_one(self, item_id: Any, size: int) -> int:
        """Return the ordinal of one id, −1 where it has none or is of another kind."""
        ordinal = self._old.index(item_id)
        if ordinal >= 0 or size <= self._n_old:
            return ordinal
        kinds: Any = str if self._old.is_str else int | np.integer
        if not isinstance(item_id, kinds) or isinstance(item_id, bool):
            return -1
        ordinal = self._recent.get(item_id, -1)
        return ordinal if ordinal < size else -1

    def names(self, ordinals: Int64Array, size: int) -> IdArray:
        """Return the ids of ordinals of any shape; those of −1 are arbitrary. pre: size > 0."""
        old = self._old.ids
        if size <= self._n_old:
            return old[ordinals]
        recent = ordinals >= self._n_old
        names: IdArray = old[np.where(recent, 0, ordinals)]
        names[recent] = self._names[ordinals[recent] - self._n_old]
        return names

    def all_names(self, size: int) -> IdArray:
        """Return the ids of ordinals 0 to size − 1, read-only."""
        if size == self._n_old:
            return self._old.ids
        names = np.concatenate([self._old.ids, self._names[: size - self._n_old]])
        names.flags.writeable = False
        return names

    @property
    def dtype(self) -> np.dtype[Any]:
        """int64, or object for str ids."""
        return self._old.ids.dtype

    def added(self, ids: IdArray, size: int) -> IdBook:
        """Give new, distinct ids the ordinals from `size` on; return the book to publish.

        O(ids) amortised. Only the writer calls it.
        """
        if size == 0:
            return IdBook(IdMap(ids))
        start = size - self._n_old
        end = start + len(ids)
        if end > len(self._names):
            names = np.empty(max(end, 2 * len(self._names)), self._names.dtype)
            names[:start] = self._names[:start]
            self._names = names
        self._names[start:end] = ids
        self._recent.update(zip(ids.tolist(), range(size, size + len(ids)), strict=True))
        return self

    def copied(self, size: int) -> IdBook:
        """Return a book of the first `size` ids that shares only what never changes."""
        book = IdBook(self._old)
        if size == self._n_old:
            return book
        return book.added(self._names[: size - self._n_old], self._n_old)

    def folded(self, size: int) -> IdBook:
        """Return a book of the first `size` ids, recent ones moved to the map if they are many."""
        recent = size - self._n_old
        if recent <= max(FOLD_AT_LEAST, self._n_old // FOLD_SHARE):
            return self
        return IdBook(self._old.extended(self._names[:recent]))
