"""What is known of each user: the history they had at the build, and what was observed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array, ItemId
from recengine.data import IdMap

N_BUCKETS = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """One user, or one history; its arrays are never written to.

    Attributes
    ----------
    seen : ndarray (n,), int64
        Ordinals of the items in the history, ascending.
    weights : ndarray (n,), float32
        The strength of each.
    factors : ndarray (factors,), float32, or None
        The user in the model's space; None where the model knows none of the items.
    last : int
        Ordinal of the item chosen last; -1 where nobody needs it.
    """

    seen: Int64Array
    weights: Float32Array
    factors: Float32Array | None = None
    last: int = -1

    def having(self, ordinal: int, weight: float) -> Profile:
        """Return the profile with one more event, its `factors` as they were. O(n)."""
        place = int(np.searchsorted(self.seen, ordinal))
        if place < len(self.seen) and self.seen[place] == ordinal:
            weights = self.weights.copy()
            weights[place] = saturated(np.float64(weights[place]) + weight)
            return Profile(self.seen, weights, self.factors, ordinal)
        seen = np.empty(len(self.seen) + 1, np.int64)
        weights = np.empty(len(seen), np.float32)
        seen[:place], seen[place], seen[place + 1 :] = self.seen[:place], ordinal, self.seen[place:]
        weights[:place], weights[place + 1 :] = self.weights[:place], self.weights[place:]
        weights[place] = weight
        return Profile(seen, weights, self.factors, ordinal)

    def holds(self, ordinal: int) -> bool:
        """Tell whether the item is in the history. O(log n)."""
        place = int(np.searchsorted(self.seen, ordinal))
        return place < len(self.seen) and int(self.seen[place]) == ordinal


def saturated(weights: Any) -> Any:
    """Return float64 weights as float32, at most the largest finite one."""
    return np.minimum(weights, float(np.finfo(np.float32).max)).astype(np.float32)


EMPTY = Profile(np.empty(0, np.int64), np.empty(0, np.float32))


class Histories(NamedTuple):
    """All histories as the rows of a sparse matrix, and what else is known of each user.

    `last` is the ordinal of the item chosen last, -1 without any; None where nobody needs it.
    """

    indptr: NDArray[np.integer[Any]]
    indices: NDArray[np.integer[Any]]
    weights: Float32Array
    factors: Float32Array | None
    last: Int64Array | None = None


@dataclass(frozen=True)
class Profiles:
    """Everybody's profile.

    Attributes
    ----------
    users : IdMap
        The users of `base`, row by row.
    base : Histories
        What was known at the build; never written to.
    n_modelled : int
        Items with an ordinal below this have factors.
    observed : tuple of dict
        Profiles that replace or extend the base, in `N_BUCKETS` dicts by the hash of the user's
        id; an event copies one of them.
    """

    users: IdMap
    base: Histories
    n_modelled: int
    observed: tuple[dict[ItemId, Profile], ...] = field(default=({},) * N_BUCKETS, repr=False)

    @property
    def is_str(self) -> bool | None:
        """Whether ids are str; None while nobody is known."""
        if len(self.users):
            return self.users.is_str
        return next((isinstance(user, str) for part in self.observed for user in part), None)

    def get(self, user_id: ItemId) -> Profile | None:
        """Return the user's profile; None for a user without any event. O(1) and no copy."""
        profile = self.observed[hash(user_id) % N_BUCKETS].get(user_id)
        return profile if profile is not None else self._base_profile(self.users.index(user_id))

    def _base_profile(self, row: int) -> Profile | None:
        if row < 0:
            return None
        start, end = int(self.base.indptr[row]), int(self.base.indptr[row + 1])
        if start == end:
            return None
        seen = self.base.indices[start:end].astype(np.int64, copy=False)
        factors = None if self.base.factors is None else self.base.factors[row]
        if factors is not None and not (seen[0] < self.n_modelled and factors.any()):
            factors = None
        last = -1 if self.base.last is None else int(self.base.last[row])
        return Profile(seen, self.base.weights[start:end], factors, last)

    def having_all(self, changed: Mapping[ItemId, Profile]) -> Profiles:
        """Return the profiles with those of some users replaced.

        O(users observed / `N_BUCKETS`) for each.
        """
        observed = list(self.observed)
        for user_id, profile in changed.items():
            place = hash(user_id) % N_BUCKETS
            if observed[place] is self.observed[place]:
                observed[place] = dict(observed[place])
            observed[place][user_id] = profile
        return replace(self, observed=tuple(observed))

    def new_users(self) -> list[ItemId]:
        """Return the ids met since the build, in a reproducible order."""
        met = [user for bucket in self.observed for user in bucket if self.users.index(user) < 0]
        return sorted(met)

    def all_users(self) -> IdMap:
        """Return the users of the base, then those met since."""
        new = self.new_users()
        return self.users.extended(new) if new else self.users

    def merged(self) -> Profiles:
        """Return equal profiles without `observed`: all are rows of `base`. O(all events)."""
        if not any(self.observed):
            return self
        users = self.all_users()
        rows = [self.get(user) or EMPTY for user in users.ids.tolist()]
        lengths = np.array([len(row.seen) for row in rows], np.int64)
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        factors = None
        if self.base.factors is not None:
            factors = np.zeros((len(rows), self.base.factors.shape[1]), np.float32)
            factors[: len(self.users)] = self.base.factors
            for number, row in enumerate(rows):
                if row.factors is not None:
                    factors[number] = row.factors
        last = None
        if self.base.last is not None:
            last = np.array([row.last for row in rows], np.int64)
        base = Histories(
            indptr,
            np.concatenate([row.seen for row in rows]),
            np.concatenate([row.weights for row in rows]),
            factors,
            last,
        )
        return Profiles(users, base, self.n_modelled)
