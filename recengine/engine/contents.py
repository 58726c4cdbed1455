"""What an engine holds: ids, histories, attributes, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import IdArray
from recengine.engine.attributes import Columns
from recengine.engine.encoder import Encoder
from recengine.engine.identity import as_id_list
from recengine.engine.ranker import Ranker
from recengine.engine.state import State


class Contents:
    """What can be read off an `Engine`."""

    _state: State

    @property
    def item_ids(self) -> IdArray:
        """Ids of the items in the catalogue, in the order of their ordinals."""
        return self._state.catalogue.alive_ids()

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return self._state.catalogue.n_alive

    @property
    def user_ids(self) -> IdArray:
        """Ids of the users of the build, then of those observed since, ascending."""
        return self._state.profiles.all_users().ids

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each source there is."""
        return {source.name: source.weight for source in self._state.sources}

    @property
    def encoder(self) -> Encoder | None:
        """The text encoder, opened if need be; None in an engine without one."""
        slot = self._state.encoder
        return None if slot.reference is None else slot.get("encoder")

    @property
    def ranker(self) -> Ranker | None:
        """The last stage, opened if need be; None in an engine without one."""
        return self._state.ranker.there()

    def history(self, user_id: Any) -> tuple[IdArray, NDArray[np.float32]]:
        """Return (ids of the items a user has had, weights), by ordinal; empty if unknown.

        Parameters
        ----------
        user_id : int or str
        """
        state = self._state
        profile = state.profiles.get(state.user(user_id))
        if profile is None:
            return state.catalogue.ids_of(np.empty(0, np.int64)), np.empty(0, np.float32)
        return state.catalogue.ids_of(profile.seen), profile.weights.copy()

    def item_attributes(self, ids: Any = None) -> Columns:
        """Return the attribute columns of some items, or of all in the order of `item_ids`.

        Parameters
        ----------
        ids : array-like (n,), optional
            Item ids; may repeat.

        Returns
        -------
        dict of str to ndarray (n,)
            Numbers, or object holding str; missing is NaN or None. Without ``item_id``.

        Raises
        ------
        UnknownItemError
            An item is not in the catalogue.
        """
        catalogue = self._state.catalogue
        if ids is None:
            return catalogue.attributes(np.flatnonzero(catalogue.alive))
        return catalogue.attributes(catalogue.known_ordinals("ids", ids))

    def user_attributes(self, ids: Any) -> Columns:
        """Return the attribute columns of some users; missing for those the build did not know.

        Parameters
        ----------
        ids : array-like (n,)
            User ids; may repeat.
        """
        state = self._state
        names = as_id_list("ids", ids, state.profiles.is_str)
        return state.user_attributes(names)

    def __contains__(self, item_id: object) -> bool:
        catalogue = self._state.catalogue
        ordinal = catalogue.items.index(item_id)
        return ordinal >= 0 and bool(catalogue.alive[ordinal])

    def __repr__(self) -> str:
        shares = ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())
        return f"Engine({self.n_items} items, weights: {shares})"
