"""What the factorization benchmark factorizes: MovieLens 100K, or events made up at any size.

`synthetic:USERS,ITEMS,NNZ` has what real histories have: users of log-normal activity, items whose
popularity falls with their rank, and tastes: items belong to groups, a user likes a few of them.
Weights are 1 to 5. The same text and seed give the same matrix; it is kept in the temporary
folder of the system, since making ten millions of events takes seconds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, load_npz, save_npz

KINDS = "ml-100k|synthetic:USERS,ITEMS,NNZ"
VERSION = 1  # of what `synthetic` makes: another number where it makes something else
GROUPS = 40
TASTES = 3  # groups that a user likes
ANY_GROUP = 0.15  # of the events are of no taste
POPULARITY = 1.2  # weight of the item at rank r of its group: (r + 5) ** -POPULARITY
RATINGS = (0.1, 0.1, 0.2, 0.35, 0.25)  # shares of the weights 1 to 5
ACTIVITY = 1.1  # deviation of the logarithm of a user's activity


def parse(text: str) -> tuple[int, int, int] | None:
    """Return (users, items, entries), None for ml-100k; refuse what is neither."""
    if text == "ml-100k":
        return None
    kind, _, sizes = text.partition(":")
    numbers = sizes.split(",")
    if kind != "synthetic" or len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
        raise ValueError(f"--dataset must be {KINDS}, got {text}")
    users, items, entries = map(int, numbers)
    if not (min(users, items) >= GROUPS and 1 <= entries <= users * items // 4):
        raise ValueError(
            f"--dataset must have >= {GROUPS} users and items, at most a quarter of all pairs "
            f"as entries, got {text}"
        )
    return users, items, entries


def load(text: str, seed: int = 0, folder: str | None = None) -> csr_array:
    """Return the user x item matrix that `text` names, canonical CSR of float32."""
    shape = parse(text)
    if shape is None:
        from recengine.data import load_ml_100k

        return load_ml_100k(folder).interactions.to_csr()
    kept = Path(tempfile.gettempdir(), "recengine-benchmarks")
    path = kept / f"synthetic-{'-'.join(map(str, shape))}-{seed}-v{VERSION}.npz"
    if not path.exists():
        kept.mkdir(exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}.npz")
        save_npz(own, synthetic(*shape, seed), compressed=False)
        own.replace(path)
    return csr_array(load_npz(path))


def synthetic(n_users: int, n_items: int, n_entries: int, seed: int) -> csr_array:
    """Return a matrix of exactly `n_entries` entries."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(sigma=ACTIVITY, size=n_users)
    draw = Items(rng, n_items)
    tastes = rng.integers(0, GROUPS, (n_users, TASTES))
    keys = np.empty(0, np.int64)
    while len(keys) < n_entries:
        n = int(1.3 * (n_entries - len(keys))) + 1000
        users = np.repeat(np.arange(n_users), rng.multinomial(n, activity / activity.sum()))
        groups = tastes[users, np.minimum(rng.geometric(0.5, n) - 1, TASTES - 1)]
        keys = np.sort(np.concatenate([keys, users * n_items + draw(rng, groups)]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
    if surplus := len(keys) - n_entries:
        keys = np.delete(keys, rng.choice(len(keys), surplus, replace=False))
    weights = rng.choice(
        np.arange(1, 6, dtype=np.float32), n_entries, p=(0.1, 0.1, 0.2, 0.35, 0.25)
    )
    indptr = np.searchsorted(keys, np.arange(n_users + 1) * n_items)
    indices = (keys % n_items).astype(np.int32)
    return csr_array((weights, indices, indptr.astype(np.int32)), shape=(n_users, n_items))


class Items:
    """Draws an item of each group given, popular ones more often, and sometimes of any group."""

    def __init__(self, rng: np.random.Generator, n_items: int) -> None:
        group = np.arange(n_items) % GROUPS
        weights = (np.arange(n_items) // GROUPS + 5.0) ** -POPULARITY
        weights *= rng.lognormal(sigma=0.5, size=GROUPS)[group]  # groups differ in popularity
        by_group = np.argsort(group, kind="stable")
        self._ids = rng.permutation(n_items)[by_group]  # no order in an item's number
        self._upper = np.cumsum(weights[by_group])
        ends = np.searchsorted(group[by_group], np.arange(GROUPS), side="right") - 1
        self._ends = np.concatenate([[0.0], self._upper[ends]])

    def __call__(self, rng: np.random.Generator, groups: Any) -> Any:
        low, high = self._ends[groups], self._ends[groups + 1]
        anywhere = rng.random(len(groups)) < ANY_GROUP
        low[anywhere], high[anywhere] = 0.0, self._ends[-1]
        at = low + (high - low) * rng.random(len(groups))
        place = np.searchsorted(self._upper, at, side="right")
        return self._ids[np.minimum(place, len(self._ids) - 1)]
