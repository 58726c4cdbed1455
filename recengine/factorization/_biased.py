"""Factors with the items' biases as a last column, and the users' ones that meet it.

So the score of a pair is one inner product, and whatever ranks by inner products ranks with biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count, as_generator, as_real
from recengine.factorization._factored import Factored, Factors
from recengine.factorization._initial import initial_factors
from recengine.factorization._options import as_threads, threads_of
from recengine.factorization._progress import bar
from recengine.factorization._workers import Workers, workers

F = TypeVar("F", bound=Factors)
Epochs = tuple[int, Workers, Callable[[int, float], bool]]


class Biased(Factored[F]):
    """A model of such factors, trained by stochastic gradient."""

    def __init__(
        self,
        factors: int,
        learning_rate: float,
        regularization: float,
        iterations: int,
        num_threads: int | None,
        random_state: int | np.random.Generator | None,
    ) -> None:
        self.factors = as_count("factors", factors, minimum=1)
        self.learning_rate = as_real("learning_rate", learning_rate, minimum=0, exclusive=True)
        self.regularization = as_real("regularization", regularization, minimum=0)
        if self.learning_rate * self.regularization >= 1:  # a step would turn a factor around
            raise ValueError(
                "learning_rate * regularization must be < 1, got "
                f"{self.learning_rate:g} * {self.regularization:g}"
            )
        self.iterations = as_count("iterations", iterations, minimum=1)
        self.num_threads = as_threads(num_threads)
        as_generator(random_state)
        self.random_state = random_state

    @contextmanager
    def _epochs(
        self, progress: bool, callback: Callable[[int, float], Any] | None
    ) -> Iterator[Epochs]:
        """Give (threads, their workers, what to call after each epoch: True ends the training)."""
        threads, label = threads_of(self.num_threads), type(self).__name__
        with workers(threads) as team, bar(label, self.iterations, progress) as advance:

            def after(epoch: int, measure: float) -> bool:
                advance()
                return callback is not None and bool(callback(epoch, measure))

            yield threads, team, after

    def _tastes(self, fitted: F) -> Float32Array:
        return fitted.users[:, :-1]

    @property
    def item_biases_(self) -> Float32Array:
        """Biases of the items, (n_items,) float32, read-only: the last column of the factors."""
        return self._require().items[:, -1]


def starting_factors(
    shape: tuple[int, int], factors: int, init: Any, generator: np.random.Generator
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return writable (users, items, item biases): those of `init`, or drawn ones.

    Drawn factors are normal with deviation ``0.1 / sqrt(factors)``, users first; biases are 0.

    Raises
    ------
    TypeError, ValueError
        `init` is not a pair of matrices of ``factors + 1`` columns, that of the users ending in 1.
    """
    if init is None:
        users, items = initial_factors("ials", shape, factors, None, generator)
        return users, items, np.zeros(shape[1], np.float32)
    users, items = initial_factors("ials", shape, factors + 1, init, generator)
    if not (users[:, -1] == 1).all():
        bad = users[users[:, -1] != 1, -1][0]
        raise ValueError(f"init[0] must hold 1 in its last column, got {bad:g}")
    return users[:, :-1].copy(), items[:, :-1].copy(), items[:, -1].copy()


def joined(
    users: Float32Array, items: Float32Array, biases: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return read-only (users with a column of ones, items with a column of their biases)."""
    both = (
        np.column_stack([users, np.ones(len(users), np.float32)]),
        np.column_stack([items, biases]),
    )
    for part in both:
        part.flags.writeable = False
    return both


def curve(name: str, values: Any) -> Float64Array:
    """Return what was measured in each epoch as a read-only float64 array (epochs,)."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and 1-D, got shape {array.shape}")
    array.flags.writeable = False
    return array
