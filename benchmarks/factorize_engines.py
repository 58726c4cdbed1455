"""ALS of recengine and of its peers behind one face: start from given factors, one epoch a call.

`epoch()` returns seconds. The first one takes in what a library does before it (copies, the
transposed matrix); figures per epoch leave it out, figures of the whole time have it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import recengine as rec
from recengine.factorization import _training


@dataclass(frozen=True)
class Problem:
    """What is minimised; the parameters have the names of `rec.ALS`."""

    objective: str
    factors: int
    regularization: float
    alpha: float
    unobserved_weight: float
    frequency_exponent: float

    def ours(self, **others: Any) -> rec.ALS:
        """Return an ALS of recengine for this problem."""
        given = asdict(self) | others
        if self.objective != "ials":
            del given["unobserved_weight"], given["frequency_exponent"]
        return rec.ALS(**given)

    def start(self, shape: tuple[int, int], seed: int) -> tuple[Any, Any]:
        """Return initial (users, items), as either library draws them."""
        rng, dim = np.random.default_rng(seed), self.factors
        if self.objective == "implicit":
            return tuple(0.01 * rng.random((n, dim), dtype=np.float32) for n in shape)
        deviation = np.float32(0.1 / np.sqrt(dim))
        return tuple(deviation * rng.standard_normal((n, dim), dtype=np.float32) for n in shape)


class Yardstick:
    """The one loss function: recengine's, of anybody's factors."""

    def __init__(self, problem: Problem, matrix: Any, threads: int) -> None:
        tiny = problem.ours(num_threads=threads, iterations=1).fit(matrix[:2])
        self._arrays, self._meta = tiny.state()
        self._matrix = matrix

    def __call__(self, users: Any, items: Any) -> float:
        wide = items.astype(np.float64)
        own = {"user_factors": users, "item_factors": items, "item_gram": wide.T @ wide}
        return rec.ALS.from_state(self._arrays | own, self._meta).loss(self._matrix)


class Ours:
    """`ALS.fit` in a thread, held after each epoch by its callback until the next is asked for.

    The callback is given a loss, which the peers' epochs do not compute: its time does not count.
    """

    _fit: threading.Thread | None = None

    def __init__(self, problem: Problem, matrix: Any, solver: str, threads: int) -> None:
        self._make = lambda n: problem.ours(solver=solver, num_threads=threads, iterations=n)
        self._matrix = matrix

    def reset(self, users: Any, items: Any, epochs: int) -> None:
        self.close()
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._is_enough = False
        self._error: Exception | None = None
        self._fit = threading.Thread(target=self._run, args=((users, items), epochs), daemon=True)
        self._fit.start()

    def _run(self, init: tuple[Any, Any], epochs: int) -> None:
        self._go.acquire()
        if self._is_enough:
            return
        try:
            self._make(epochs).fit(self._matrix, init=init, callback=self._hold)
        except Exception as error:
            self._error = error
        self._done.release()

    def _hold(self, epoch: int, loss: float) -> bool:
        self._loss = loss
        self._done.release()
        self._go.acquire()
        return self._is_enough

    def epoch(self) -> float:
        start, of_loss = time.perf_counter(), _LOSS.seconds
        self._go.release()
        self._done.acquire()
        elapsed = time.perf_counter() - start - (_LOSS.seconds - of_loss)
        if self._error is not None:
            raise self._error
        return elapsed

    def loss(self, yardstick: Yardstick) -> float:
        return self._loss

    def close(self) -> None:
        """End the fit after the epoch that was asked for last."""
        if self._fit is not None:
            self._is_enough = True
            self._go.release()
            self._fit.join()
            self._fit = None


class _Clock:
    """Counts the seconds in the loss of ALS, in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._loss = _training.loss
        _training.loss = self

    def __call__(self, *arguments: Any) -> float:
        start = time.perf_counter()
        found = self._loss(*arguments)
        self.seconds += time.perf_counter() - start
        return found


_LOSS = _Clock()


class Peer:
    """A library that runs on the caller's thread: factors in, factors out."""

    users: Any
    items: Any

    def loss(self, yardstick: Yardstick) -> float:
        return yardstick(self.users, self.items)

    def close(self) -> None:
        pass
