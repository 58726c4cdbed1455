"""The last stage of a request: its ranker scores what retrieval found, anew and alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recengine._errors import DeadlineError
from recengine._types import Float32Array, Int64Array, ItemId
from recengine._validation import as_vector
from recengine.engine.attributes import align
from recengine.engine.ranker import Ranker
from recengine.engine.request import Request
from recengine.engine.retrieve import Ranking, best
from recengine.engine.state import State


def depth(state: State, k: int) -> int:
    """Return how many items retrieval has to find for an answer of k."""
    ranker = state.ranker.there()
    if ranker is None or k == 0:
        return k
    return max(k, min(ranker.n_candidates, len(state.catalogue.items)))


def reranked(
    state: State,
    found: Ranking,
    users: Sequence[ItemId | None],
    k: int,
    request: Request,
    *,
    context: Mapping[str, Any] | None = None,
) -> Ranking:
    """Return the best k of what was found, by the ranker; by retrieval itself without one.

    Parameters
    ----------
    state : State
    found : Ranking
        `depth` items of each row.
    users : sequence of id or None
        Whose rows they are; None for somebody without attributes.
    k : int
    request : Request
    context : mapping, optional
        What the request itself knows, beside its context.

    Notes
    -----
    Where the deadline passes, this row and those after it are answered by retrieval, with its
    scores, and the answer is partial.
    """
    ranker = state.ranker.there()
    if ranker is None:
        return found
    result, width = Ranking.empty(len(users), k), min(k, found.ordinals.shape[1])
    result.ordinals[:, :width] = found.ordinals[:, :width]
    result.scores[:, :width] = found.scores[:, :width]
    facts = {**(context or {}), **request.context}
    with request.stage("ranker") as counts:
        counts["candidates"] = int((found.ordinals >= 0).sum())
        counts["ranked"] = 0
        for row, user in enumerate(users):
            there = found.ordinals[row] >= 0
            ordinals, scores = found.ordinals[row][there], found.scores[row][there]
            try:
                order, values = scored(state, ranker, user, ordinals, scores, facts, request)
            except DeadlineError:
                request.partial = True
                break
            n_kept = min(k, len(order))  # as many as retrieval had: the rest is padding already
            result.ordinals[row, :n_kept], result.scores[row, :n_kept] = order[:k], values[:k]
            counts["ranked"] += len(ordinals)
    return result


def scored(
    state: State,
    ranker: Ranker,
    user: ItemId | None,
    ordinals: Int64Array,
    scores: Float32Array,
    context: Mapping[str, Any],
    request: Request,
) -> tuple[Int64Array, Float32Array]:
    """Return (ordinals, scores) of candidates by the ranker, best first, ties by ordinal."""
    if not len(ordinals):
        return ordinals, scores
    ascending = np.argsort(ordinals)
    items = ordinals[ascending]
    columns = state.catalogue.columns
    wanted = {name: columns[name] for name in ranker.columns.get("item", ())}
    about = state.user_attributes([user] if user is not None else None)
    values = ranker.score(
        align(wanted, items),
        user={name: about[name][0] for name in ranker.columns.get("user", ())},
        context=context,
        scores=scores[ascending],
        timeout=request.remaining(),
    )
    return best(items, as_vector("scores of the ranker", values, len(items)), len(items))
