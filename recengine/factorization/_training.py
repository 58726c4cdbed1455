"""The schedule of ALS: fixed row ranges of equal cost, a thread pool, one Gram per half-epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.factorization._likes import Likes
from recengine.factorization._objective import Objective

_N_RANGES = 64  # whatever the number of threads, so that partial sums never depend on it
_T = TypeVar("_T")


class Workers:
    """Runs ``function(start, stop)`` over ranges, on the caller's thread or on a pool."""

    def __init__(self, pool: Executor | None) -> None:
        self._pool = pool

    def run(self, function: Callable[[int, int], _T], bounds: Int64Array) -> list[_T]:
        """Return the results in the order of the ranges between consecutive `bounds`."""
        starts, stops = bounds[:-1].tolist(), bounds[1:].tolist()
        if self._pool is None:
            return [function(start, stop) for start, stop in zip(starts, stops, strict=True)]
        return list(self._pool.map(function, starts, stops))


@contextmanager
def workers(num_threads: int) -> Iterator[Workers]:
    """Give `Workers` of `num_threads` threads; the threads end with the context."""
    if num_threads == 1:
        yield Workers(None)
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="recengine-als") as pool:
        yield Workers(pool)


def gram(factors: Float32Array, team: Workers) -> Float64Array:
    """Return FᵀF in float64, the same bits at any thread count.

    The partial sums of fixed row ranges are added in the order of the rows.
    """
    from recengine.factorization import _als_kernels as kernels

    n_rows, dim = factors.shape
    n_blocks = -(-n_rows // kernels.BLOCK)
    bounds = np.minimum(even_bounds(n_blocks) * kernels.BLOCK, n_rows)

    def partial(start: int, stop: int) -> Float64Array:
        part = np.zeros((dim, dim))
        kernels.add_gram(factors, start, stop, part)
        return part

    total = np.zeros((dim, dim))
    for part in team.run(partial, bounds):
        total += part
    return np.triu(total) + np.triu(total, 1).T


def solve_half(
    objective: Objective,
    likes: Likes,
    fixed: Float32Array,
    solved: Float32Array,
    team: Workers,
    side: str,
) -> None:
    """Solve every row of `likes` against the `fixed` factors of the other side, into `solved`.

    Raises
    ------
    ValueError
        A row's system is not positive definite in float64, or its solution not a float32.
    """
    from recengine.factorization import _als_kernels as kernels

    base = objective.unobserved_weight * gram(fixed, team)
    ridges = objective.ridges(likes.counts, likes.shape[1])

    def solve(start: int, stop: int) -> int:
        row: int = kernels.solve_rows(
            likes.indptr,
            likes.indices,
            likes.confidences,
            objective.shift,
            base,
            ridges,
            fixed,
            solved,
            start,
            stop,
        )
        return row

    failed = [row for row in team.run(solve, cost_bounds(likes.indptr, fixed.shape[1])) if row >= 0]
    if failed:
        raise not_solvable(objective.regularization, f"{side} {failed[0]}")


def not_solvable(regularization: float, whose: str) -> ValueError:
    """Return the error of a system that has no numerically safe solution."""
    return ValueError(
        f"regularization must be large enough that every system can be solved, got "
        f"{regularization:g}: that of {whose} is singular or overflows"
    )


def loss(
    objective: Objective, likes: Likes, users: Float32Array, items: Float32Array, team: Workers
) -> float:
    """Return the objective per unit of weight (see `ALS.loss`), summed in float64."""
    from recengine.factorization import _als_kernels as kernels

    def observed(start: int, stop: int) -> float:
        part: float = kernels.observed_loss(
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
    total = sum(team.run(observed, cost_bounds(likes.indptr, users.shape[1])))
    total += objective.unobserved_weight * float((gram(users, team) * gram(items, team)).sum())
    item_counts = np.bincount(likes.indices, minlength=n_items)
    for counts, n_other, factors in (
        (likes.counts, n_items, users),
        (item_counts, n_users, items),
    ):
        norms = np.einsum("ij,ij->i", factors, factors, dtype=np.float64)
        total += float((objective.ridges(counts, n_other) * norms).sum())
    n_likes = len(likes.indices)
    weight = float(likes.confidences.sum(dtype=np.float64))
    weight += objective.unobserved_weight * (n_users * n_items - objective.shift * n_likes)
    return total / weight if weight > 0 else 0.0


def even_bounds(n: int) -> Int64Array:
    """Return the bounds of at most `_N_RANGES` ranges of equal length over [0, n)."""
    n_ranges = max(1, min(_N_RANGES, n))
    return np.arange(n_ranges + 1, dtype=np.int64) * n // n_ranges


def cost_bounds(indptr: Int64Array, dim: int) -> Int64Array:
    """Return the bounds of at most `_N_RANGES` row ranges of about equal cost.

    A row of n entries costs n d²/2 multiplications for its products and d³/6 for its Cholesky
    factorization: n + d/3 in units of d²/2.
    """
    n_rows = len(indptr) - 1
    cost: Any = indptr + (dim / 3) * np.arange(n_rows + 1)
    shares = np.linspace(0, cost[-1], min(_N_RANGES, max(n_rows, 1)) + 1)
    bounds = np.searchsorted(cost, shares).astype(np.int64)
    bounds[0], bounds[-1] = 0, n_rows
    return np.unique(bounds)
