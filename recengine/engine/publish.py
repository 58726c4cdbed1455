"""How items learn from events: solved aside, then published in one change of state.

`observe` keeps users up to date and notes which items it touched. To publish is to solve those
items anew against everybody's factors as they are, and then the users whose events touched them
against the new items. All of it is computed from one state while requests and events go on; what
happened meanwhile is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np

from recengine._types import Float32Array, Int64Array, ItemId
from recengine.engine.predicted import with_predicted
from recengine.engine.profiles import Profile, Profiles
from recengine.engine.sources import FactorModel, ModelSource
from recengine.engine.state import State


class OnlineModel(FactorModel, Protocol):
    """A model that solves items anew; `recengine.ALS` is one."""

    def with_users(self, user_indices: Any, factors: Any) -> OnlineModel:
        """Return another model, in which these users have these factors."""

    def partial_fit_items(self, item_indices: Any, columns: Any) -> Any:
        """Solve these items anew from all who had them."""

    def fold_in_rows(self, matrix: Any) -> Float32Array:
        """Return the users whom the rows of a matrix describe, with the bits of `fold_in`."""


@dataclass
class Pending:
    """What was observed since the last publication; the engine's writers alone touch it."""

    n_events: int = 0
    items: set[int] = field(default_factory=set)
    users: set[ItemId] = field(default_factory=set)

    def add(self, user: ItemId, ordinal: int) -> None:
        """Note one event."""
        self.n_events += 1
        self.items.add(ordinal)
        self.users.add(user)

    def joined(self, later: Pending) -> Pending:
        """Return both."""
        return Pending(
            self.n_events + later.n_events, self.items | later.items, self.users | later.users
        )


@dataclass(frozen=True)
class Publication:
    """New item factors, and what follows from them, computed from the state `before`."""

    before: State
    model: OnlineModel
    items: Int64Array
    factors: ModelSource
    profiles: dict[ItemId, tuple[Profile, Profile]]  # solved against the old items and the new


def refuse_unlearnable(name: str, model: FactorModel | None) -> None:
    """Refuse an engine whose items cannot be solved anew."""
    if model is None:
        raise ValueError(f"{name} needs a model: build the engine with model=")
    if not hasattr(model, "partial_fit_items"):
        raise ValueError(
            f"{name} needs a model that solves items anew, such as ALS, got {type(model).__name__}"
        )


def solved(state: State, pending: Pending) -> Publication | None:
    """Return what is to be published; None where no item has anything new.

    O(all events + observed users factors²) to find who had the items, and for each item of n users
    O(n factors² + factors³).
    """
    items = _items(state, pending)
    if not len(items):
        return None
    base, observed = state.profiles.base, _observed(state.profiles)
    ids = list(observed)
    rows = state.profiles.users.indices(ids, missing="mark")
    new = np.flatnonzero(rows < 0)
    rows[new] = len(base.indptr) - 1 + np.arange(len(new))
    table = np.zeros((len(rows), _model(state).item_factors_.shape[1]), np.float32)
    for row, profile in zip(table, observed.values(), strict=True):
        if profile.factors is not None:
            row[:] = profile.factors
    model = _model(state).with_users(rows, table)
    columns = _columns(state, items, rows, list(observed.values()), len(model.user_factors_))
    model.partial_fit_items(items, columns)
    assert state.factors is not None
    touched = {user: observed[user] for user in ids if user in pending.users}
    folded = _folded(model, list(touched.values()))
    return Publication(
        before=state,
        model=model,
        items=items,
        factors=state.factors.having(model.item_factors_, items, state.catalogue.removed),
        profiles=dict(zip(touched, zip(touched.values(), folded, strict=True), strict=True)),
    )


