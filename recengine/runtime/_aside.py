"""`aside`: a run on a thread of its own, from which the caller walks away when its time is up.

onnxruntime looks at a run's flag between nodes, and one node of a large batch takes hundreds of
milliseconds. A caller who waits beside it is back in time; the node ends without him.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 64  # runs aside at once, those that were left behind included; more wait their turn


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST, thread_name_prefix="recengine-run")


_threads = _executor()  # a thread starts with the first run that needs it


def aside(run: Callable[[Any], T], options: Any, timeout: float) -> T:
    """Return ``run(options)``, or raise `TimeoutError` after `timeout` seconds.

    Parameters
    ----------
    run : function
        Must touch nothing that the caller changes later: it may go on after he has left.
    options : onnxruntime.RunOptions
        Its flag ``terminate`` is raised when he leaves.
    timeout : float

    Notes
    -----
    Costs two hand-overs between threads, a tenth of a millisecond. At exit Python waits for runs
    that were left behind, as long as their node takes.
    """
    future = _threads.submit(run, options)
    try:
        return future.result(timeout)
    finally:
        if not future.done():  # time is up, or the caller was interrupted
            options.terminate = True
            future.cancel()


class Pace:
    """How long runs of one session take, by the bytes of their inputs.

    The time a byte takes is the most that was seen, forgotten little by little: one run that had
    to wait for the machine is not held against the session for ever.
    """

    def __init__(self) -> None:
        self._seconds_a_byte = float("inf")

    def expected(self, n_bytes: int) -> float:
        """Return seconds; infinity before the first run."""
        return self._seconds_a_byte * max(1, n_bytes)

    def took(self, n_bytes: int, seconds: float) -> None:
        """Learn from a run. Threads may lose each other's lesson: the next run teaches it again."""
        found, known = seconds / max(1, n_bytes), self._seconds_a_byte
        self._seconds_a_byte = found if known == float("inf") else max(found, FORGETTING * known)


FORGETTING = 0.9


def _start_anew() -> None:
    """Forget, in a forked child, threads that exist only in the parent."""
    global _threads  # noqa: PLW0603  (the process's own)
    _threads = _executor()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
