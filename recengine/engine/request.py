"""What travels with one request through every stage: deadline, trace and context."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
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
        Facts about the moment of the request. No stage of this version reads any, so a context
        is refused rather than ignored.

    Notes
    -----
    Belongs to one thread, the one that made it.
    """

    def __init__(
        self, timeout: float | None, trace: bool, context: Mapping[str, Any] | None
    ) -> None:
        if not isinstance(trace, bool):
            raise TypeError(f"trace must be a bool, got {type(trace).__name__}")
        if context is not None:
            raise ValueError(f"context must be None: no stage reads it, got {context!r}")
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
