"""How one state becomes the next: an event, new items, removed items. Nothing is changed in place.

Each function takes a state and returns another that shares all that did not change, so a reader
of the old one never sees the new one half made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, IdArray, Int64Array, ItemId
from recengine._validation import as_matrix, refuse_set
from recengine.engine.attributes import Columns
from recengine.engine.predicted import with_predicted
from recengine.engine.profiles import EMPTY, Profile
from recengine.engine.sources import ModelSource
from recengine.engine.state import State


def observed(state: State, events: Iterable[tuple[ItemId, int, float]]) -> State:
    """Return the state after users chose items once more, in this order.

    Each event is (user, ordinal, weight); the weight is added to what the user already gave the
    item. Factors are solved anew, once for each user, where the model knows an item of theirs:
    O(factors² n + factors³) for a history of n. The rest is copies: histories, the parts of the
    1,024 of the observed users and the 4,096 counts that change.
    """
    profiles: dict[ItemId, Profile] = {}
    stale: dict[ItemId, None] = {}
    first: list[int] = []
    for user, ordinal, weight in events:
        before = profiles.get(user) or state.profiles.get(user) or EMPTY
        profiles[user] = before.having(ordinal, weight)
        if ordinal < state.profiles.n_modelled:
            stale[user] = None
        if not before.holds(ordinal):
            first.append(ordinal)
    for user in stale:
        profiles[user] = state.fold(profiles[user])
    popularity = state.popularity
    if first:
        popularity = replace(popularity, popularity=popularity.popularity.counted(first))
    return replace(state, profiles=state.profiles.having_all(profiles), popularity=popularity)


def with_items(state: State, ids: IdArray, vectors: Float32Array | None, columns: Columns) -> State:
    """Return the state with items added, or with new content and attributes for known ones.

    A removed item that is added again has its old ordinal, factors and users. A new one has factors
    where the model predicts them from content. O(n_items dim).
    """
    revived = (~state.catalogue.alive[: state.profiles.n_modelled]).any()
    catalogue, ordinals = state.catalogue.extended(ids, columns)
    popularity = replace(
        state.popularity,
        popularity=state.popularity.popularity.resized(len(catalogue.items), catalogue.removed),
    )
    content = state.content
    if content is not None and vectors is not None:
        content = content.having(len(catalogue.items), ordinals, vectors, catalogue.removed)
    factors, model, profiles = state.factors, state.model, state.profiles
    if factors is not None and model is not None and revived:
        gone = np.flatnonzero(~catalogue.alive[: factors.n_rows])
        factors = ModelSource.of(factors.weight, model.item_factors_, gone)
    if factors is not None and model is not None and content is not None:
        model = with_predicted(model, content.vectors)
        new = np.arange(profiles.n_modelled, len(model.item_factors_))
        if len(new):
            factors = factors.having(model.item_factors_, new, catalogue.removed)
            profiles = replace(profiles, n_modelled=len(model.item_factors_))
    return replace(
        state,
        catalogue=catalogue,
        profiles=profiles,
        popularity=popularity,
        content=content,
        factors=factors,
        model=model,
    )


def without_items(state: State, ordinals: Int64Array) -> State:
    """Return the state in which no answer holds these items.

    What users chose stays part of their taste; only answers change. O(n_items).
    """
    return replace(
        state,
        catalogue=state.catalogue.without(ordinals),
        popularity=state.popularity.without(ordinals),
        content=None if state.content is None else state.content.without(ordinals),
        factors=None if state.factors is None else state.factors.without(ordinals),
    )


def new_vectors(state: State, n: int, texts: Any, vectors: Any) -> NDArray[np.float32] | None:
    """Return the content vectors (n, dim) of added items; None in an engine without content."""
    given = [name for name, value in (("texts", texts), ("vectors", vectors)) if value is not None]
    if state.content is None:
        if given:
            raise ValueError(f"{given[0]} must be None: this engine was built without content")
        return None
    if len(given) != 1:
        raise ValueError(f"one of texts and vectors must be given, got {' and '.join(given) or 0}")
    if vectors is not None:
        return as_matrix("vectors", vectors, dim=state.content.vectors.shape[1], n_rows=n)
    return state.encoder.encode(_as_texts(texts, n))


def _as_texts(value: Any, n: int) -> list[str]:
    refuse_set("texts", value)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"texts must be a sequence of str, got {type(value).__name__}")
    texts = list(value)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"texts must be a sequence of str, got an entry {text!r}")
    if len(texts) != n:
        raise ValueError(f"texts must have one entry per id ({n}), got {len(texts)}")
    return texts
