"""What travels with one request through every stage: deadline, trace and context."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recengine._errors import DeadlineError
from recengine._validation import as_real

_NEARLY_NOTHING = 1e-9


class Request:
    """One request's deadline, its record of stages, and whether it was cut short.

    Parameters
    ----------
    timeout : float, optional
        Seconds from now; > 0.
    trace : bool
        Whether to record what each stage did.
    context : mapping, optional
        Facts about the moment of the request, for the ranker. What no stage reads is refused rather
        than ignored.
    reads : sequence of str
        What the stages read of it.

    Attributes
    ----------
    context : mapping
    partial : bool

    Notes
    -----
    Belongs to one thread, the one that made it.
    """

    def __init__(
        self,
        timeout: float | None,
        trace: bool,
        context: Mapping[str, Any] | None,
        reads: Sequence[str] = (),
    ) -> None:
        if not isinstance(trace, bool):
            raise TypeError(f"trace must be a bool, got {type(trace).__name__}")
        if context is not None and not reads:
            raise ValueError(f"context must be None: no stage reads it, got {context!r}")
        if context is not None and not isinstance(context, Mapping):
            raise TypeError(f"context must be a mapping, got {type(context).__name__}")
        self.context: Mapping[str, Any] = {} if context is None else dict(context)
        if unread := [name for name in self.context if name not in reads]:
            raise ValueError(
                f"context must be of {', '.join(reads)}, which the ranker reads, got {unread[0]!r}"
            )
        self.partial = False
        self._start = time.monotonic()
        self._deadline: float | None = None
        self._stages: list[dict[str, Any]] | None = [] if trace else None
        if timeout is not None:
            seconds = as_real("timeout", timeout, minimum=0.0, exclusive=True)
            self._deadline = self._start + seconds

    def remaining(self) -> float | None:
        """Return the seconds left for a stage that stops by itself; None without a deadline."""
        if self._deadline is None:
            return None
        return max(self._deadline - time.monotonic(), _NEARLY_NOTHING)

    def expired(self) -> bool:
        """Tell whether the deadline has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def check(self, stage: str) -> None:
        """Raise `DeadlineError` if the deadline has passed before a stage that must run whole."""
        if self.expired():
            raise DeadlineError(f"timeout ran out before {stage}, which has no partial answer")

    def check_whole(self, stage: str) -> None:
        """Raise `DeadlineError` if a stage that must run whole was cut short."""
        if self.partial:
            raise DeadlineError(f"timeout ran out in {stage}, which has no partial answer here")

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time the block; what it writes into the yielded dict is kept in the trace."""
        counts: dict[str, Any] = {}
        if self._stages is None:
            yield counts
            return
        before = time.perf_counter()
        yield counts
        spent = (time.perf_counter() - before) * 1e3
        self._stages.append({"stage": name, "ms": spent, **counts})

    def trace(self) -> dict[str, Any] | None:
        """Return ``{"ms": total, "stages": [...]}``, or None where no trace was asked for."""
        if self._stages is None:
            return None
        return {"ms": (time.monotonic() - self._start) * 1e3, "stages": self._stages}
