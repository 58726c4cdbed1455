"""Which items there are: their ids, their ordinals, who is gone, and their attributes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import UnknownItemError
from recengine._types import PADDING_ID, IdArray, Int64Array
from recengine._validation import as_id
from recengine.data import IdMap
from recengine.engine.attributes import Columns, align, updated
from recengine.engine.identity import as_id_list
from recengine.retrieval import ItemColumns, as_predicate


@dataclass(frozen=True)
class Catalogue:
    """The items by ordinal: the row number of an item's first insert, never reused.

    Attributes
    ----------
    items : IdMap
        Every item there ever was.
    alive : ndarray (n,), bool
        False for removed items.
    columns : dict of str to ndarray (n,)
        Attributes.
    """

    items: IdMap
    alive: NDArray[np.bool_] = field(repr=False)
    columns: Columns = field(repr=False)
    _read: list[ItemColumns] = field(default_factory=list, repr=False, compare=False)

    @property
    def is_str(self) -> bool | None:
        """Whether ids are str; None in a catalogue that never had an item."""
        return self.items.is_str if len(self.items) else None

    @property
    def n_alive(self) -> int:
        """Number of items that answers may hold."""
        return int(self.alive.sum())

    @property
    def removed(self) -> Int64Array:
        """Ordinals of the removed items, ascending."""
        return np.flatnonzero(~self.alive).astype(np.int64, copy=False)

    def ordinal(self, name: str, item_id: Any) -> int:
        """Return the ordinal of one item that is there; `UnknownItemError` otherwise."""
        key = as_id(name, item_id, self.is_str)
        ordinal = self.items.index(key) if len(self.items) else -1
        if ordinal < 0 or not self.alive[ordinal]:
            raise UnknownItemError(f"{name} must be in the catalogue, got {key!r}")
        return ordinal

    def ordinals(self, name: str, item_ids: Any, *, ordered: bool = True) -> Int64Array:
        """Return ordinals in the order of `item_ids`; −1 for those that are not there."""
        return self._find(as_id_list(name, item_ids, self.is_str, ordered=ordered))

    def _find(self, ids: IdArray) -> Int64Array:
        if not len(ids) or not len(self.items):
            return np.full(len(ids), -1, np.int64)
        ordinals = self.items.indices(ids, missing="mark")
        return np.where((ordinals >= 0) & self.alive[ordinals], ordinals, -1)

    def known_ordinals(self, name: str, item_ids: Any, *, ordered: bool = True) -> Int64Array:
        """Return ordinals in the order of `item_ids`; `UnknownItemError` names the missing."""
        ids = as_id_list(name, item_ids, self.is_str, ordered=ordered)
        ordinals = self._find(ids)
        if (ordinals < 0).any():
            missing = ids[ordinals < 0].tolist()
            shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise UnknownItemError(
                f"{name} must be in the catalogue, got {len(missing)} that are not: {shown}"
            )
        return ordinals

    def ids_of(self, ordinals: Int64Array) -> IdArray:
        """Return the caller's ids; −1 or None where an ordinal is −1. Any shape."""
        if not len(self.items):
            return np.full(ordinals.shape, PADDING_ID, np.int64)
        ids = self.items.ids[ordinals]
        if (ordinals < 0).any():
            ids[ordinals < 0] = None if self.items.is_str else PADDING_ID
        return ids

    def alive_ids(self) -> IdArray:
        """Return the ids of all items that are there, in the order of their ordinals."""
        return self.items.ids[self.alive]

    def matching(self, where: Any) -> NDArray[np.bool_]:
        """Return which of all ordinals, removed ones too, have attributes that match a predicate.

        O(n_items); the columns are read on first use, once for all catalogues that share them.
        """
        if not self._read:  # two threads may both read them: the results are equal
            self._read.append(ItemColumns.read(self.columns, len(self.items)))
        return self._read[0].matching(as_predicate(where))

    def attributes(self, ordinals: Int64Array) -> Columns:
        """Return the attribute columns of some items."""
        return align(self.columns, ordinals)

    def extended(self, ids: IdArray, columns: Columns) -> tuple[Catalogue, Int64Array]:
        """Return (the catalogue with these items added or updated, their ordinals)."""
        new = ids[self.items.indices(ids, missing="mark") < 0]
        items = self.items.extended(new)
        ordinals = items.indices(ids)
        alive = np.zeros(len(items), np.bool_)
        alive[: len(self.alive)] = self.alive
        alive[ordinals] = True
        merged = updated(self.columns, len(items), ordinals, columns)
        return Catalogue(items, alive, merged), ordinals

    def without(self, ordinals: Int64Array) -> Catalogue:
        """Return the catalogue after these items were removed."""
        alive = self.alive.copy()
        alive[ordinals] = False
        return replace(self, alive=alive)
