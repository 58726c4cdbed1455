"""The requests: from one state and checked arguments to a `TopK` in the caller's ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recengine._errors import UnknownItemError
from recengine._types import Int64Array, TopK
from recengine._validation import as_choice, as_k
from recengine.engine.filters import Filters
from recengine.engine.fuse import fuse
from recengine.engine.identity import is_scalar
from recengine.engine.last_stage import depth, reranked
from recengine.engine.profiles import Profile
from recengine.engine.request import Request
from recengine.engine.retrieve import (
    Query,
    Ranking,
    describe,
    nominate,
    rank,
    search,
)
from recengine.engine.sources import Source
from recengine.engine.state import State, refuse_unknown

ON_UNKNOWN = ("popular", "raise")


def for_users(
    state: State, user_id: Any, k: Any, filters: Filters, on_unknown: Any, request: Request
) -> TopK:
    """Answer `Engine.recommend`."""
    as_choice("on_unknown", on_unknown, ON_UNKNOWN)
    single = is_scalar(user_id)
    users = [state.user(_item(user_id))] if single else state.users(user_id)
    profiles = [state.profiles.get(user) for user in users]
    queries, known = describe(state.weighted, profiles, request)
    if on_unknown == "raise":
        refuse_unknown(users, known)
    count = as_k(k, len(state.catalogue.items))
    deep = depth(state, count)
    found = _recommended(state, queries, known, profiles, deep, filters, request)
    ranking = reranked(state, found, users, count, request)
    return answer(state, ranking, request, single=single)


def for_profile(state: State, profile: Profile, k: Any, filters: Filters, request: Request) -> TopK:
    """Answer `Engine.recommend_for`."""
    queries, known = describe(state.weighted, [profile], request)
    count = as_k(k, len(state.catalogue.items))
    deep = depth(state, count)
    found = _recommended(state, queries, known, [profile], deep, filters, request)
    ranking = reranked(state, found, [None], count, request)
    return answer(state, ranking, request, single=True)


def _recommended(
    state: State,
    queries: Sequence[Query],
    known: Any,
    profiles: Sequence[Profile | None],
    k: int,
    filters: Filters,
    request: Request,
) -> Ranking:
    """Return the best k of everybody: from the weighted sources, or what is popular."""
    if known.all() and len(queries) == 1:
        return nominate(queries[0], profiles, k, filters, request)
    result = Ranking.empty(len(profiles), k)
    rows = np.flatnonzero(known)
    if len(rows):
        some = [profiles[row] for row in rows.tolist()]
        part = [Query(q.source, q.vectors[rows], q.known[rows]) for q in queries]
        one = len(queries) == 1
        ranked = nominate(part[0], some, k, filters, request) if one else None
        result.put(rows, ranked or fuse(part, some, k, filters, request))
    rest = np.flatnonzero(~known)
    if len(rest):
        others = [profiles[row] for row in rest.tolist()]
        result.put(rest, nominate(_popular(state, len(rest)), others, k, filters, request))
    return result


def _popular(state: State, n_rows: int) -> Query:
    """Return what stands in for the sources where none knows the user."""
    ones = np.ones((n_rows, 1), np.float32)
    return Query(state.popularity, ones, np.ones(n_rows, np.bool_))


def for_candidates(
    state: State, user_id: Any, candidate_ids: Any, k: Any, on_unknown: Any, request: Request
) -> TopK:
    """Answer `Engine.rank`."""
    as_choice("on_unknown", on_unknown, ON_UNKNOWN)
    user = state.user(user_id)
    ordinals = state.catalogue.ordinals("candidate_ids", candidate_ids, ordered=False)
    most = max(len(ordinals), len(state.catalogue.items))
    count = len(ordinals) if k is None else as_k(k, most)
    queries, known = describe(state.weighted, [state.profiles.get(user)], request)
    if on_unknown == "raise":
        refuse_unknown([user], known)
    if not known[0]:
        queries = [_popular(state, 1)]
    request.check("ranking")
    with request.stage("rank") as counts:
        items = np.unique(ordinals[ordinals >= 0])
        counts["candidates"], counts["items"] = len(ordinals), len(items)
        found = rank(queries, items, count if state.ranker.reference is None else len(items))
    ranking = reranked(state, found, [user], count, request)
    request.check_whole("the ranker")
    return answer(state, ranking, request, single=True)


def for_text(state: State, text: Any, k: Any, filters: Filters, request: Request) -> TopK:
    """Answer `Engine.search`."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    count = as_k(k, len(state.catalogue.items))
    if state.content is None:
        raise ValueError("search needs content: build the engine with content= and encoder=")
    with request.stage("encode") as counts:
        query = state.encoder.encode_query(text, request.remaining())
        counts["characters"] = len(text)
    request.check("the search")
    with request.stage(state.content.name) as counts:
        deep = depth(state, count)
        found = search(state.content.index, query, deep, None, filters, request)
        counts["queries"], counts["items"] = 1, len(state.content.index)
    ranking = reranked(state, found, [None], count, request, context={"query": text})
    return answer(state, ranking, request, single=True)


def for_items(
    state: State, item_id: Any, k: Any, source: Any, filters: Filters, request: Request
) -> TopK:
    """Answer `Engine.similar_items`."""
    count = as_k(k, len(state.catalogue.items))
    single = is_scalar(item_id)
    if single:
        ordinals = np.array([state.catalogue.ordinal("item_id", _item(item_id))], np.int64)
    else:
        ordinals = state.catalogue.known_ordinals("item_id", item_id)
    result = Ranking.empty(len(ordinals), count)
    left = np.ones(len(ordinals), np.bool_)
    for candidate in _describing(state, source):
        index = candidate.similar
        if index is None:
            continue
        rows = np.flatnonzero(left & (index.ordinals(ordinals) >= 0))
        if not len(rows):
            continue
        left[rows] = False
        with request.stage(candidate.name) as counts:
            vectors = np.stack([index[int(ordinal)] for ordinal in ordinals[rows]])
            itself = (np.arange(len(rows) + 1), ordinals[rows])
            result.put(rows, search(index, vectors, count, itself, filters, request))
            counts["queries"], counts["items"] = len(rows), len(index)
    if left.any():
        lost = state.catalogue.ids_of(ordinals[left]).tolist()[0]
        raise UnknownItemError(
            f"item_id must have a vector in {_names(state, source)}, got {lost!r}"
        )
    return answer(state, result, request, single=single)


def _describing(state: State, source: Any) -> list[Source]:
    """Return the sources in which items have vectors, the heaviest first, or the one asked for."""
    vectored = [one for one in state.sources if one.similar is not None]
    if source is None:
        return sorted(vectored, key=lambda one: -one.weight)
    as_choice("source", source, [one.name for one in vectored])
    return [one for one in vectored if one.name == source]


def _names(state: State, source: Any) -> str:
    return " or ".join(one.name for one in _describing(state, source)) or "a model or content"


def answer(state: State, ranking: Ranking, request: Request, *, single: bool) -> TopK:
    """Return a ranking in the caller's ids: 1-D for a single request."""
    ids = state.catalogue.ids_of(ranking.ordinals)
    ordinals: Int64Array = ranking.ordinals
    scores = ranking.scores
    if single:
        ids, ordinals, scores = ids[0], ordinals[0], scores[0]
    return TopK(ids, scores, ordinals=ordinals, partial=request.partial, trace=request.trace())


def _item(value: Any) -> Any:
    """Return the id in a 0-d array, anything else as it is."""
    return value.item() if isinstance(value, np.ndarray) else value
