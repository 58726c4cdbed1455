"""Whom `quality.py` ranks for: users with a history, and new ones with three events."""

from __future__ import annotations

from typing import Any

import numpy as np

import recengine as rec

K = 10
N_GIVEN = 3  # events that describe a cold user
METRICS = ("ndcg", "recall", "hit_rate")


def evaluate(
    scores: Any, seen: Any, users: Any, test: rec.Interactions, train: rec.Interactions
) -> rec.Evaluation:
    """Rank all items for `users` but the seen ones, against their events in `test`."""
    scores = np.array(scores, dtype=np.float32)
    scores[seen.nonzero()] = -np.inf
    found = rec.topk(scores, K)
    assert found.ids.min() >= 0, "fewer items are left than are asked for"
    result = rec.TopK(test.items.ids[found.ids], found.scores)
    return rec.evaluate(result, test, users=users, train=train, k=K, metrics=METRICS)


def known_users(model: Any, train: rec.Interactions, test: rec.Interactions) -> rec.Evaluation:
    """Evaluate the users who have events in both splits."""
    matrix = train.to_csr()
    rows = np.flatnonzero(np.diff(matrix.indptr))
    return evaluate(model.known(rows), matrix[rows], train.users.ids[rows], test, train)


def cold_split(train: rec.Interactions, test: rec.Interactions) -> tuple[Any, Any, Any]:
    """Return (rows of the cold users, their first events, their other events)."""
    cold = np.bincount(train.user_indices, minlength=train.n_users) == 0
    indptr, order = test.by_user()
    counts = np.diff(indptr)
    place = np.arange(len(order)) - np.repeat(indptr[:-1], counts)
    is_cold = np.repeat(cold, counts)
    rows = np.flatnonzero(cold & (counts > N_GIVEN))
    given, rest = is_cold & (place < N_GIVEN), is_cold & (place >= N_GIVEN)
    return rows, test.select(order[given]), test.select(order[rest])


def cold_users(model: Any, split: tuple[Any, Any, Any]) -> rec.Evaluation | None:
    """Evaluate users whom only their first events describe; None where the model cannot."""
    rows, given, rest = split
    seen = given.to_csr()[rows]
    in_order = hasattr(model, "histories")
    scores = model.histories(given, rows) if in_order else model.fold_in(seen)
    if scores is None:
        return None
    return evaluate(scores, seen, given.users.ids[rows], rest, given)


def mean_over_seeds(parts: list[rec.Evaluation]) -> rec.Evaluation:
    """Return the evaluation in which each user has the mean of their values."""
    first = parts[0]
    per_user = {
        metric: np.mean([part.per_user[metric] for part in parts], axis=0)
        for metric in first.per_user
    }
    return rec.Evaluation(
        k=first.k,
        users=first.users,
        per_user=per_user,
        n_relevant=first.n_relevant,
        warm=first.warm,
        catalogue=None,
    )
