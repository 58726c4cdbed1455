"""Updates beside searches: how the next generation is made, and when the delta is folded in.

A writer appends to the delta, copies the words of the rows that died, and publishes a generation by
replacing one reference: O(dim) an item and n_items / 8 bytes a call. A compaction builds a new base
aside, of the rows that were alive when it began; then, for a moment, it holds writers back, repeats
what they did meanwhile, and publishes. Searches never wait.

One daemon thread an index compacts when that is due; it is started for the occasion, and ends when
nothing is due. The new base it has built by another, which the system runs where a CPU would be
idle, and which gives way to whatever wakes: with a lock in its hands it would hold back writers.
Where it does not get to run, a writer that has to wait does its work.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from recengine import _native
from recengine._errors import UnknownItemError
from recengine._types import Float32Array, IdArray
from recengine.retrieval import _bias, _bits, _score
from recengine.retrieval._compaction import compacted, places, rebased, with_own_log, without_rows
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_book import IdBook
from recengine.retrieval._segment import Segment
from recengine.retrieval._vectors import Vectors

Rebuilt: TypeAlias = tuple[Segment, IdBook]

SMALLEST_DELTA = 2048  # rows; a smaller delta costs a search little
DELTA_SHARE = 16  # of the base, one row in so many, makes a compaction due
DEAD_SHARE = 4  # and so do this many dead rows of the base
FORCED = 4  # a writer waits for a compaction at so many times the delta that makes one due
PATIENCE = 1.0  # seconds that a writer waits for a compaction which may not get to run


def is_due(generation: Generation) -> bool:
    """Say whether a compaction is worth its while."""
    n_base = generation.base.n_rows
    n_dead = n_base - generation.n_base_alive
    return generation.delta.n_rows >= due_at(n_base) or (
        n_dead >= max(SMALLEST_DELTA, n_base // DEAD_SHARE)
    )


def is_full(generation: Generation) -> bool:
    """Say whether a writer has to wait for a compaction."""
    return generation.delta.n_rows >= FORCED * due_at(generation.base.n_rows)


def due_at(n_base: int) -> int:
    """Return how many rows of delta make a compaction due beside so many of base."""
    return max(SMALLEST_DELTA, n_base // DELTA_SHARE)


class Live:
    """The published generation of one index, and everything that replaces it.

    Parameters
    ----------
    generation : Generation
        The first; it may be shared with other indexes.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._owned = False  # whether log and book are ours alone and hold what is published
        self._thread: threading.Thread | None = None
        self._renew_locks()
        _all.add(self)

    def _renew_locks(self) -> None:
        self._writing = threading.Lock()
        self._compacting = threading.Lock()
        self._making_room = threading.Lock()

    def after_fork(self) -> None:
        """Begin anew in a forked child: whoever held a lock or compacted was left behind."""
        self._renew_locks()
        self._thread = None

    def upsert(
        self,
        ids: IdArray,
        vectors: Vectors,
        columns: Any = None,
        bias: Float32Array | None = None,
    ) -> None:
        """Add or replace distinct items; `vectors` as stored, `columns` for `Columns.upserted`."""
        if len(ids) == 0:
            return
        self._make_room()
        norms = _score.squared_norms(_native.api(), vectors)
        reach = _score.reach(self.generation.metric, norms)
        with self._writing:
            now = self._own()
            there = places(now, ids)
            ordinals = there.ordinals
            new = ordinals < 0
            n_new = int(np.count_nonzero(new))
            changes = without_rows(now, there)
            boost = _bias.held(now, ordinals) if bias is None else bias
            if n_new:
                ordinals = ordinals.copy()
                ordinals[new] = np.arange(now.n_ordinals, now.n_ordinals + n_new)
            n_ordinals = now.n_ordinals + n_new
            table = now.columns.upserted(n_ordinals, ordinals, ~there.alive, columns)
            self._owned = False
            if n_new:
                changes["book"] = now.book.added(ids[new], now.n_ordinals)
            end = now.log.append(now.delta.n_rows, ordinals, vectors, norms, reach, boost)
            delta_alive = changes.get("delta_alive", now.delta_alive)
            changes |= {
                "n_ordinals": n_ordinals,
                "columns": table,
                "n_alive": changes["n_alive"] + len(ids),
                "delta": now.log.segment(end),
                "delta_alive": _bits.extended(delta_alive, end),
            }
            self.generation = replace(now, **changes)
            self._owned = True
            self._start_if_due()

    def delete(self, ids: IdArray) -> None:
        """Remove distinct items, all of them in the index."""
        with self._writing:
            now = self.generation
            there = places(now, ids)
            if not there.alive.all():
                lost = ids[~there.alive].tolist()
                raise UnknownItemError(f"ids must be in the index, got {lost[0]!r}")
            self.generation = replace(now, **without_rows(now, there))
            self._start_if_due()

    def compact(self) -> None:
        """Fold everything that is published into the base, and drop its dead rows."""
        with self._compacting:
            self._fold(_rebuilt)

    def compact_while_due(self) -> None:
        """Do what the thread does."""
        while is_due(self.generation):
            with self._compacting:
                if is_due(self.generation):
                    self._fold(_rebuilt_when_idle)

    def _make_room(self) -> None:
        if not is_full(self.generation):
            return
        with self._making_room:
            mine = self._compacting.acquire(timeout=PATIENCE)
            try:
                if is_full(self.generation):
                    self._fold(_rebuilt)  # what else folds meanwhile finds its log replaced
            finally:
                if mine:
                    self._compacting.release()

    def _fold(self, rebuild: Callable[[Generation], Rebuilt]) -> None:
        """Compact; pre: `_compacting` is held."""
        while True:
            with self._writing:
                start = self.generation = self._own()
                self._owned = True
            if start.is_clean:
                return
            base, book = rebuild(start)
            with self._writing:
                # Otherwise a writer was cut off meanwhile, and its successor began a new log, or a
                # writer that could not wait has folded it.
                if self._owned and self.generation.log is start.log:
                    self.generation = rebased(self.generation, start, base, book)
                    return

    def _own(self) -> Generation:
        """Return the published state with a log and a book that this writer may add to."""
        return self.generation if self._owned else with_own_log(self.generation)

    def _start_if_due(self) -> None:
        """Start the thread if it is needed; pre: `_writing` is held."""
        if self._thread is None and not _exiting.is_set() and is_due(self.generation):
            self._thread = threading.Thread(
                target=self._run, name="recengine-compaction", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        try:
            self.compact_while_due()
        finally:
            with self._writing:
                self._thread = None

    def join(self) -> None:
        """Wait until the thread, if there is one, has ended."""
        thread = self._thread
        if thread is not None:
            thread.join()


def _rebuilt(start: Generation) -> Rebuilt:
    """Return what replaces the base and the book of `start`."""
    return compacted(start), start.book.folded(start.n_ordinals)


def _rebuilt_when_idle(start: Generation) -> Rebuilt:
    """Do the same in a thread that runs where nothing else wants to."""
    made: Future[Rebuilt] = Future()

    def run() -> None:
        if sys.platform == "linux":  # where that belongs to a thread, not to the process
            _take_what_is_left()
        try:
            made.set_result(_rebuilt(start))
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=run, name="recengine-rebuild", daemon=True).start()
    return made.result()


def _take_what_is_left() -> None:
    """Give the CPU that this thread runs on to whoever wants it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # a sandbox may refuse it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


_all: weakref.WeakSet[Live] = weakref.WeakSet()
_exiting = threading.Event()


def _renew_after_fork() -> None:
    for live in list(_all):
        live.after_fork()


def _finish() -> None:
    """Let no thread return from native code into an interpreter that is no more."""
    _exiting.set()
    for live in list(_all):
        live.join()


atexit.register(_finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
