"""People nobody has met: a list from three events, and a list that follows every further one.

    python examples/new_users.py

Trains on the first 80 % of time and takes a user who came later, of whom the model knows nothing.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np

import recengine as rec
from recengine.data import load_ml_100k

K = 5


def main() -> None:
    """Follow one new user through the first events."""
    events, films, _ = load_ml_100k()
    train, test = events.split_time(0.2)
    model = rec.ALS(factors=64, regularization=10.0, random_state=0).fit(train)
    engine = rec.Engine.build(train, model, items=films)

    newcomers = np.setdiff1d(test.user_indices, train.user_indices)
    user = int(events.users.ids[newcomers[0]])
    watched = test.history(user)  # in the order in which they were watched

    print(f"Nothing is known of user {user}: what is popular")
    show(engine, engine.recommend(user, k=K))

    print("\nThree events, and no state is kept: recommend_for(history)")
    for title in titles(engine, watched[:3]):
        print(f"      watched {title}")
    show(engine, engine.recommend_for(watched[:3], k=K))

    print("\nThe engine observes the same events one by one, and knows the user from then on")
    seconds = []
    for item in watched.tolist():
        start = time.perf_counter()
        engine.observe(user, item)
        seconds.append(time.perf_counter() - start)
    show(engine, engine.recommend(user, k=K))
    print(f"\n{len(seconds)} events, {1e6 * median(seconds):.0f} µs each (median)")


def titles(engine: rec.Engine, ids: np.ndarray) -> list[str]:
    """Return the titles of items."""
    return engine.item_attributes(ids)["title"].tolist()


def show(engine: rec.Engine, result: rec.TopK) -> None:
    """Print a list."""
    for title, score in zip(titles(engine, result.ids), result.scores, strict=True):
        print(f"{score:9.3f} {title}")


if __name__ == "__main__":
    main()
