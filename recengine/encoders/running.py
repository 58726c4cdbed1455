"""How an encoder is run on this machine: no part of what makes its vectors."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from recengine._errors import DeadlineError
from recengine._validation import as_count, as_real
from recengine.encoders.batches import most_texts
from recengine.runtime import Buckets, Session, as_buckets, open_session

SHORTEST = 8  # tokens of the shortest text that warm-up runs
MOST_TEXTS = 64  # of its batches: the default batch_size of `encode`
# Operators whose scale is taken from all the values of a run.
DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


class Running(NamedTuple):
    """What was asked of the machine; see `TextEncoder`."""

    device: str
    num_threads: int | None
    runtime: Mapping[str, Any] | None
    buckets: Any = None

    def open(self, model: str | os.PathLike[str], output: str | None = None) -> Session:
        """Open a graph, cut at `output` where it is given."""
        return open_session(model, self.device, self.num_threads, self.runtime, output)

    def ladders(self, max_length: int) -> Buckets | None:
        """Return the buckets, which must hold every text of the encoder; None without any."""
        if self.buckets is None:
            return None
        buckets = as_buckets("buckets", self.buckets)
        if buckets.lengths[-1] < max_length:
            raise ValueError(
                f"buckets[1] must end at max_length, {max_length}, or beyond, "
                f"got {buckets.lengths[-1]}"
            )
        return buckets


def shares_scales(session: Session) -> bool:
    """Tell whether a graph is quantized dynamically: a row's vector depends on its batch mates."""
    operators = {name for counts in session.placement.values() for name in counts}
    return not operators.isdisjoint(DYNAMIC)


def rows_a_run(session: Session, batch_size: int | None, usual: int) -> int:
    """Return `batch_size`, when omitted `usual`; 1 for a graph that `shares_scales`.

    Raises
    ------
    ValueError
        More than 1 row is asked of a graph that shares scales: the vectors would be others.
    """
    alone = shares_scales(session)
    if batch_size is None:
        return 1 if alone else usual
    batch_size = as_count("batch_size", batch_size, minimum=1)
    if alone and batch_size > 1:
        raise ValueError(
            f"batch_size must be 1 for {session.path.name}, got {batch_size}: it is quantized "
            "dynamically, with one scale for all of a batch, so that batch mates would change each "
            "other's vectors; `recengine compress` makes a model of the float one that takes "
            "batches (row-int8)"
        )
    return batch_size


def usual_shapes(max_length: int, buckets: Buckets | None) -> list[tuple[int, int]]:
    """Return (rows, length) of what to run before requests come, the largest first.

    Every bucket; without buckets the whole batches and the single texts of `max_length`, half of
    it, and so on: memory then holds any batch, and more shapes need nothing more.
    """
    if buckets is not None:
        return list(buckets)
    shapes, length = [], max_length
    while length >= min(SHORTEST, max_length):
        shapes += [(most_texts(length, MOST_TEXTS), length), (1, length)]
        length //= 2
    return sorted(shapes, key=lambda shape: shape[0] * shape[1], reverse=True)


class Countdown:
    """What is left of a timeout, over all the runs of one request.

    Parameters
    ----------
    timeout : float or None
        Seconds, > 0; None for as long as it takes.
    """

    def __init__(self, timeout: float | None = None) -> None:
        if timeout is not None:
            timeout = as_real("timeout", timeout, minimum=0.0, exclusive=True)
            self._end = time.monotonic() + timeout
        self._timeout = timeout

    def left(self) -> float | None:
        """Return the seconds left, > 0; raise `DeadlineError` if there are none."""
        if self._timeout is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._error("before")
        return left

    def run(self, session: Session, feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        """Run a graph for as long as is left; `DeadlineError` names the whole timeout."""
        if self._timeout is None:
            return session.run(feeds)
        left = self.left()
        try:
            return session.run(feeds, left)
        except DeadlineError:
            raise self._error("while") from None

    def _error(self, when: str) -> DeadlineError:
        return DeadlineError(f"timeout of {self._timeout:g} s ran out {when} the graph ran")


UNLIMITED = Countdown()
