"""One user who is kept warm: a further event costs O(factors²), not a new solve."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count, as_indices, as_real
from recengine.factorization import _rank_one
from recengine.factorization._likes import merged_events
from recengine.factorization._objective import Objective
from recengine.factorization._training import not_solvable

_MOST = float(np.finfo(np.float32).max)


class _Solved(NamedTuple):
    """The system of some events without its ridge, its Cholesky factor with it, and what it says.

    Of `system` and `cholesky` the upper triangle counts; nothing is ever written to.
    """

    system: Float64Array
    rhs: Float64Array
    n: int  # distinct items
    cholesky: Float64Array | None
    factors: Float32Array


class FoldedUser:
    """One user against fixed item factors, for further events; made by `ALS.user`.

    Notes
    -----
    An event is a rank-one change of the user's system, and its Cholesky factor is changed likewise:
    O(factors²). It is factorized anew, O(factors³) but whatever the length of the history, where
    the change could lose digits (a new item of less confidence than an unobserved pair) and, under
    ``objective="ials"`` with a `frequency_exponent` above 0, at each new item: how many there are
    decides the regularization of the whole diagonal.

    Worth keeping for histories of hundreds of events: shorter ones `ALS.fold_in` solves as fast.

    Holds 16 factors² bytes. Safe from any number of threads: events wait for each other, and
    `factors` is replaced as a whole. What the model learns later changes nothing here. Checked
    against `ALS.fold_in` after 1,000 events.

    References
    ----------
    Gill, Golub, Murray, Saunders: Methods for modifying matrix factorizations, 1974, section 3.
    """

    def __init__(
        self,
        objective: Objective,
        base: Float64Array,
        items: Float32Array,
        indices: Any,
        weights: Any,
    ) -> None:
        self._objective, self._items = objective, items
        self._lock = threading.Lock()
        rows = as_indices("indices", indices, size=len(items))
        rows, totals = merged_events(rows, weights, 1.0)
        self._totals: dict[int, float] = dict(zip(rows.tolist(), totals.tolist(), strict=True))
        dim = items.shape[1]
        self._now = _Solved(base, np.zeros(dim), 0, None, _frozen(np.zeros(dim, np.float32)))
        if len(rows):
            confidences = [self._confidence(total) for total in totals.tolist()]
            changes = [confidence - objective.shift for confidence in confidences]
            self._now = self._after(rows.tolist(), changes, confidences, len(rows))

    @property
    def factors(self) -> Float32Array:
        """What `ALS.fold_in` says of all events so far, (factors,) float32, read-only."""
        return self._now.factors

    def observe(self, index: int, weight: float = 1.0) -> Float32Array:
        """Add an event; return the new `factors`.

        Parameters
        ----------
        index : int
            Row of the model's `item_factors_`.
        weight : float
            As in the matrix of `fit`, >= 0; added to what the user gave the item so far. Weight 0
            is no event.

        Returns
        -------
        ndarray (factors,), float32, read-only

        Raises
        ------
        ValueError, TypeError
            A wrong argument, or a system that cannot be solved; nothing has changed then.
        """
        row = as_count("index", index, maximum=None)
        if row >= len(self._items):
            raise ValueError(f"index must lie in [0, {len(self._items)}), got {row}")
        strength = as_real("weight", weight, minimum=0)
        if strength > _MOST:
            raise ValueError(f"weight must fit float32, got {strength:g}")
        with self._lock:
            old = self._totals.get(row, 0.0)
            new = old + _rounded(strength)
            new = new if new > _MOST else _rounded(new)
            if new > old:
                before, after = self._confidence(old), self._confidence(new)
                change = after - (before if old else self._objective.shift)
                self._now = self._after([row], [change], [after - before], int(not old))
                self._totals[row] = new
        return self.factors

    def _confidence(self, total: float) -> float:
        """Return the confidence of a summed weight: a product of float32, as in `fit`."""
        product = _rounded(self._objective.alpha) * total
        if max(total, product) > _MOST:
            raise ValueError(
                "alpha times the largest weight must fit float32, got alpha "
                f"{self._objective.alpha:g}"
            )
        return _rounded(product)

    def _after(
        self, rows: list[int], changes: list[float], confidences: list[float], n_new: int
    ) -> _Solved:
        """Return what is known when these rows have changed the system, `n_new` of new items."""
        now, objective = self._now, self._objective
        vectors, weights = self._items[rows], np.array(changes)
        system, rhs = _rank_one.with_rows(
            now.system, now.rhs, vectors, weights, np.array(confidences)
        )
        n, cholesky = now.n + n_new, None
        is_stiff = objective.exponent == 0 or n_new == 0  # the ridge stays as it is
        if now.cholesky is not None and is_stiff:
            cholesky = _rank_one.factor_with_row(now.cholesky, vectors[0], changes[0])
        if cholesky is None:
            ridge = objective.ridges(np.array([n]), len(self._items))[0]
            cholesky = _rank_one.factor_of(system, float(ridge))
        factors = None if cholesky is None else _rank_one.solution(cholesky, rhs)
        if factors is None:
            raise not_solvable(objective.regularization, "the user folded in")
        return _Solved(system, rhs, n, cholesky, _frozen(factors))


def _rounded(number: float) -> float:
    return float(np.float32(number))


def _frozen(array: Float32Array) -> Float32Array:
    array.flags.writeable = False
    return array
