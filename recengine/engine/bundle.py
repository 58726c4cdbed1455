"""An engine as one file: every array of its state, and what names them in the manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._validation import as_choice
from recengine.data import IdMap
from recengine.engine.build import source_weights
from recengine.engine.catalogue import Catalogue
from recengine.engine.encoder import Encoder, EncoderSlot
from recengine.engine.popularity import Popularity
from recengine.engine.profiles import Histories, Profiles
from recengine.engine.ranker import Ranker, RankerSlot
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
from recengine.storage import (
    Bundle,
    pack_columns,
    pack_ids,
    read_bundle,
    unpack_columns,
    unpack_ids,
    write_bundle,
)

KIND, SCHEMA = "engine", 1
MODELS = ("ALS", "BPR")
RANKER = {"class": str, "digest": str, "reference": dict | None}
ENCODER = RANKER | {"dim": int}
LOG = {"id": str, "sequence": int}
Arrays = dict[str, NDArray[Any]]


def save(path: str | os.PathLike[str], state: State) -> str:
    """Write the state and return the digest of the file's manifest.

    What was observed is merged into the users' rows.
    """
    profiles = state.profiles.merged()
    histories = profiles.base
    arrays: Arrays = {
        **pack_ids("items", state.catalogue.items.ids),
        "alive": state.catalogue.alive,
        **pack_columns("item_columns", state.catalogue.columns),
        **pack_ids("users", profiles.users.ids),
        **pack_columns("user_columns", state.user_columns),
        "history/indptr": histories.indptr,
        "history/indices": histories.indices,
        "history/weights": histories.weights,
        "popularity": state.popularity.popularity.counts,
    }
    meta: dict[str, Any] = {
        "weights": {source.name: source.weight for source in state.sources},
        "n_modelled": profiles.n_modelled,
        "encoder": state.encoder.reference,
        "ranker": state.ranker.reference,
        "model": None,
        "log": {"id": state.log, "sequence": state.sequence} if state.log else None,
    }
    if state.content is not None:
        arrays["content"], meta["pooling"] = state.content.vectors, state.content.pooling
    if histories.last is not None:
        arrays["history/last"] = histories.last
    if state.model is not None and histories.factors is not None:
        parts, described = state.model.state()
        parts = {**parts, "user_factors": histories.factors}
        arrays.update({f"model/{name}": part for name, part in parts.items()})
        meta["model"] = {"class": type(state.model).__name__, "state": described}
    write_bundle(path, arrays, meta, kind=KIND, schema=SCHEMA)
    return read_bundle(path, kind=KIND, schema=SCHEMA, verify=False).digest


def load(
    path: str | os.PathLike[str],
    encoder: Encoder | None = None,
    ranker: Ranker | None = None,
    *,
    digest: str = "",
) -> tuple[State, str]:
    """Return (the state a file holds, the digest of its manifest).

    Parameters
    ----------
    path : path-like
    encoder, ranker : optional
        Take the place of those that the file names.
    digest : str
        That of a file that was verified before: only its manifest is verified again.
    """
    bundle = read_bundle(path, kind=KIND, schema=SCHEMA, verify=not digest)
    if digest and bundle.digest != digest:
        raise BundleError(f"{os.fspath(path)} must have the digest {digest}, got {bundle.digest}")
    state = _checked(path, bundle)
    if encoder is not None:
        state = replace(state, encoder=state.encoder.given(encoder))
    if ranker is not None:
        state = replace(state, ranker=state.ranker.given(ranker))
    return state, bundle.digest


def _checked(path: str | os.PathLike[str], bundle: Bundle) -> State:
    try:
        return _state(bundle)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, BundleError):
            raise
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{os.fspath(path)} does not hold an engine: {reason}") from error


def _state(bundle: Bundle) -> State:
    arrays, meta = bundle.arrays, bundle.meta
    items, users = IdMap(unpack_ids("items", arrays)), IdMap(unpack_ids("users", arrays))
    alive = _shaped(arrays["alive"], (len(items),), np.bool_)
    removed = np.flatnonzero(~alive).astype(np.int64)
    counts = _shaped(arrays["popularity"], (len(items),), np.float32)
    model = _model(arrays, meta["model"])
    n_modelled = meta["n_modelled"]
    if n_modelled != (0 if model is None else len(model.item_factors_)):
        raise ValueError(f"n_modelled is {n_modelled!r}")
    factors = None if model is None else _factors(model, len(users), len(items))
    log = _reference("log", meta.get("log"), LOG) or {"id": "", "sequence": 0}
    if log["sequence"] < 0:
        raise ValueError(f"it holds {log['sequence']} records of its log")
    names = list(meta["weights"])
    expected = [MODEL] * (model is not None) + [CONTENT] * ("content" in arrays) + [POPULARITY]
    if names != expected:
        raise ValueError(f"its sources are {names}, its arrays those of {expected}")
    weights = source_weights(meta["weights"], names)
    content = None
    if "content" in arrays:
        vectors = arrays["content"]
        _shaped(vectors, (len(items), *vectors.shape[1:]), np.float32)
        pooling = as_choice("pooling", meta.get("pooling", "mean"), tuple(TASTES))
        content = ContentSource.of(weights[CONTENT], vectors, removed, pooling)
    source = None
    if model is not None:
        gone = removed[removed < n_modelled]
        source = ModelSource.of(weights[MODEL], model.item_factors_, gone)
    return State(
        catalogue=Catalogue(items, alive, _columns("item_columns", arrays, len(items))),
        profiles=Profiles(users, _histories(arrays, len(users), len(items), factors), n_modelled),
        popularity=PopularitySource(weights[POPULARITY], Popularity.of(counts, removed)),
        content=content,
        factors=source,
        model=model,
        user_columns=_columns("user_columns", arrays, None),
        encoder=EncoderSlot(_reference("encoder", meta["encoder"], ENCODER)),
        ranker=RankerSlot(_reference("ranker", meta.get("ranker"), RANKER)),
        log=log["id"],
        sequence=log["sequence"],
    )


def _model(arrays: Arrays, described: Any) -> FactorModel | None:
    if described is None:
        return None
    if described["class"] not in MODELS:
        raise ValueError(f"its model is of class {described['class']!r}")
    from recengine import factorization

    prefix = "model/"
    parts = {name[len(prefix) :]: part for name, part in arrays.items() if name.startswith(prefix)}
    model: FactorModel = getattr(factorization, described["class"]).from_state(
        parts, described["state"]
    )
    return model


def _factors(model: FactorModel, n_users: int, n_items: int) -> Any:
    if len(model.user_factors_) != n_users or len(model.item_factors_) > n_items:
        raise ValueError("its model does not fit its users and items")
    return model.user_factors_


def _histories(arrays: Arrays, n_users: int, n_items: int, factors: Any) -> Histories:
    indptr, indices = arrays["history/indptr"], arrays["history/indices"]
    weights = _shaped(arrays["history/weights"], indices.shape, np.float32)
    if indptr.shape != (n_users + 1,) or indptr.dtype.kind != "i" or indices.dtype.kind != "i":
        raise ValueError("its histories are not those of its users")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
        raise ValueError("its histories do not follow each other")
    if len(indices):
        if indices.min() < 0 or indices.max() >= n_items:
            raise ValueError("its histories hold other items")
        falls = np.flatnonzero(indices[1:] <= indices[:-1]) + 1
        if not np.isin(falls, indptr).all() or not (weights > 0).all():
            raise ValueError("its histories are out of order")
    last = arrays.get("history/last")
    if last is not None:
        _shaped(last, (n_users,), np.int64)
        if len(last) and (last.min() < -1 or last.max() >= n_items):
            raise ValueError("its last items are other items")
    return Histories(indptr, indices, weights, factors, last)


def _columns(name: str, arrays: Arrays, n_rows: int | None) -> Arrays:
    columns = unpack_columns(name, arrays)
    for column in columns.values():
        if n_rows is not None and len(column) != n_rows:
            raise ValueError(f"{name} has {len(column)} rows, not {n_rows}")
    return columns


def _reference(name: str, described: Any, kinds: Mapping[str, Any]) -> Any:
    if described is None:
        return None
    if not isinstance(described, dict) or described.keys() != kinds.keys():
        raise ValueError(f"its {name} is not described")
    for key, kind in kinds.items():
        if not isinstance(described[key], kind):
            raise ValueError(f"its {name}'s {key} is {described[key]!r}")
    return described


def _shaped(array: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"an array is {array.dtype}{array.shape}, not {np.dtype(dtype)}{shape}")
    return array
