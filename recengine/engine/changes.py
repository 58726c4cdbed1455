"""What changes an engine: events, new items, removed items; logged before they are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from recengine._types import ItemId
from recengine.engine import journal
from recengine.engine.attributes import read_columns
from recengine.engine.identity import as_id_list
from recengine.engine.publications import Publications
from recengine.engine.state import State
from recengine.engine.update import new_vectors, observed, with_items, without_items
from recengine.storage import EventLog, event_payload

# From a state to the next one and what the log says of it.
_Step: TypeAlias = Callable[[State], tuple[State, Callable[[], bytes]]]


class Changes(Publications):
    """The half of an engine that writes.

    `_state` is what requests read. With a log it follows `_latest`, which has every record that
    was written; a state becomes `_state` when its last record is as safe as the log promises.
    """

    def observe(self, user_id: Any, item_id: Any, weight: float = 1.0) -> None:
        """Learn that a user chose an item; the next request knows it.

        The item counts as seen, the user's factors are solved anew from the whole history, and
        the item's popularity grows if the user did not have it. An unknown user becomes known. The
        item's factors learn of it by `publish_items`.

        With a log the event is written first, with the time it is now: when this returns it is as
        safe as the log promises.

        Parameters
        ----------
        user_id : int or str
        item_id : int or str
        weight : float
            Strength, > 0; added to what the user already gave the item.

        Raises
        ------
        UnknownItemError
            The item is not in the catalogue: `add_items` first.
        ValueError, TypeError
            Wrong arguments; nothing has changed then.
        OSError
            The log could not be written: nothing has changed. Where it could not be flushed, the
            event may be there when the log is opened anew.

        Notes
        -----
        O(factors² n + factors³) for a history of n items, beside copies of the history, of
        4,096 counts and of a 1,024th of the users observed so far. Threads that observe at once
        share the flush of the log.
        """
        strength = journal.as_strength("weight", weight)
        is_due = False

        def step(state: State) -> tuple[State, Callable[[], bytes]]:
            nonlocal is_due
            ordinal = state.catalogue.ordinal("item_id", item_id)
            user = state.user(user_id)
            is_due = self._note(user, ordinal)
            item: ItemId = state.catalogue.items.ids[ordinal : ordinal + 1].tolist()[0]
            return observed(state, [(user, ordinal, strength)]), lambda: event_payload(
                user, item, strength, int(time.time())
            )

        self._change(step)
        if is_due:
            self._publish_unless_busy()

    def add_items(
        self,
        ids: Any,
        texts: Sequence[str] | None = None,
        vectors: Any = None,
        items: Any = None,
    ) -> None:
        """Add items, or replace the content and attributes of known ones.

        A new item has factors at once where the model is an `ALS` whose `item_features` were the
        content vectors of this engine: those that it predicts. Elsewhere it has none until it was
        observed and `publish_items` was called: `search` and `similar_items` find it at once,
        `recommend` and `rank` only where content (or popularity) has a weight above 0. A removed
        item that is added again has its old ordinal and factors.

        Parameters
        ----------
        ids : array_like (n,), integers or str
            Distinct.
        texts : sequence of str (n,), optional
            Encoded into content vectors by the engine's encoder.
        vectors : array_like (n, dim), optional
            Content vectors themselves. An engine with content needs texts or vectors, one
            without content takes neither.
        items : frame or mapping of columns, optional
            Attributes with a column ``item_id``; what an added item lacks is missing (None, NaN).

        Raises
        ------
        ValueError, TypeError, OSError
            Wrong arguments, or a log that could not be written; nothing has changed then.

        Notes
        -----
        O(n_items dim): the indexes are copied. Add many at once.
        """
        state = self._state
        names = as_id_list("ids", ids, state.catalogue.is_str)
        if len(set(names.tolist())) != len(names):
            raise ValueError("ids must not repeat an id")
        columns = {} if items is None else read_columns("items", items, "item_id", names)
        table = new_vectors(state, len(names), texts, vectors)
        if not len(names):
            return

        def step(state: State) -> tuple[State, Callable[[], bytes]]:
            as_id_list("ids", names, state.catalogue.is_str)
            after = with_items(state, names, table, columns)
            return after, lambda: journal.added(names, table, columns)

        self._change(step)

    def remove_items(self, ids: Any) -> None:
        """Remove items: no answer that begins after this holds them.

        Users who had them keep that as part of their taste.

        Parameters
        ----------
        ids : array_like (n,)
            Each in the catalogue; may repeat.

        Raises
        ------
        UnknownItemError
            An item is not in the catalogue; nothing has changed then.
        OSError
            The log could not be written; nothing has changed then.

        Notes
        -----
        O(n_items).
        """
        names = as_id_list("ids", ids, self._state.catalogue.is_str, ordered=False)
        if not len(names):
            return

        def step(state: State) -> tuple[State, Callable[[], bytes]]:
            ordinals = np.unique(state.catalogue.known_ordinals("ids", names))
            gone = state.catalogue.items.ids[ordinals]
            return without_items(state, ordinals), lambda: journal.removed(gone)

        self._change(step)

    def _change(self, step: _Step) -> None:
        with self._writer:
            log, latest = self._log, self._latest
            if log is None:
                self._latest = self._state = step(latest)[0]
                return
            if log.sequence != latest.sequence:  # a write was interrupted behind the log's back
                records = log.tail(log.path, latest.sequence).records()
                self._latest = latest = journal.replayed(latest, records, log.id, self._note)
            after, payload = step(latest)
            sequence = log.writer.write([payload()], after=latest.sequence)
            self._latest = after = replace(after, log=log.id, sequence=sequence)
        log.writer.wait(sequence)
        with self._showing:  # states come here in any order; the log's order decides
            if self._state.sequence < sequence:
                self._state = after

    def _follow(self, log: EventLog, after: int | None) -> None:
        """Take what the log holds beyond this engine, and write to it from now on."""
        start = journal.start_of(self._state, log, after)
        state = replace(self._state, log=log.id, sequence=start)
        if state.position == self._state.position:
            state = self._state
        records = log.tail(log.path, start).records()
        self._latest = self._state = journal.replayed(state, records, log.id, self._note)
        self._log = log
