"""`Watch`: one thread that ends runs whose time is up."""

from __future__ import annotations

import os
import threading
import time
from typing import Any


class Run:
    """One run with a deadline, watched for as long as its context lasts.

    Attributes
    ----------
    at : float
        When to end it, by `time.monotonic`.
    options : onnxruntime.RunOptions
        This run's own: its flag ends no other run.
    expired : bool
        Whether it was told to end.
    """

    __slots__ = ("_watch", "at", "expired", "options")

    def __init__(self, watch: Watch, at: float, options: Any) -> None:
        self._watch, self.at, self.options, self.expired = watch, at, options, False

    def __enter__(self) -> Run:
        self._watch.begin(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.end(self)


class Watch:
    """Raises the flag ``terminate`` of each watched run at its deadline.

    Notes
    -----
    The thread starts with the first deadline and then waits for the earliest of those in flight;
    a run that ends in time costs two locks and no thread of its own. O(runs in flight) a wake-up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._runs: set[Run] = set()
        self._wakes_at = float("inf")
        self._started = False

    def over(self, options: Any, timeout: float) -> Run:
        """Return a context in which a run is watched, and ended after `timeout` seconds."""
        return Run(self, time.monotonic() + timeout, options)

    def begin(self, run: Run) -> None:
        """Watch a run."""
        with self._lock:
            if not self._started:
                threading.Thread(target=self._work, name="recengine-watch", daemon=True).start()
                self._started = True
            self._runs.add(run)
            if run.at < self._wakes_at:
                self._changed.notify()

    def end(self, run: Run) -> None:
        """Forget a run: its flag is not touched any more."""
        with self._lock:
            self._runs.discard(run)

    def _work(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for run in [each for each in self._runs if each.at <= now]:
                    run.expired = run.options.terminate = True
                    self._runs.discard(run)
                self._wakes_at = min((run.at for run in self._runs), default=float("inf"))
                wait = self._wakes_at - now
                self._changed.wait(min(wait, threading.TIMEOUT_MAX) if self._runs else None)


_watch = Watch()


def watched(options: Any, timeout: float) -> Run:
    """Return a context in which a run with `options` is ended after `timeout` seconds."""
    return _watch.over(options, timeout)


def _start_anew() -> None:
    """Forget, in a forked child, a thread that exists only in the parent, and its lock."""
    global _watch  # noqa: PLW0603  (the process's one watch)
    _watch = Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
