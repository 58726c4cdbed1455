"""ALS written down once more, densely and in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def ridge(model: Any, n: int, n_other: int) -> float:
    """Return what is added to the diagonal of a row with n entries."""
    if model.objective == "implicit":
        return float(model.regularization)
    size = n + model.unobserved_weight * n_other
    return float(model.regularization * size**model.frequency_exponent)


def solve_row(model: Any, weights: Array, fixed: Array) -> Array:
    """Return the factors of one dense row of weights (0: not observed) against `fixed`."""
    fixed = np.asarray(fixed, np.float64)
    observed = np.flatnonzero(weights)
    if not len(observed):
        return np.zeros(fixed.shape[1])
    c = model.alpha * np.asarray(weights, np.float64)[observed]
    rows = fixed[observed]
    if model.objective == "implicit":
        system = fixed.T @ fixed + rows.T @ ((c - 1)[:, None] * rows)
    else:
        system = model.unobserved_weight * (fixed.T @ fixed) + rows.T @ (c[:, None] * rows)
    system += ridge(model, len(observed), len(fixed)) * np.eye(fixed.shape[1])
    return np.linalg.solve(system, rows.T @ c)


def fit(model: Any, dense: Array, users: Array, items: Array) -> tuple[Array, Array]:
    """Return (users, items) after the model's iterations from the given factors."""
    for _ in range(model.iterations):
        users = np.array([solve_row(model, row, items) for row in dense])
        items = np.array([solve_row(model, column, users) for column in dense.T])
    return users, items


def loss(model: Any, dense: Array, users: Array, items: Array) -> float:
    """Return the objective per unit of weight, pair by pair."""
    users, items = np.asarray(users, np.float64), np.asarray(items, np.float64)
    scores = users @ items.T
    observed = dense > 0
    c = model.alpha * dense.astype(np.float64)
    if model.objective == "implicit":
        weights = np.where(observed, c, 1.0)
        total = (weights * (observed - scores) ** 2).sum()
        weight = weights.sum()
    else:
        total = (c * (1 - scores) ** 2).sum() + model.unobserved_weight * (scores**2).sum()
        weight = c.sum() + model.unobserved_weight * scores.size
    for counts, n_other, factors in (
        (observed.sum(1), len(items), users),
        (observed.sum(0), len(users), items),
    ):
        ridges = [ridge(model, int(n), n_other) for n in counts]
        total += (np.array(ridges) * (factors**2).sum(1)).sum()
    return float(total / weight)
