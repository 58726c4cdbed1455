"""The epochs of BPR: what is dealt, drawn, ranked, swept and watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recengine._types import Float32Array, Float64Array, Int32Array
from recengine.factorization._biased import curve
from recengine.factorization._grid import Grid, padded
from recengine.factorization._likes import Likes
from recengine.factorization._workers import Workers

NEGATIVES = ("uniform", "adaptive")
RANK_SHARE = 0.1  # mean rank of an adaptive negative, as a share of the items ranked


@dataclass(frozen=True)
class Descent:
    """How one fit of BPR steps."""

    learning_rate: float
    regularization: float
    iterations: int
    negatives: str


@dataclass
class Factors:
    """What is trained: (n_users, width), (n_items, width) and (n_items,) float32."""

    users: Float32Array
    items: Float32Array
    biases: Float32Array


def train(
    descent: Descent,
    likes: Likes,
    factors: Factors,
    generator: np.random.Generator,
    num_threads: int,
    team: Workers,
    watch: Callable[[int, float], bool],
) -> tuple[Float64Array, Float64Array]:
    """Train `factors` in place; return the (loss, AUC) of each epoch as it went.

    Raises
    ------
    ValueError
        The factors are not finite after an epoch.
    """
    users, items = padded(factors.users), padded(factors.items)
    inner = Factors(users, items, factors.biases)
    grid = Grid(likes, num_threads)
    sums = np.zeros((grid.n_blocks, grid.n_blocks, 3))
    losses, aucs = [], []
    for epoch in range(descent.iterations if len(likes.indices) else 0):
        grid.deal(generator, team)
        _sweep(
            descent, grid, inner, np.uint64(generator.integers(2**64, dtype=np.uint64)), sums, team
        )
        loss, right, pairs = sums.sum(axis=(0, 1))
        losses.append(loss / max(pairs, 1))
        aucs.append(right / max(pairs, 1))
        if not all(np.isfinite(part).all() for part in (users, items, factors.biases)):
            raise ValueError(
                "learning_rate must be small enough that factors stay finite, got "
                f"{descent.learning_rate:g}: they overflow in epoch {epoch + 1}"
            )
        if watch(epoch + 1, float(losses[-1])):
            break
    factors.users[:] = users[:, : factors.users.shape[1]]
    factors.items[:] = items[:, : factors.items.shape[1]]
    return curve("losses", losses), curve("aucs", aucs)


def _sweep(
    descent: Descent,
    grid: Grid,
    factors: Factors,
    key: np.uint64,
    sums: Float64Array,
    team: Workers,
) -> None:
    from recengine.factorization import _bpr_kernels as kernels

    rate = np.float32(descent.learning_rate)
    decay = np.float32(1 - descent.learning_rate * descent.regularization)
    ranked, spreads = np.empty(0, np.int32), np.empty(0)
    if descent.negatives == "adaptive":
        ranked, spreads = _rankings(grid, factors, team)

    def climb(turn: int, start: int, stop: int) -> None:
        kernels.climb(
            grid.cells,
            grid.users,
            grid.places,
            grid.values,
            grid.members,
            grid.bounds,
            ranked,
            spreads,
            RANK_SHARE,
            key,
            rate,
            decay,
            factors.users,
            factors.items,
            factors.biases,
            sums,
            turn,
            start,
            stop,
        )

    grid.sweep(climb, team)


def _rankings(grid: Grid, factors: Factors, team: Workers) -> tuple[Int32Array, Float64Array]:
    """Return (places of each block by each factor, highest first; σ of each factor).

    The bias is the last factor. O(n_items factors log n_items), once per epoch.
    """
    table = np.column_stack([factors.items, factors.biases])
    ranked = np.empty(table.size, np.int32)
    width = table.shape[1]

    def rank(first: int, last: int) -> None:
        for block in range(first, last):
            start, stop = grid.bounds[block], grid.bounds[block + 1]
            order = np.argsort(-table[grid.members[start:stop]], axis=0, kind="stable")
            ranked[start * width : stop * width] = order.T.ravel()

    team.run(rank, np.arange(grid.n_blocks + 1, dtype=np.int64))
    return ranked, table.std(axis=0, dtype=np.float64)
