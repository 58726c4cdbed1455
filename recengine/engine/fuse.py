"""The exact best k of a weighted sum of several sources.

Every source nominates its m best, every nominee is scored by every source, and the list is
certified when its k-th score lies above what any item that nobody nominated could reach: the sum
of weight times the m-th score of each source. Otherwise m grows. The answer therefore does not
depend on m, and top-k is a prefix of top-(k+1), as with one source.

The sums are monotone in every score in floating point too (weights are >= 0, the order of addition
is fixed, rounding is monotone), so the bound is computed by the same operations.

References
----------
Fagin, Lotem, Naor: Optimal aggregation algorithms for middleware, 2001, section 4 (the threshold
algorithm).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recengine._types import Candidates, Int64Array
from recengine.engine.filters import Filters
from recengine.engine.profiles import Profile
from recengine.engine.request import Request
from recengine.engine.retrieve import (
    Query,
    Ranking,
    best,
    nominate,
    rounded,
    scores_of,
)

_FIRST_DEPTH = 64
_GROWTH = 4


def fuse(
    queries: Sequence[Query],
    profiles: Sequence[Profile | None],
    k: int,
    filters: Filters,
    request: Request,
) -> Ranking:
    """Return the best k of each row by the weighted sum; each row is known to a source.

    Parameters
    ----------
    queries : sequence of Query
        Two or more; their rows are the profiles.
    """
    result = Ranking.empty(len(profiles), k)
    pending = np.arange(len(profiles))
    depth, everything = max(2 * k, _FIRST_DEPTH), _n_items(queries) + 1
    while k and len(pending):
        some = [profiles[row] for row in pending.tolist()]
        part = [Query(q.source, q.vectors[pending], q.known[pending]) for q in queries]
        lists, bounds = _nominees(part, some, min(depth, everything), filters, request)
        with request.stage("fuse") as counts:
            fused = _score(part, lists)
            counts["candidates"] = sum(len(row.ids) for row in fused)
            open_rows = []
            for place, (row, bound) in enumerate(zip(fused, bounds, strict=True)):
                kept = row.ids[:k]
                result.ordinals[pending[place], : len(kept)] = kept
                result.scores[pending[place], : len(kept)] = row.scores[:k]
                if bound is not None and not (len(kept) == k and row.scores[k - 1] > bound):
                    open_rows.append(place)
            counts["certified"] = len(pending) - len(open_rows)
        if request.partial:
            break
        pending = pending[open_rows]
        depth *= _GROWTH
    return result


def _nominees(
    queries: Sequence[Query],
    profiles: Sequence[Profile | None],
    depth: int,
    filters: Filters,
    request: Request,
) -> tuple[list[Candidates], list[np.float32 | None]]:
    """Return each row's nominees, and the most that any other item could score (None: no other)."""
    n_rows = len(profiles)
    found: list[list[tuple[Int64Array, int]]] = [[] for _ in range(n_rows)]
    bounds = np.zeros(n_rows)
    ended = np.ones(n_rows, np.bool_)
    n_items = _n_items(queries)
    for number, query in enumerate(queries):
        rows = np.flatnonzero(query.known).tolist()
        if not rows:
            continue
        known = Query(query.source, query.vectors[rows], query.known[rows])
        part = nominate(known, [profiles[row] for row in rows], depth, filters, request)
        n_found = (part.ordinals >= 0).sum(axis=1)
        for row, ordinals, n in zip(rows, part.ordinals, n_found, strict=True):
            found[row].append((ordinals[:n], number))
        more = n_found == depth
        ended[rows] &= ~more
        last = part.scores[:, -1].astype(np.float64)
        if len(query.source.index) < n_items:
            last = np.maximum(last, 0.0)  # an item that this source lacks adds 0
        bounds[rows] += np.where(more, query.source.weight * np.where(more, last, 0.0), 0.0)
    limits = rounded(bounds)
    return (
        [_first_nominations(lists) for lists in found],
        [None if ended[row] else limits[row] for row in range(n_rows)],
    )


def _n_items(queries: Sequence[Query]) -> int:
    """Return how many items the fullest source holds; one more is a depth that ends every list."""
    return max(len(query.source.index) for query in queries)


def _first_nominations(lists: list[tuple[Int64Array, int]]) -> Candidates:
    """Return the distinct nominees, ascending, each with the first source that named it."""
    ordinals = np.concatenate([part for part, _ in lists])
    numbers = np.concatenate([np.full(len(part), number) for part, number in lists])
    distinct, first = np.unique(ordinals, return_index=True)
    scores = np.full(len(distinct), -np.inf, np.float32)
    return Candidates(distinct, scores, numbers[first].astype(np.int64), distinct)


def _score(queries: Sequence[Query], nominees: list[Candidates]) -> list[Candidates]:
    """Score candidates by every source and order them, best first."""
    scores = scores_of(queries, [row.ordinals for row in nominees])
    ordered = []
    for row, values in zip(nominees, scores, strict=True):
        ordinals, kept = best(row.ordinals, values, len(values))
        source = row.source[np.searchsorted(row.ordinals, ordinals)]
        ordered.append(Candidates(ordinals, kept, source, ordinals))
    return ordered
