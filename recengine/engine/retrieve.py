"""Retrieval: sources nominate, and where several are weighted, fusion decides between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import PADDING_ID, Float32Array, Int64Array, TopK
from recengine.engine.filters import Filters
from recengine.engine.profiles import EMPTY, Profile
from recengine.engine.request import Request
from recengine.engine.sources import Source
from recengine.retrieval import FlatIndex, search_interests


@dataclass(frozen=True, slots=True)
class Query:
    """One source and the users of a request as it sees them: (n, dim), or (n, m, dim)."""

    source: Source
    vectors: Float32Array
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best k of each row: ordinals and scores (n, k), padded with −1 and −inf."""

    ordinals: Int64Array
    scores: Float32Array

    @classmethod
    def empty(cls, n_rows: int, k: int) -> Ranking:
        """Return nothing but padding."""
        return cls(
            np.full((n_rows, k), PADDING_ID, np.int64), np.full((n_rows, k), -np.inf, np.float32)
        )

    def put(self, rows: Int64Array, part: Ranking) -> None:
        """Write the rankings of some rows."""
        self.ordinals[rows], self.scores[rows] = part.ordinals, part.scores


def describe(
    sources: Sequence[Source], profiles: Sequence[Profile | None], request: Request
) -> tuple[list[Query], NDArray[np.bool_]]:
    """Return (each source's view of the users, which users any source knows)."""
    with request.stage("users") as counts:
        queries = [Query(source, *source.user_vectors(profiles)) for source in sources]
        known = np.zeros(len(profiles), np.bool_)
        for query in queries:
            known |= query.known
        counts["users"], counts["known"] = len(profiles), int(known.sum())
    return queries, known


def nominate(
    query: Query,
    profiles: Sequence[Profile | None],
    k: int,
    filters: Filters,
    request: Request,
) -> Ranking:
    """Return the best k of one source for users that it knows, one row each."""
    source = query.source
    with request.stage(source.name) as counts:
        exclude = seen_rows(profiles, source.n_rows) if filters.exclude_seen else None
        found = search(source.index, query.vectors, k, exclude, filters, request)
        counts["queries"], counts["items"] = len(query.vectors), len(source.index)
        counts["excluded"] = 0 if exclude is None else len(exclude[1])
        counts["found"] = int((found.ordinals >= 0).sum())
    return found


def search(
    index: FlatIndex,
    vectors: Float32Array,
    k: int,
    exclude: tuple[Int64Array, Int64Array] | None,
    filters: Filters,
    request: Request,
) -> Ranking:
    """Search an index whose ids are ordinals, within the request's deadline.

    `vectors` are (n, dim), or (n, m, dim): m for each row, of which the best score counts.
    """
    ask = index.search if vectors.ndim == 2 else partial(search_interests, index)
    found: TopK = ask(
        vectors,
        k,
        exclude=exclude,
        allow=filters.allow,
        deny=filters.deny,
        filter=None if filters.prepared is None else filters.prepared.of(index),
        timeout=request.remaining(),
    )
    request.partial |= found.partial
    return Ranking(found.ids, found.scores)


def seen_rows(
    profiles: Sequence[Profile | None], n_rows: int
) -> tuple[Int64Array, Int64Array] | None:
    """Return the histories as CSR (indptr, ordinals), of ordinals below `n_rows` only."""
    lists = [(profile or EMPTY).seen for profile in profiles]
    lists = [seen[: np.searchsorted(seen, n_rows)] if len(seen) else seen for seen in lists]
    indptr = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(seen) for seen in lists], out=indptr[1:])
    return (indptr, np.concatenate(lists)) if indptr[-1] else None


def scores_of(queries: Sequence[Query], lists: Sequence[Int64Array]) -> list[Float32Array]:
    """Return the score of given items, row by row: −inf where no source can say anything.

    Parameters
    ----------
    queries : sequence of Query
        With one source the score is the source's own; with several it is the sum of weight times
        score in float64, rounded once. A source that does not hold an item adds nothing.
    lists : sequence of ndarray, int64
        Ordinals, ascending and distinct, one array per row.
    """
    weights = [query.source.weight for query in queries] if len(queries) > 1 else [1.0]
    totals = [np.zeros(len(items)) for items in lists]
    held = [np.zeros(len(items), np.bool_) for items in lists]
    for query, weight in zip(queries, weights, strict=True):
        rows = np.flatnonzero(query.known).tolist()
        if not rows:
            continue
        for row, places, scores in _scored(query, rows, lists):
            totals[row][places] += weight * scores.astype(np.float64)
            held[row][places] = True
    return [
        np.where(is_held, rounded(total), np.float32(-np.inf))
        for total, is_held in zip(totals, held, strict=True)
    ]


def _scored(
    query: Query, rows: list[int], lists: Sequence[Int64Array]
) -> Iterator[tuple[int, Int64Array, Float32Array]]:
    """Yield (row, places in its list of the items that the source holds, their scores)."""
    asked, wanted = query.vectors[rows], [lists[row] for row in rows]
    several = [asked] if asked.ndim == 2 else [asked[:, part] for part in range(asked.shape[1])]
    found = [query.source.index.rank(vectors, wanted) for vectors in several]
    for number, row in enumerate(rows):
        scores = np.full(len(lists[row]), -np.inf, np.float32)
        for part in found:
            ids = part.ids[number]
            places = np.searchsorted(lists[row], ids[ids >= 0])
            scores[places] = np.maximum(scores[places], part.scores[number][ids >= 0])
        held = np.flatnonzero(scores > -np.inf)
        yield row, held, scores[held]


def best(items: Int64Array, scores: Float32Array, k: int) -> tuple[Int64Array, Float32Array]:
    """Return the k best of ascending ordinals: score descending, then ordinal ascending."""
    order = np.argsort(-scores, kind="stable")[:k]
    order = order[scores[order] > -np.inf]
    return items[order], scores[order]


def rank(queries: Sequence[Query], items: Int64Array, k: int) -> Ranking:
    """Order given items (ordinals, ascending, distinct) for the one user of `queries`."""
    ranking = Ranking.empty(1, k)
    if len(items):
        ordinals, scores = best(items, scores_of(queries, [items])[0], k)
        ranking.ordinals[0, : len(ordinals)], ranking.scores[0, : len(ordinals)] = ordinals, scores
    return ranking


def rounded(totals: NDArray[Any]) -> Float32Array:
    """Return float64 sums as scores: saturated, without −0."""
    limit = float(np.finfo(np.float32).max)
    scores: Float32Array = np.clip(totals, -limit, limit).astype(np.float32) + np.float32(0)
    return scores
