"""The first state of an engine, from interactions, a model and content."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_choice, as_matrix, as_real
from recengine.data import IdMap, Interactions
from recengine.engine.attributes import Columns, read_columns
from recengine.engine.catalogue import Catalogue
from recengine.engine.encoder import Encoder, EncoderSlot
from recengine.engine.popularity import Popularity
from recengine.engine.profiles import Histories, Profiles
from recengine.engine.ranker import Ranker, RankerSlot, check_columns
from recengine.engine.sources import (
    CONTENT,
    MODEL,
    POPULARITY,
    ContentSource,
    FactorModel,
    ModelSource,
    PopularitySource,
)
from recengine.engine.state import State
from recengine.engine.tastes import TASTES

NOBODY = np.empty(0, np.int64)


def first_state(
    inter: Interactions,
    model: FactorModel | None,
    content: Any,
    encoder: Encoder | None,
    users: Any,
    items: Any,
    weights: Mapping[str, float] | None,
    ranker: Ranker | None,
    pooling: str,
) -> State:
    """Return the state that `Engine.build` documents."""
    if not isinstance(inter, Interactions):
        raise TypeError(f"inter must be an Interactions, got {type(inter).__name__}")
    vectors = None if content is None else _content(content, len(inter.items))
    if encoder is not None and vectors is None:
        raise ValueError(
            "content must be given with an encoder: encoder.encode(texts) in the order of "
            "inter.items.ids"
        )
    as_choice("pooling", pooling, tuple(TASTES))
    if pooling != "mean" and vectors is None:
        raise ValueError(f"pooling must go with content, got {pooling!r} and no content")
    model = None if model is None else _model(model, inter)
    histories = _histories(inter, None if model is None else model.user_factors_)
    if pooling == "attention":
        histories = histories._replace(last=_last_items(inter))
    names = [MODEL] * (model is not None) + [CONTENT] * (vectors is not None) + [POPULARITY]
    shares = source_weights(weights, names)
    counts = np.bincount(histories.indices, minlength=len(inter.items)).astype(np.float32)
    dim = 0 if vectors is None else vectors.shape[1]
    item_columns = _columns("items", items, "item_id", inter.items)
    user_columns = _columns("users", users, "user_id", inter.users)
    last = RankerSlot() if ranker is None else RankerSlot.of(ranker)
    check_columns(last, item_columns, user_columns)
    return State(
        catalogue=Catalogue(
            inter.items,
            np.ones(len(inter.items), np.bool_),
            item_columns,
        ),
        profiles=Profiles(inter.users, histories, 0 if model is None else len(inter.items)),
        popularity=PopularitySource(shares[POPULARITY], Popularity.of(counts, NOBODY)),
        content=None
        if vectors is None
        else ContentSource.of(shares[CONTENT], vectors, NOBODY, pooling),
        factors=None
        if model is None
        else ModelSource.of(shares[MODEL], model.item_factors_, NOBODY),
        model=model,
        user_columns=user_columns,
        encoder=EncoderSlot() if encoder is None else EncoderSlot.of(encoder, dim),
        ranker=last,
    )


def source_weights(weights: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    """Return the weight of each source: the first one alone, unless `weights` says otherwise."""
    if weights is None:
        return {name: float(name == names[0]) for name in names}
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a mapping, got {type(weights).__name__}")
    for name in weights:
        if name not in names:
            raise ValueError(f"weights must name sources among {names}, got {name!r}")
    shares = {
        name: as_real(f"weights[{name!r}]", weights.get(name, 0), minimum=0) for name in names
    }
    if not any(shares.values()):
        raise ValueError(f"weights must have one above 0, got {dict(weights)}")
    return shares


def _content(content: Any, n_items: int) -> Float32Array:
    """Return content as read-only float32: the caller's memory only if it is read-only too."""
    vectors = as_matrix("content", content, n_rows=n_items)
    if vectors.flags.writeable:
        vectors = vectors.copy() if np.may_share_memory(vectors, content) else vectors
        vectors.flags.writeable = False
    return vectors


def _model(model: FactorModel, inter: Interactions) -> FactorModel:
    """Return a model of one's own, so that a later `fit` of the caller's changes nothing here."""
    if not hasattr(model, "fold_in") or hasattr(model, "predict_for"):  # weights are no ratings
        raise TypeError(f"model must be a fitted ALS or BPR, got {type(model).__name__}")
    for name, factors, ids in (
        ("user_factors_", model.user_factors_, inter.users),
        ("item_factors_", model.item_factors_, inter.items),
    ):
        if len(factors) != len(ids):
            raise ValueError(
                f"model.{name} must have a row for each of the {len(ids)} ids of inter, "
                f"got {len(factors)}: fit the model on these interactions or on a split of them"
            )
    return copy.copy(model)


def _histories(inter: Interactions, factors: Float32Array | None) -> Histories:
    matrix = inter.to_csr()
    if not (matrix.data != 0).all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    if len(matrix.data) and matrix.data.min() < 0:
        raise ValueError(f"inter must hold weights >= 0, got {matrix.data.min()}")
    return Histories(
        matrix.indptr, matrix.indices, matrix.data.astype(np.float32, copy=False), factors
    )


def _last_items(inter: Interactions) -> Int64Array:
    """Return each user's newest item of a weight above 0; -1 without any."""
    indptr, order = inter.by_user()
    owners = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    counts = inter.weights[order] > 0
    last = np.full(len(indptr) - 1, -1, np.int64)
    last[owners[counts]] = inter.item_indices[order[counts]]  # of several the newest, the last
    return last


def _columns(name: str, frame: Any, key: str, ids: IdMap) -> Columns:
    return {} if frame is None else read_columns(name, frame, key, ids.ids)
