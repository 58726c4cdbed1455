"""How well ratings are predicted: RMSE of `rec.SGD` over random folds, beside biases alone.

The biases are the shrunk means of Koren: Factor in the neighbors: scalable and accurate
collaborative filtering, 2010, section 2.1 (25 for items, 10 for users).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

import recengine as rec

FOLDS = 5
SHRUNK_ITEMS, SHRUNK_USERS = 25, 10


def folds(events: rec.Interactions, seed: int = 0) -> dict[str, Any]:
    """Return the RMSE of each fold's ratings, predicted from the other folds with defaults."""
    matrix = events.to_csr().tocoo()
    fold = np.random.default_rng(seed).permutation(matrix.nnz) % FOLDS
    by_fold, biases = [], []
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        users, items, ratings = (part[test] for part in (matrix.row, matrix.col, matrix.data))
        rest = csr_array(
            (matrix.data[train], (matrix.row[train], matrix.col[train])), shape=matrix.shape
        )
        model = rec.SGD(random_state=seed).fit(rest)
        by_fold.append(rmse(model.predict(users, items), ratings))
        biases.append(rmse(by_biases(rest, users, items), ratings))
    return {
        "rmse": float(np.mean(by_fold)),
        "by_fold": by_fold,
        "biases": float(np.mean(biases)),
        "folds": FOLDS,
        "settings": "defaults",
    }


def by_biases(matrix: csr_array, users: Any, items: Any) -> Any:
    """Return mean + b_u + b_i of the pairs given, each bias a shrunk mean of what is left."""
    entries = matrix.tocoo()
    n_users, n_items = matrix.shape
    mean = entries.data.mean(dtype=np.float64)
    left = entries.data - mean
    of_item = np.bincount(entries.col, left, n_items)
    of_item /= SHRUNK_ITEMS + np.bincount(entries.col, minlength=n_items)
    left = left - of_item[entries.col]
    of_user = np.bincount(entries.row, left, n_users)
    of_user /= SHRUNK_USERS + np.bincount(entries.row, minlength=n_users)
    return mean + of_user[users] + of_item[items]


def rmse(predicted: Any, actual: Any) -> float:
    """Return the root mean squared error."""
    return float(rec.metrics.rmse(predicted, actual))
