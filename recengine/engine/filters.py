"""What an answer may not hold: filters of one request, and filters prepared for many.

An `ItemFilter` follows the engine's items: what it lets through is worked out once a catalogue,
and prepared once for each index that is searched.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recengine._types import IdArray, Int64Array
from recengine.engine.catalogue import Catalogue
from recengine.engine.identity import as_id_list
from recengine.engine.state import State
from recengine.retrieval import Filter, FlatIndex, as_predicate


class Owner(Protocol):
    """What a filter needs of its engine."""

    _state: State


@dataclass(frozen=True)
class Prepared:
    """What a filter lets through, worked out for one catalogue.

    Attributes
    ----------
    catalogue : weak reference to Catalogue
    ordinals : ndarray, int64
        Of the items that pass, ascending.
    by_index : mapping of FlatIndex to Filter
        The same, prepared for each index that was searched; an index that no state holds any
        more leaves the mapping.
    """

    catalogue: weakref.ref[Catalogue]
    ordinals: Int64Array
    by_index: weakref.WeakKeyDictionary[FlatIndex, Filter] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    def of(self, index: FlatIndex) -> Filter:
        """Return the filter of an index whose ids are ordinals."""
        known = self.by_index.get(index)
        if known is None:  # threads may both make one: they are equal, and no lock is held
            known = self.by_index[index] = index.filter(allow=self.ordinals)
        return known


class ItemFilter:
    """A filter made ready for many requests; `Engine.filter` makes it.

    Parameters
    ----------
    owner : Engine
        Whose requests it serves.
    allow, deny : array_like of item ids, or None
    where : Predicate or None

    Notes
    -----
    It serves any number of threads and every later state of its engine: after `add_items` and
    `remove_items` the first request works it out anew, O(n_items + ids), and ids in `allow` or
    `deny` may come into the catalogue later. Each index that is searched keeps a bitmap of it, and
    where at most one item in 16 passes a copy of their vectors.
    """

    def __init__(self, owner: Owner, allow: Any, deny: Any, where: Any) -> None:
        if allow is None and deny is None and where is None:
            raise ValueError("filter must be given allow, deny or where")
        is_str = owner._state.catalogue.is_str
        self._owner = owner
        self._allow = None if allow is None else _kept("allow", allow, is_str)
        self._deny = None if deny is None else _kept("deny", deny, is_str)
        self._where = None if where is None else as_predicate(where)
        self._prepared = self._worked_out(owner._state.catalogue)

    def __repr__(self) -> str:
        parts = [
            f"{name}={len(ids)} ids"
            for name, ids in (("allow", self._allow), ("deny", self._deny))
            if ids is not None
        ]
        parts += [] if self._where is None else [f"where={self._where}"]
        return f"ItemFilter({', '.join(parts)})"

    @property
    def n_items(self) -> int:
        """How many of the items now in the catalogue it lets through."""
        return len(self.prepared(self._owner, self._owner._state).ordinals)

    @property
    def selectivity(self) -> float:
        """The same as a share of the items in the catalogue; 0 where there are none."""
        state = self._owner._state
        return len(self.prepared(self._owner, state).ordinals) / max(1, state.catalogue.n_alive)

    def prepared(self, owner: object, state: State) -> Prepared:
        """Return what it lets through in a state of its engine; another's engine is refused."""
        if owner is not self._owner:
            raise ValueError("filter must come from the engine that is asked, got another's")
        known = self._prepared
        if known.catalogue() is not state.catalogue:
            known = self._prepared = self._worked_out(state.catalogue)  # as above: no lock
        return known

    def _worked_out(self, catalogue: Catalogue) -> Prepared:
        keep = catalogue.alive.copy()
        if self._allow is not None:
            keep &= _mask(catalogue, "allow", self._allow)
        if self._deny is not None:
            keep &= ~_mask(catalogue, "deny", self._deny)
        if self._where is not None:
            keep &= catalogue.matching(self._where)
        return Prepared(weakref.ref(catalogue), np.flatnonzero(keep).astype(np.int64, copy=False))


def _kept(name: str, ids: Any, is_str: bool | None) -> IdArray:
    return as_id_list(name, ids, is_str, ordered=False).copy()


def _mask(catalogue: Catalogue, name: str, ids: IdArray) -> NDArray[np.bool_]:
    mask = np.zeros(len(catalogue.items), np.bool_)
    ordinals = catalogue.ordinals(name, ids)
    mask[ordinals[ordinals >= 0]] = True
    return mask


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of one request; `allow` and `deny` are ordinals, shared by the batch."""

    exclude_seen: bool = True
    allow: Int64Array | None = None
    deny: Int64Array | None = None
    prepared: Prepared | None = None


def as_filters(
    owner: Owner,
    state: State,
    exclude_seen: Any,
    allow: Any,
    deny: Any,
    where: Any,
    prepared: Any,
) -> Filters:
    """Return the filters of a request to `owner`, read once for all its searches."""
    if not isinstance(exclude_seen, bool | np.bool_):
        raise TypeError(f"exclude_seen must be a bool, got {type(exclude_seen).__name__}")
    if prepared is not None and not isinstance(prepared, ItemFilter):
        kind = type(prepared).__name__
        raise TypeError(f"filter must be an ItemFilter of this engine, got {kind}")
    allowed = None if allow is None else _present(state, "allow", allow)
    if where is not None:
        matching = np.flatnonzero(state.catalogue.matching(where))
        allowed = matching if allowed is None else np.intersect1d(allowed, matching)
    return Filters(
        bool(exclude_seen),
        allowed,
        None if deny is None else _present(state, "deny", deny),
        None if prepared is None else prepared.prepared(owner, state),
    )


def _present(state: State, name: str, ids: Any) -> Int64Array:
    ordinals = state.catalogue.ordinals(name, ids, ordered=False)
    return ordinals[ordinals >= 0]
