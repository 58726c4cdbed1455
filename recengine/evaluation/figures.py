"""What an evaluation found: figures, the users behind them, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float64Array, IdArray, Int64Array
from recengine._validation import as_choice
from recengine.evaluation.bootstrap import Interval, bootstrap_mean
from recengine.evaluation.metrics import coverage


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two evaluations of the same users, in one metric.

    Attributes
    ----------
    metric : str
    figure, baseline : float
        The two means.
    difference : float
        figure − baseline: the mean of the users' differences.
    interval : Interval
        Bootstrap over users of that mean; pairs are drawn together.
    n_better, n_worse, n_equal : int
        Users whose value is above, below or equal to their baseline.
    """

    metric: str
    figure: float
    baseline: float
    difference: float
    interval: Interval
    n_better: int
    n_worse: int
    n_equal: int

    @property
    def relative(self) -> float:
        """Difference over baseline: 0.4 is 40 % above it. NaN where the baseline is 0."""
        return self.difference / self.baseline if self.baseline else float("nan")

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval.low > 0 or self.interval.high < 0


class Evaluation(Mapping[str, float]):
    """Figures of one result against one test split: a read-only mapping metric → figure.

    Made by `evaluate`.

    Attributes
    ----------
    k : int
        Ranks that counted.
    users : ndarray (n_users,), int64 or object
        The users that counted, in the order of the values in `per_user`.
    per_user : dict of str to ndarray (n_users,), float64
        The value of each user, for every metric but coverage; read-only.
    n_relevant : ndarray (n_users,), int64
        Relevant items of each user.
    warm : ndarray (n_users,), bool, or None
        Whether the user has an event in `train`; None where `train` was not given.
    """

    def __init__(
        self,
        *,
        k: int,
        users: IdArray,
        per_user: Mapping[str, Float64Array],
        n_relevant: Int64Array,
        warm: NDArray[np.bool_] | None,
        catalogue: tuple[Int64Array, int] | None,
    ) -> None:
        self.k = k
        self.users = users
        self.per_user = dict(per_user)
        self.n_relevant = n_relevant
        self.warm = warm
        # (items of each list by catalogue number, −1 elsewhere; size of the catalogue)
        self._catalogue = catalogue
        for values in self.per_user.values():
            values.flags.writeable = False
        self._figures = {metric: float(values.mean()) for metric, values in self.per_user.items()}
        if catalogue is not None:
            self._figures["coverage"] = coverage(*catalogue)

    @property
    def n_users(self) -> int:
        """How many users counted."""
        return len(self.users)

    @property
    def figures(self) -> dict[str, float]:
        """Metric → figure: the mean over the users that counted; coverage of their lists."""
        return dict(self._figures)

    def __getitem__(self, metric: str) -> float:
        return self._figures[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __repr__(self) -> str:
        row = ", ".join(f"{metric}={figure:.4f}" for metric, figure in self._figures.items())
        return f"Evaluation(k={self.k}, n_users={self.n_users}, {row})"

    def interval(
        self, metric: str, level: float = 0.95, *, n_resamples: int = 2000, random_state: Any = 0
    ) -> Interval:
        """Return the bootstrap interval of a figure, over users.

        Parameters
        ----------
        metric : str
            One that has a value per user, so not coverage.
        level : float
            In (0, 1).
        n_resamples : int
            Resamples behind the two quantiles, >= 1.
        random_state : int, Generator or None
            The same number gives the same interval.

        Returns
        -------
        Interval
            (low, high), percentile method.
        """
        values = self._values(metric)
        return bootstrap_mean(
            values, level=level, n_resamples=n_resamples, random_state=random_state
        )

    def standard_error(self, metric: str) -> float:
        """Return the standard error of a figure over users.

        Parameters
        ----------
        metric : str
            As for `interval`.

        Returns
        -------
        float
            The users' standard deviation (n − 1) over √n; NaN for a single user.
        """
        values = self._values(metric)
        if len(values) < 2:
            return float("nan")
        return float(values.std(ddof=1) / np.sqrt(len(values)))

    def compare(
        self,
        baseline: Evaluation,
        metric: str,
        level: float = 0.95,
        *,
        n_resamples: int = 2000,
        random_state: Any = 0,
    ) -> Comparison:
        """Return how this evaluation differs from another one of the same users.

        Parameters
        ----------
        baseline : Evaluation
            Of the same users, in any order, at the same k.
        metric, level, n_resamples, random_state
            As for `interval`.

        Returns
        -------
        Comparison

        Raises
        ------
        ValueError
            Where the users or k differ, or one of the two lacks the metric.
        """
        if not isinstance(baseline, Evaluation):
            raise TypeError(f"baseline must be an Evaluation, got {type(baseline).__name__}")
        if baseline.k != self.k:
            raise ValueError(f"baseline must be at k={self.k}, got k={baseline.k}")
        ours, theirs = np.argsort(self.users), np.argsort(baseline.users)
        if not np.array_equal(self.users[ours], baseline.users[theirs]):
            raise ValueError(
                "baseline must be about the same users: evaluate both with the same `users`"
            )
        differences = np.empty(self.n_users)
        differences[ours] = self._values(metric)[ours] - baseline._values(metric)[theirs]
        return Comparison(
            metric=metric,
            figure=self[metric],
            baseline=baseline[metric],
            difference=float(differences.mean()),
            interval=bootstrap_mean(
                differences, level=level, n_resamples=n_resamples, random_state=random_state
            ),
            n_better=int((differences > 0).sum()),
            n_worse=int((differences < 0).sum()),
            n_equal=int((differences == 0).sum()),
        )

    def select(self, mask: Any) -> Evaluation:
        """Return the evaluation of some of the users: ``select(~evaluation.warm)`` the cold ones.

        Parameters
        ----------
        mask : array-like (n_users,), bool
            At least one True.

        Returns
        -------
        Evaluation
            Its coverage counts the lists of these users.
        """
        chosen = np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (self.n_users,):
            raise ValueError(
                f"mask must be bool ({self.n_users},), got {chosen.dtype} of shape {chosen.shape}"
            )
        if not chosen.any():
            raise ValueError(f"mask must select a user, got none of {self.n_users}")
        return Evaluation(
            k=self.k,
            users=self.users[chosen],
            per_user={metric: values[chosen] for metric, values in self.per_user.items()},
            n_relevant=self.n_relevant[chosen],
            warm=None if self.warm is None else self.warm[chosen],
            catalogue=None
            if self._catalogue is None
            else (self._catalogue[0][chosen], self._catalogue[1]),
        )

    def _values(self, metric: str) -> Float64Array:
        return self.per_user[as_choice("metric", metric, list(self.per_user))]
