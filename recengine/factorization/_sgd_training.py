"""The epochs of SGD, and when to stop them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.factorization._biased import curve, starting_factors
from recengine.factorization._grid import Grid, padded
from recengine.factorization._likes import Likes
from recengine.factorization._workers import Workers

_PAIRS = 2**14  # predicted at a time


@dataclass(frozen=True)
class Descent:
    """How one fit of SGD steps; `patience` epochs without a better held-out RMSE end it."""

    learning_rate: float
    regularization: float
    iterations: int
    patience: int


@dataclass(frozen=True)
class Factors:
    """What is trained, float32: (n_users, dim), (n_items, dim), (n_users,), (n_items,)."""

    users: Float32Array
    items: Float32Array
    user_biases: Float32Array
    item_biases: Float32Array

    def copy(self) -> Factors:
        """Return factors of one's own."""
        return Factors(*(getattr(self, field.name).copy() for field in fields(self)))

    def is_finite(self) -> bool:
        """Tell whether every number is."""
        return all(np.isfinite(getattr(self, field.name)).all() for field in fields(self))


@dataclass(frozen=True)
class Held:
    """Ratings that are not trained on."""

    users: Int64Array
    items: Int64Array
    ratings: Float32Array

    def rmse(self, factors: Factors) -> float:
        """Return the root of the mean squared error of `factors`, in float64."""
        error = self.ratings - predicted(factors, self.users, self.items)
        return float(np.sqrt(np.mean(error * error)))


def predicted(factors: Factors, users: Int64Array, items: Int64Array) -> Float64Array:
    """Return what `factors` say of pairs, above the mean, (n,) float64; O(n dim)."""
    result: Float64Array = factors.user_biases[users].astype(np.float64)
    result += factors.item_biases[items]
    for first in range(0, len(users), _PAIRS):
        part = slice(first, first + _PAIRS)
        x, y = factors.users[users[part]], factors.items[items[part]]
        result[part] += np.einsum("ij,ij->i", x, y, dtype=np.float64)
    return result


def centred(
    ratings: Likes, fraction: float, generator: np.random.Generator
) -> tuple[float, Likes, Held | None]:
    """Return (mean, ratings to train on less the mean, held-out ones or None, less the mean).

    Each rating is held out by chance; the mean is that of the others.

    Raises
    ------
    ValueError
        One of the two parts would be empty.
    """
    kept, held = split(ratings, fraction, generator)
    values = kept.confidences
    mean = float(values.mean(dtype=np.float64)) if len(values) else 0.0
    kept = replace(kept, confidences=(values - mean).astype(np.float32))
    if held is not None:
        held = replace(held, ratings=(held.ratings - mean).astype(np.float32))
    return mean, kept, held


def begin(ratings: Likes, factors: int, init: Any, generator: np.random.Generator) -> Factors:
    """Return the factors to start from: zeros where there are no ratings."""
    users, items, biases = starting_factors(ratings.shape, factors, init, generator)
    unrated = np.bincount(ratings.indices, minlength=len(items)) == 0
    users[ratings.counts == 0] = 0
    items[unrated], biases[unrated] = 0, 0
    return Factors(users, items, np.zeros(len(users), np.float32), biases)


def split(
    ratings: Likes, fraction: float, generator: np.random.Generator
) -> tuple[Likes, Held | None]:
    """Return (ratings to train on, held-out ones or None)."""
    if fraction == 0:
        return ratings, None
    held: NDArray[np.bool_] = generator.random(len(ratings.indices)) < fraction
    if not held.any() or held.all():
        raise ValueError(
            f"validation_fraction must hold out some of the {len(held)} ratings and leave some, "
            f"got {fraction:g}"
        )
    rows = np.repeat(np.arange(ratings.shape[0]), ratings.counts)
    indptr = np.concatenate([[0], np.cumsum(~held)])[ratings.indptr]
    kept = replace(
        ratings,
        indptr=indptr.astype(np.int64),
        indices=ratings.indices[~held],
        confidences=ratings.confidences[~held],
    )
    items = ratings.indices[held].astype(np.int64)
    return kept, Held(rows[held], items, ratings.confidences[held])


def train(
    descent: Descent,
    ratings: Likes,
    held: Held | None,
    factors: Factors,
    generator: np.random.Generator,
    num_threads: int,
    team: Workers,
    watch: Callable[[int, float], bool],
) -> tuple[Factors, Float64Array]:
    """Return (trained factors, RMSE of each epoch).

    That is of the held-out ratings after it; without any, of its ratings, each before its step.
    With held-out ratings the factors are those of the best epoch.

    Raises
    ------
    ValueError
        The factors are not finite after an epoch.
    """
    dim = factors.users.shape[1]
    inner = replace(factors, users=padded(factors.users), items=padded(factors.items))
    best, grid, rmses = inner, Grid(ratings, num_threads), []
    for epoch in range(descent.iterations if len(ratings.indices) else 0):
        grid.deal(generator, team)
        rmse = _sweep(descent, grid, inner, team)
        if not inner.is_finite():
            raise ValueError(
                "learning_rate must be small enough that factors stay finite, got "
                f"{descent.learning_rate:g}: they overflow in epoch {epoch + 1}"
            )
        rmses.append(rmse if held is None else held.rmse(inner))
        if held is not None and rmses[-1] == min(rmses):
            best = inner.copy()
        if watch(epoch + 1, rmses[-1]):
            break
        if held is not None and epoch - int(np.argmin(rmses)) >= descent.patience:
            break
    trained = replace(best, users=best.users[:, :dim], items=best.items[:, :dim])
    return trained, curve("rmses", rmses)


def _sweep(descent: Descent, grid: Grid, factors: Factors, team: Workers) -> float:
    from recengine.factorization import _sgd_kernels as kernels

    rate = np.float32(descent.learning_rate)
    decay = np.float32(1 - descent.learning_rate * descent.regularization)
    sums = np.zeros((grid.n_blocks, grid.n_blocks))

    def go(turn: int, start: int, stop: int) -> None:
        kernels.descend(
            grid.cells,
            grid.users,
            grid.places,
            grid.values,
            grid.members,
            grid.bounds,
            rate,
            decay,
            factors.users,
            factors.items,
            factors.user_biases,
            factors.item_biases,
            sums,
            turn,
            start,
            stop,
        )

    grid.sweep(go, team)
    return float(np.sqrt(sums.sum() / len(grid.users)))
