"""Real factors: ALS on a made-up shop, 200,000 items of Zipf popularity and a latent structure.

Each item belongs to one of 400 topics and has a rank in it; each user likes six topics, each with
a weight of its own, and follows the hits of the whole shop now and then. An event draws a topic of
the user's, then an item of the topic with probability ~ 1 / (rank + 3) (Zipf). Everything is drawn
from one seed. The factors are kept in the user cache, under a name that holds what made them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

N_ITEMS = 200_000
DIM = 64
SEED = 20
TOPICS_OF_A_USER = 6
OFFSET = 100.0  # of Zipf's law: how flat the head is
HITS = 0.1  # share of events that follow the whole shop, not the user's topics
EVENTS_PER_USER = 50
USERS_PER_ITEM = 0.25
ALS = {"regularization": 1.0, "alpha": 20.0, "iterations": 6}


class Factors(NamedTuple):
    users: Any  # (n_users, dim) float32
    items: Any  # (n_items, dim) float32


def events(n_items: int, seed: int) -> tuple[Any, Any, int]:
    """Return (user of each event, item of each event, n_users); a pair may come twice."""
    rng = np.random.default_rng(seed)
    n_topics, n_users = max(4, n_items // 500), max(64, int(n_items * USERS_PER_ITEM))
    topic = rng.integers(n_topics, size=n_items)
    by_topic = np.argsort(topic, kind="stable")
    sizes = np.bincount(topic, minlength=n_topics)
    begins = np.concatenate([[0], np.cumsum(sizes)])
    rank = np.arange(n_items) - np.repeat(begins[:-1], sizes)
    mass = np.concatenate([[0], np.cumsum(1 / (rank + OFFSET))])
    n_events = n_users * EVENTS_PER_USER
    user = np.repeat(np.arange(n_users), EVENTS_PER_USER)
    likes = rng.integers(n_topics, size=(n_users, TOPICS_OF_A_USER))
    weights = np.cumsum(rng.dirichlet(np.full(TOPICS_OF_A_USER, 0.7), n_users), axis=1)
    chosen = (rng.random(n_events)[:, None] > weights[user, :-1]).sum(axis=1)
    where = likes[user, chosen]
    low, high = mass[begins[where]], mass[begins[where + 1]]
    hits = rng.random(n_events) < HITS
    low, high = np.where(hits, 0, low), np.where(hits, mass[-1], high)
    place = np.searchsorted(mass, low + rng.random(n_events) * (high - low), side="right") - 1
    return user, by_topic[np.minimum(place, n_items - 1)], n_users


def train(n_items: int, dim: int, seed: int) -> Factors:
    """Return the factors of one training; items that nobody chose have zero vectors."""
    from scipy.sparse import coo_array

    import recengine as rec

    user, item, n_users = events(n_items, seed)
    ones = np.ones(len(user), np.float32)
    matrix = coo_array((ones, (user, item)), shape=(n_users, n_items)).tocsr()
    model = rec.ALS(factors=dim, random_state=seed, **ALS).fit(matrix)
    return Factors(model.user_factors_, model.item_factors_)


def factors(n_items: int = N_ITEMS, dim: int = DIM, seed: int = SEED) -> Factors:
    """Return the catalogue's factors, from the cache or trained now (a minute or two)."""
    import recengine as rec
    from recengine.data import cache_dir

    recipe = Path(__file__).read_bytes() + repr((n_items, dim, seed, rec.__version__)).encode()
    stem = f"catalogue-{n_items}x{dim}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    folder = cache_dir() / "benchmarks"
    paths = [folder / f"{stem}-{part}.npy" for part in Factors._fields]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, table in zip(paths, train(n_items, dim, seed), strict=True):
            aside = path.with_suffix(".part")
            with aside.open("wb") as file:
                np.save(file, table)
            aside.replace(path)
    return Factors(*(np.load(path) for path in paths))
