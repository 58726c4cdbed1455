"""Counters of what the searches did, without a lock on the request path."""

from __future__ import annotations

from threading import get_ident
from typing import Any

PAIRS = (  # of query and item
    "scanned",
    "coarse",
    "fine",
    "float32",
    "float64",
    "survived",
    "rescored",
)
COUNTERS = ("searches", "queries", *PAIRS, "partial")


class SearchStats:
    """Totals over all threads: each thread adds to its own row, a reader sums the rows.

    No lock is taken, so a fork in the middle of a search leaves nothing held in the child.
    """

    def __init__(self) -> None:
        self._level = ""
        self._rows: dict[int, list[int]] = {}

    def add(self, n_queries: int, native: dict[str, Any]) -> None:
        """Count one call, with the figures that the native search returned."""
        row = self._rows.get(get_ident()) or self._rows.setdefault(get_ident(), [0] * len(COUNTERS))
        row[0] += 1
        row[1] += n_queries
        for place, name in enumerate(PAIRS, 2):
            row[place] += native[name]
        row[-1] += native["partial"]
        self._level = native["level"]

    def snapshot(self) -> dict[str, Any]:
        """Return the totals so far."""
        rows = list(self._rows.values())
        totals = {name: sum(row[i] for row in rows) for i, name in enumerate(COUNTERS)}
        return {"level": self._level, **totals}
