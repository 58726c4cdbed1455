"""Whether the answers given beside a writer are ones that its log allows."""

from __future__ import annotations

from typing import Any

import numpy as np

CHUNK = 1 << 16
TOLERANCE = 1e-5  # of the largest score: float64 here, rounded to float32 there


def violations(case: Any, answers: list[dict[str, Any]]) -> dict[str, int]:
    """Check every entry, and some answers as a whole.

    An entry is an item with the score of a version that was in the index between the beginning and
    the end of its search. The log holds the versions in order; whatever came before it is the
    item's first vector.
    """
    log = Log(case)
    bad = n_entries = n_replayed = 0
    for part in answers:
        entries = np.repeat(np.arange(len(part["ids"])), part["ids"].shape[1])
        bad += log.wrong_entries(
            part["ids"].ravel(),
            part["scores"].ravel(),
            part["query"][entries],
            part["before"][entries],
            part["after"][entries],
        )
        n_entries += len(entries)
        some = np.linspace(0, len(part["ids"]) - 1, case.options.replayed // len(answers) + 1)
        n_replayed += len(some)
        bad += log.wrong_answers(part, np.unique(some.astype(int)))
    return {"violations": bad, "entries": n_entries, "replayed": n_replayed}


class Log:
    """The updates of a case by item and number."""

    def __init__(self, case: Any) -> None:
        self.case = case
        self.n = case.done
        items = case.items[: self.n]
        self.order = np.argsort(items, kind="stable")
        self.keys = items[self.order] * (self.n + 1) + self.order + 1  # (item, updates with it)

    def wrong_entries(self, ids: Any, scores: Any, queries: Any, before: Any, after: Any) -> int:
        """Return how many entries are of no version that the search may have seen."""
        n = self.n + 1
        open_ = np.flatnonzero(ids >= 0)
        wrong = len(ids) - len(open_)  # padding: more items than k are always there
        at = np.searchsorted(self.keys, ids[open_] * n + before[open_], "right") - 1
        known = (at >= 0) & (self.keys[at] // n == ids[open_])  # else the item's first vector
        while len(open_):  # the newest version before the search, then those that came during it
            right = self._matches(ids[open_], scores[open_], queries[open_], at, known)
            open_, at = open_[~right], at[~right] + 1
            here = self.keys[np.minimum(at, len(self.keys) - 1)]
            known = (at < len(self.keys)) & (here // n == ids[open_]) & (here % n <= after[open_])
            wrong += int((~known).sum())
            open_, at, known = open_[known], at[known], known[known]
        return wrong

    def _matches(self, ids: Any, scores: Any, queries: Any, at: Any, known: Any) -> Any:
        """Return whether each score is that of the item's version `at` (else its first vector)."""
        case, right = self.case, np.empty(len(ids), bool)
        number = self.order[np.where(known, at, 0)]
        for i in range(0, len(ids), CHUNK):
            part = slice(i, i + CHUNK)
            vectors = case.vectors[ids[part]].copy()
            vectors[known[part]] = case.fresh[number[part][known[part]]]
            want = score(case, case.queries[queries[part]], vectors)
            close = np.abs(want - scores[part]) <= TOLERANCE * np.abs(want).max(initial=1)
            right[part] = close & ~(known[part] & case.deletes[number[part]])
        return right

    def wrong_answers(self, part: dict[str, Any], some: Any) -> int:
        """Return how many of these searches answered what the index held at no moment of theirs."""
        table, bad, done = self.case.vectors.copy(), 0, 0
        alive = np.ones(len(table), bool)
        for place in some[np.argsort(part["before"][some], kind="stable")].tolist():
            q, first, last = (int(part[name][place]) for name in ("query", "before", "after"))
            self._replay(table, alive, done, first)
            done, seen = first, False
            moment, there = table.copy() if last > first else table, alive.copy()
            for number in range(first, last + 1):
                self._replay(moment, there, max(first, number - 1), number)
                seen |= self._is_answer(part, place, q, moment, there)
                if seen:
                    break
            bad += not seen
        return bad

    def _replay(self, table: Any, alive: Any, start: int, end: int) -> None:
        case = self.case
        for number in range(start, end):
            item = case.items[number]
            alive[item] = not case.deletes[number]
            if alive[item]:
                table[item] = case.fresh[number]

    def _is_answer(self, part: Any, place: int, q: int, table: Any, alive: Any) -> bool:
        want = score(self.case, self.case.queries[q][None], table)
        want[~alive] = -np.inf
        ids, scores = part["ids"][place], part["scores"][place]
        best = np.sort(np.partition(-want, len(ids) - 1)[: len(ids)])
        slack = TOLERANCE * abs(best[0])
        return bool(
            alive[ids].all()
            and (np.abs(want[ids] - scores) <= slack).all()
            and (np.abs(-best - scores) <= slack).all()
        )


def score(case: Any, queries: Any, vectors: Any) -> Any:
    """Return the score of each row, in float64 where few are asked for."""
    wide, items = queries.astype(np.float64), vectors.astype(np.float64)
    if case.options.metric == "l2":
        return -np.sqrt(((items - wide) ** 2).sum(axis=1))
    dots = (items * wide).sum(axis=1)
    if case.options.metric == "cosine":
        dots /= np.linalg.norm(items, axis=1) * np.linalg.norm(wide, axis=1)
    return dots
