"""The schedule of ALS: fixed row ranges of equal cost, one Gram matrix per half-epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.factorization._basis import PANEL, Basis
from recengine.factorization._checkpoint import Checkpoint
from recengine.factorization._likes import Likes
from recengine.factorization._objective import Objective
from recengine.factorization._priors import Priors
from recengine.factorization._progress import bar
from recengine.factorization._workers import Workers

_N_RANGES = 64  # whatever the number of threads, so that partial sums never depend on it
_FEWEST_RANGES = 8  # of a Gram matrix, whose partial sums else take at most
_GRAM_BYTES = 2**23
_GRAM_ROWS = 64  # that the kernel takes at once
_LEAST_COST = 4e6  # multiplications that are worth a range of their own


def gram(factors: Float32Array, team: Workers) -> Float64Array:
    """Return FᵀF in float64, the same bits at any thread count.

    The partial sums of fixed row ranges are added in the order of the rows.
    """
    from recengine._native import add_gram

    n_rows, dim = factors.shape
    most = max(_FEWEST_RANGES, min(_N_RANGES, _GRAM_BYTES // (8 * dim * dim)))
    bounds = even_bounds(-(-n_rows // _GRAM_ROWS), most=most) * _GRAM_ROWS
    bounds = np.minimum(bounds, n_rows)

    def partial(start: int, stop: int) -> Float64Array:
        part = np.zeros((dim, dim))
        add_gram(factors, part, start, stop)
        return part

    total = np.zeros((dim, dim))
    for part in team.run(partial, bounds):
        total += part
    return np.tril(total) + np.tril(total, -1).T


@dataclass(frozen=True)
class Solver:
    """How rows are solved.

    Attributes
    ----------
    name : {"cholesky", "cg", "block"}
    steps : int
        Of conjugate gradients, from the row as it is.
    block : int
        Coordinates that "block" solves at once, a multiple of 16.
    """

    name: str
    steps: int = 0
    block: int = PANEL

    def cost_bounds(self, indptr: Int64Array, dim: int) -> Int64Array:
        """Return the bounds of row ranges of about equal cost, counted in multiplications."""
        if self.name == "cg":
            return cost_bounds(indptr, 2 * (self.steps + 1) * dim, 2 * dim * (dim + self.steps))
        width = dim if self.name == "cholesky" else min(self.block, dim)
        return cost_bounds(indptr, dim * width / 2, dim * width**2 / 6 + 2 * dim**2)


def solve_half(
    objective: Objective,
    solver: Solver,
    likes: Likes,
    fixed: Float32Array,
    solved: Float32Array,
    team: Workers,
    side: str,
    prior: Float32Array | None = None,
) -> None:
    """Solve every row of `likes` against the `fixed` factors of the other side, into `solved`.

    `prior` (like `solved`) is what the ridge pulls towards; 0 without. A row without entries is
    its prior.

    Raises
    ------
    ValueError
        A row's system is not positive definite in float64, or its solution not a float32.
    """
    from recengine._native import AlsHalf, float_table, rotate_rows

    basis = Basis.of(gram(fixed, team))
    rotated = float_table(len(fixed), basis.dim)
    team.run(
        lambda start, stop: rotate_rows(fixed, basis.into, rotated, start, stop),
        even_bounds(len(fixed), basis.dim**2),
    )
    half = AlsHalf(
        likes.indptr,
        likes.indices,
        likes.confidences,
        objective.shift,
        rotated,
        basis.weighted(objective.unobserved_weight),
        objective.ridges(likes.counts, likes.shape[1]),
        basis.into,
        basis.out_of,
        prior,
        solved,
        solver.name,
        solver.steps,
        solver.block,
    )
    rows = team.run(half.solve, solver.cost_bounds(likes.indptr, basis.dim))
    failed = [row for row in rows if row >= 0]
    if failed:
        raise not_solvable(objective.regularization, f"{side} {failed[0]}")


def not_solvable(regularization: float, whose: str) -> ValueError:
    """Return the error of a system that has no numerically safe solution."""
    return ValueError(
        f"regularization must be large enough that every system can be solved, got "
        f"{regularization:g}: that of {whose} is singular or overflows"
    )


def loss(
    objective: Objective,
    likes: Likes,
    users: Float32Array,
    items: Float32Array,
    team: Workers,
    priors: tuple[Float32Array | None, Float32Array | None] = (None, None),
) -> float:
    """Return the objective per unit of weight (see `ALS.loss`), summed in float64.

    `priors` are what (users, items) are drawn towards, 0 where None.
    """
    from recengine._native import als_loss

    def observed(start: int, stop: int) -> float:
        part: float = als_loss(
            likes.indptr,
            likes.indices,
            likes.confidences,
            objective.shift,
            users,
            items,
            start,
            stop,
        )
        return part

    n_users, n_items = likes.shape
    total = sum(team.run(observed, cost_bounds(likes.indptr, 2.0 * users.shape[1], 1.0)))
    total += objective.unobserved_weight * float((gram(users, team) * gram(items, team)).sum())
    item_counts = np.bincount(likes.indices, minlength=n_items)
    for counts, n_other, factors, prior in (
        (likes.counts, n_items, users, priors[0]),
        (item_counts, n_users, items, priors[1]),
    ):
        away = factors if prior is None else factors.astype(np.float64) - prior
        norms = np.einsum("ij,ij->i", away, away, dtype=np.float64)
        total += float((objective.ridges(counts, n_other) * norms).sum())
    n_likes = len(likes.indices)
    weight = float(np.abs(likes.confidences).sum(dtype=np.float64))
    weight += objective.unobserved_weight * (n_users * n_items - objective.shift * n_likes)
    return total / weight if weight > 0 else 0.0


def even_bounds(n: int, cost: float = _LEAST_COST, most: int = _N_RANGES) -> Int64Array:
    """Return the bounds of at most `most` ranges over [0, n), each of a worthwhile cost."""
    n_ranges = int(max(1, min(most, n, n * cost / _LEAST_COST)))
    return np.arange(n_ranges + 1, dtype=np.int64) * n // n_ranges


def cost_bounds(indptr: Int64Array, per_entry: float, per_row: float) -> Int64Array:
    """Return the bounds of at most `_N_RANGES` row ranges of about equal, worthwhile cost."""
    n_rows = len(indptr) - 1
    cost: Any = per_entry * indptr.astype(np.float64) + per_row * np.arange(n_rows + 1)
    n_ranges = int(min(_N_RANGES, max(cost[-1] / _LEAST_COST, 1), max(n_rows, 1)))
    shares = np.linspace(0, cost[-1], n_ranges + 1)
    bounds = np.searchsorted(cost, shares).astype(np.int64)
    bounds[0], bounds[-1] = 0, n_rows
    return np.unique(bounds)


@dataclass(frozen=True)
class Watch:
    """What a training tells while it runs.

    Attributes
    ----------
    progress : bool
        Draw a bar with the loss.
    callback : callable or None
        Takes (epochs done, loss); the training ends where it returns True.
    checkpoint : Checkpoint or None
        Where to go on from, and what is written after every epoch.
    """

    progress: bool = False
    callback: Callable[[int, float], object] | None = None
    checkpoint: Checkpoint | None = None


def alternate(
    objective: Objective,
    solver: Solver,
    likes: Likes,
    factors: tuple[Float32Array, Float32Array],
    iterations: int,
    team: Workers,
    watch: Watch,
    priors: Priors,
) -> None:
    """Train (users, items) in place: each epoch solves all users, then all items."""
    users, items = factors
    by_item = likes.transposed()
    told = watch.progress or watch.callback is not None
    done = 0 if watch.checkpoint is None else watch.checkpoint.restore(users, items)
    if done > iterations:
        raise ValueError(f"iterations must be >= the {done} of the checkpoint, got {iterations}")
    with bar("ALS", iterations, watch.progress) as advance:
        advance(done)
        for epoch in range(done + 1, iterations + 1):
            drawn = priors.of_users(users)
            solve_half(objective, solver, likes, items, users, team, "user", drawn)
            drawn = priors.of_items(items)
            solve_half(objective, solver, by_item, users, items, team, "item", drawn)
            if watch.checkpoint is not None:
                watch.checkpoint.save(epoch, users, items)
            now = loss(objective, likes, users, items, team, priors.rows) if told else 0.0
            advance(note=f"loss {now:.6g}")
            if watch.callback is not None and watch.callback(epoch, now) is True:
                break
