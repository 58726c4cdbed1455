"""Counters of what the searches did, without a lock on the request path."""

from __future__ import annotations

import threading
from typing import Any

COUNTERS = ("searches", "queries", "scanned", "rescored", "partial")


class SearchStats:
    """Totals over all threads: each thread adds to its own row, a reader sums the rows.

    No lock is taken, so a fork in the middle of a search leaves nothing held in the child.
    """

    def __init__(self) -> None:
        self._level = ""
        self._rows: dict[int, list[int]] = {}

    def add(self, n_queries: int, native: dict[str, Any]) -> None:
        """Count one call, with the figures that the native search returned."""
        row = self._rows.setdefault(threading.get_ident(), [0] * len(COUNTERS))
        row[0] += 1
        row[1] += n_queries
        row[2] += int(native["scanned"])
        row[3] += int(native["rescored"])
        row[4] += bool(native["partial"])
        self._level = str(native["level"])

    def snapshot(self) -> dict[str, Any]:
        """Return the totals so far."""
        rows = list(self._rows.values())
        totals = {name: sum(row[i] for row in rows) for i, name in enumerate(COUNTERS)}
        return {"level": self._level, **totals}
