"""When items learn from events: what an `Engine` notes of them, and `publish_items`."""

from __future__ import annotations

import threading

from recengine._types import ItemId
from recengine._validation import as_count
from recengine.engine.publish import Pending, published, refuse_unlearnable, solved
from recengine.engine.state import State
from recengine.storage import EventLog


class Publications:
    """The half of an engine that publishes items."""

    _state: State
    _latest: State  # with what is in the log, but not yet as safe as it promises
    _log: EventLog | None
    _writer: threading.Lock  # held while what is noted or the latest state is replaced
    _showing: threading.Lock  # and this while the state is, by whoever

    def _begin_publications(self, every: int | None) -> None:
        if every is not None:
            every = as_count("publish_every", every, minimum=1)
            refuse_unlearnable("publish_every", self._state.model)
        self._every = every
        self._pending = Pending()
        self._learns = hasattr(self._state.model, "partial_fit_items")
        self._publishing = threading.Lock()

    def _note(self, user: ItemId, ordinal: int) -> bool:
        """Note an event; tell whether a publication is due. pre: `_writer` is held."""
        if self._learns:
            self._pending.add(user, ordinal)
        return self._every is not None and self._pending.n_events >= self._every

    def _publish_unless_busy(self) -> None:
        if self._publishing.acquire(blocking=False):  # or another thread is at it
            try:
                self._publish()
            finally:
                self._publishing.release()

    def publish_items(self) -> int:
        """Solve anew the factors of all items that were observed, and publish them at once.

        Each item that an event touched since the last publication, and each new one that anybody
        has, gets the factors that `ALS.fit` would solve for it against the users' factors of now;
        then the users of those events are solved against the new items. A new item is from now on
        found by its factors, as the items of the build are.

        Returns
        -------
        int
            Items that were solved.

        Raises
        ------
        ValueError
            The engine has no model that solves items anew, or a system cannot be solved; nothing
            has changed then.

        Notes
        -----
        Requests see the items all old or all new and never wait; events wait only while the state
        is replaced. O(all events) to find who had the items, for an item of n users
        O(n factors² + factors³) split over the model's `num_threads`, and a copy of the item and
        the user factors. Imports SciPy. Events of before a `save` are not solved again after
        `load`, but for items that have no factors yet.
        """
        refuse_unlearnable("publish_items", self._state.model)
        with self._publishing:
            return self._publish()

    def _publish(self) -> int:
        with self._writer:
            state, pending = self._latest, self._pending
            self._pending = Pending()
        try:
            made = solved(state, pending)
            if made is None:
                return 0
            with self._writer:
                after = published(self._latest, made)
                if self._log is not None:
                    self._log.writer.wait(after.sequence)
                with self._showing:  # nobody who still waits for the log replaces it
                    self._latest = self._state = after
        except BaseException:
            with self._writer:
                self._pending = pending.joined(self._pending)
            raise
        return len(made.items)