def published(state: State, made: Publication) -> State:
    """Return `state`, which may have followed `made.before`, with what was made of that one."""
    factors, model = made.factors, made.model
    if state.content is not None:
        model = with_predicted(model, state.content.vectors)  # of items that came meanwhile
    if state.factors is not None and state.factors is not made.before.factors:
        factors = state.factors.having(model.item_factors_, made.items, state.catalogue.removed)
    profiles = _knowing(state.profiles, model)
    after = replace(state, model=model, factors=factors, profiles=profiles)
    changed = {}
    for user, (before, solved_anew) in made.profiles.items():
        now = profiles.get(user)
        if now is not None:
            changed[user] = solved_anew if now is before else after.fold(now)
    return replace(after, profiles=profiles.having_all(changed))


def _folded(model: OnlineModel, profiles: list[Profile]) -> list[Profile]:
    """Return the profiles with their factors solved anew, by one call, as `State.fold` does."""
    from scipy.sparse import csr_array

    n_items = len(model.item_factors_)
    ends = [int(np.searchsorted(profile.seen, n_items)) for profile in profiles]
    pairs = list(zip(profiles, ends, strict=True))
    seen = [np.empty(0, np.int64), *(profile.seen[:end] for profile, end in pairs)]
    weights = [np.empty(0, np.float32), *(profile.weights[:end] for profile, end in pairs)]
    indptr = np.concatenate(([0], np.cumsum(ends, dtype=np.int64)))
    parts = np.concatenate(weights), np.concatenate(seen), indptr
    factors = model.fold_in_rows(csr_array(parts, shape=(len(profiles), n_items)))
    return [
        replace(profile, factors=row.copy() if row.any() else None)
        for profile, row in zip(profiles, factors, strict=True)
    ]


def _model(state: State) -> OnlineModel:
    return cast(OnlineModel, state.model)


def _knowing(profiles: Profiles, model: FactorModel) -> Profiles:
    return replace(profiles, n_modelled=len(model.item_factors_))


def _items(state: State, pending: Pending) -> Int64Array:
    """Return the ordinals to solve, ascending: what was touched, and what lacks factors so far.

    Behind the items of the model there are no gaps: a new item that nobody had stays 0.
    """
    n_known = state.profiles.n_modelled
    counts = state.popularity.popularity.counts
    new = n_known + np.flatnonzero(counts[n_known:] > 0)
    touched = np.union1d(np.fromiter(pending.items, np.int64, len(pending.items)), new)
    n_items = max(n_known, int(touched.max(initial=-1)) + 1)
    return np.union1d(touched, np.arange(n_known, n_items)).astype(np.int64, copy=False)


def _observed(profiles: Profiles) -> dict[ItemId, Profile]:
    return {user: profile for bucket in profiles.observed for user, profile in bucket.items()}


def _columns(
    state: State, items: Int64Array, rows: Int64Array, profiles: list[Profile], n_users: int
) -> Any:
    """Return who had each item, and how much: sparse (n_users, len(items)).

    `rows` are those of the observed `profiles`; everybody else is as in the base.
    """
    from scipy.sparse import csr_array

    base = state.profiles.base
    wanted = np.zeros(len(state.catalogue.items), np.bool_)
    wanted[items] = True
    hits = np.flatnonzero(wanted[base.indices])
    owners = np.searchsorted(base.indptr, hits, side="right") - 1
    is_old = np.zeros(n_users, np.bool_)
    is_old[rows] = True
    hits, owners = hits[~is_old[owners]], owners[~is_old[owners]]
    seen = np.concatenate([np.empty(0, np.int64), *(profile.seen for profile in profiles)])
    given = np.concatenate([np.empty(0, np.float32), *(profile.weights for profile in profiles)])
    lengths = [len(profile.seen) for profile in profiles]
    since = wanted[seen]
    chosen = np.concatenate((base.indices[hits], seen[since]))
    weights: Float32Array = np.concatenate((base.weights[hits], given[since]))
    people = np.concatenate((owners, np.repeat(rows, lengths)[since]))
    shape = (n_users, len(items))
    return csr_array((weights, (people, np.searchsorted(items, chosen))), shape=shape)
