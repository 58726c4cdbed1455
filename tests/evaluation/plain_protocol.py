"""The protocol and the metrics once more, with Python sets and lists, one user at a time."""

import math

NAMES = ("precision", "recall", "f1", "ndcg", "map", "mrr", "hit_rate")


def figures_of_user(ranked, relevant, k):
    """Return metric → value for one list of ids (without padding) and one set of ids."""
    hits = [item in relevant for item in ranked[:k]]
    n_hits = sum(hits)
    p, r = n_hits / k, n_hits / len(relevant)
    gained = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
    at_hits = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    return {
        "precision": p,
        "recall": r,
        "f1": 2 * p * r / (p + r) if n_hits else 0.0,
        "ndcg": gained / best,
        "map": sum(at_hits) / len(relevant),
        "mrr": 1 / (hits.index(True) + 1) if n_hits else 0.0,
        "hit_rate": float(n_hits > 0),
    }


def figures_of_users(lists, events, k, seen=()):
    """Return user → metric → value.

    lists: user → ranked ids; events: (user, item, weight) rows; seen: (user, item) pairs.
    """
    relevant = {}
    for user, item, weight in events:
        if weight > 0 and (user, item) not in seen:
            relevant.setdefault(user, set()).add(item)
    return {
        user: figures_of_user(ranked, relevant[user], k)
        for user, ranked in lists.items()
        if user in relevant
    }
