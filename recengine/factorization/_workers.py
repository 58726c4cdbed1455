"""Threads of a fit, over ranges that do not depend on how many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from recengine._types import Int64Array

_T = TypeVar("_T")


class Workers:
    """Runs ``function(start, stop)`` over ranges: on the caller's thread, and on others beside it.

    Parameters
    ----------
    pool : Executor or None
        Of the other threads.
    others : int
        How many of them.
    """

    def __init__(self, pool: Executor | None = None, others: int = 0) -> None:
        self._pool, self._others = pool, others

    def run(self, function: Callable[[int, int], _T], bounds: Int64Array) -> list[_T]:
        """Return the results in the order of the ranges between consecutive `bounds`.

        Each thread takes the next range when it is done with one; what `function` raises ends all.
        """
        starts, stops = bounds[:-1].tolist(), bounds[1:].tolist()
        if self._pool is None or len(starts) < 2:
            return [function(start, stop) for start, stop in zip(starts, stops, strict=True)]
        found: list[Any] = [None] * len(starts)
        waiting = deque(range(len(starts)))

        def take() -> int | None:
            try:
                return waiting.popleft()
            except IndexError:
                return None

        def work() -> None:
            try:
                while (number := take()) is not None:
                    found[number] = function(starts[number], stops[number])
            except BaseException:
                waiting.clear()
                raise

        helping = [self._pool.submit(work) for _ in range(min(self._others, len(starts) - 1))]
        try:
            work()
        finally:
            for one in helping:
                one.result()
        return found


@contextmanager
def workers(num_threads: int) -> Iterator[Workers]:
    """Give `Workers` of `num_threads` threads, the caller's among them; they end with it."""
    if num_threads == 1:
        yield Workers()
        return
    with ThreadPoolExecutor(num_threads - 1, thread_name_prefix="recengine-fit") as pool:
        yield Workers(pool, num_threads - 1)
