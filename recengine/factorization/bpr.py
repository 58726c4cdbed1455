"""Bayesian personalized ranking for implicit feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_choice, as_generator, as_indices, as_real
from recengine.factorization import _bpr_training
from recengine.factorization._biased import Biased, curve, joined, starting_factors
from recengine.factorization._bpr_training import NEGATIVES, Descent, Factors
from recengine.factorization._factored import factors_from
from recengine.factorization._likes import Likes, as_likes, merged_events
from recengine.factorization._options import as_flag, check_callback
from recengine.factorization._sgd_fold_in import fold_likes

_FEW_STEPS, _MOST_STEPS = 1500, 5000  # of one fold-in
_FEW_PASSES = 30  # from where on more passes do not rank better, where histories are long


@dataclass(frozen=True)
class _Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    users: Float32Array
    items: Float32Array
    scale: float  # what weights are multiplied with, where they count
    losses: Float64Array
    aucs: Float64Array


class BPR(Biased[_Fitted]):
    """Factors that rank what a user likes above what they do not, by stochastic gradient.

    Each epoch takes one step for every like: the user u, the liked item i and another item j,
    drawn among those that u does not like, climb ln σ(x_ui − x_uj).

    Parameters
    ----------
    factors : int, default 64
        Numbers that describe a user or an item, beside the item's bias.
    learning_rate : float, default 0.02
        Length of a step, > 0.
    regularization : float, default 0.003
        Weight of the squared norms of what a step touches, >= 0;
        ``learning_rate * regularization`` is < 1.
    iterations : int, default 100
        Epochs.
    negatives : {"uniform", "adaptive"}
        How j is drawn. "adaptive" prefers items that the user's factors rate high, which is where
        the gradient is: a factor f by |x_uf| σ_f, then an item from that factor's ranking (of the
        beginning of the epoch), of geometric rank, a tenth of the items in the mean. Either way
        never an item that u likes; a user who likes all items is skipped.
    num_threads : int or None
        Threads of `fit`; None: what this process may use (affinity and quota). At most 16 have
        work, and fewer where there are less than a million likes.
    random_state : int, Generator or None
        Seed of initial factors and negatives; None: a new one each time.
    weighted : bool, default False
        A weight > 0 is a like, however large. With True a step is as much longer as its weight is
        larger than the mean weight, which is for weights of one order, such as ratings.

    Attributes
    ----------
    user_factors_ : ndarray (n_users, factors + 1), float32, C-contiguous, read-only
        The last column is 1, so that the score of a pair is the inner product, bias included. The
        others are 0 for a user without likes, to whom biases alone rank.
    item_factors_ : ndarray (n_items, factors + 1), float32, C-contiguous, read-only
        The last column is the bias.
    item_biases_ : ndarray (n_items,), float32, read-only
        That column.
    losses_, aucs_ : ndarray (epochs,), float64, read-only
        The mean of −ln σ over an epoch's pairs, and the share of them in the right order, each
        just before its step.

    Notes
    -----
    Cost of an epoch: O(n_likes factors), and O(n_items factors log n_items) more for "adaptive".
    Memory beyond the factors: two copies of the matrix and of the factors. The factors are the
    same bits at any `num_threads` for a given (seed, data) on one machine: steps of one turn touch
    no row twice (see `_grid`). Items are dealt into blocks anew in each epoch and j is drawn from
    the block of i, so that over epochs every item that u does not like is as likely. A fitted model
    is immutable and may be used from any number of threads. Checked against a float64 NumPy oracle.

    References
    ----------
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian personalized ranking from
    implicit feedback, 2009, section 4.
    Rendle, Freudenthaler: Improving pairwise learning for item recommendation from implicit
    feedback, 2014, section 5.
    """

    _shown = ("factors", "learning_rate", "regularization", "iterations", "negatives")
    _settings = (*_shown, "weighted", "random_state")
    _arrays = ("user_factors", "item_factors", "losses", "aucs")
    _facts = ("scale",)

    def __init__(
        self,
        factors: int = 64,
        learning_rate: float = 0.02,
        regularization: float = 0.003,
        iterations: int = 100,
        negatives: str = "uniform",
        num_threads: int | None = None,
        random_state: int | np.random.Generator | None = None,
        *,
        weighted: bool = False,
    ) -> None:
        super().__init__(
            factors, learning_rate, regularization, iterations, num_threads, random_state
        )
        self.negatives = as_choice("negatives", negatives, NEGATIVES)
        self.weighted = as_flag("weighted", weighted)

    # --- training -------------------------------------------------------------------------------

    def fit(
        self,
        matrix: Any,
        init: Any = None,
        progress: bool = False,
        callback: Callable[[int, float], Any] | None = None,
    ) -> BPR:
        """Learn the factors of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Weights >= 0. Duplicates are summed; explicit zeros are not likes.
        init : (user_factors, item_factors), optional
            Where to start, of the shapes of the attributes, copied; otherwise drawn: normal with
            deviation ``0.1 / sqrt(factors)``, biases 0.
        progress : bool
            Draw a bar on standard error.
        callback : callable, optional
            Called as ``callback(epoch, loss)`` after each epoch (from 1), on this thread; the loss
            as in `losses_`. True ends training there.

        Returns
        -------
        BPR
            This model.

        Raises
        ------
        TypeError
            `matrix` is not sparse or does not hold real numbers; `progress` is not a bool.
        ValueError
            A weight is negative or not finite, `init` has the wrong shape, or the factors overflow
            (`learning_rate` is too large). The model is unchanged then.
        """
        as_flag("progress", progress)
        check_callback(callback)
        likes, scale = self._read(matrix)
        generator = as_generator(self.random_state)
        factors = Factors(*starting_factors(likes.shape, self.factors, init, generator))
        descent = Descent(self.learning_rate, self.regularization, self.iterations, self.negatives)
        with self._epochs(progress, callback) as epochs:
            losses, aucs = _bpr_training.train(descent, likes, factors, generator, *epochs)
        factors.users[likes.counts == 0] = 0
        users, items = joined(factors.users, factors.items, factors.biases)
        self._fitted = _Fitted(users, items, scale, losses, aucs)
        return self

    def _read(self, matrix: Any) -> tuple[Likes, float]:
        """Return (likes with the lengths of their steps, what weights are multiplied with)."""
        likes = as_likes(matrix, 1.0)
        weights = likes.confidences
        counts = self.weighted and len(weights) > 0
        scale = 1 / float(weights.mean(dtype=np.float64)) if counts else 1.0
        return replace(likes, confidences=self._steps(weights, scale)), scale

    def _steps(self, weights: Float32Array, scale: float) -> Float32Array:
        """Return how long each like's step is, in units of the learning rate."""
        if not self.weighted:
            return np.ones_like(weights)
        return (weights.astype(np.float64) * scale).astype(np.float32)

    # --- what was learned -----------------------------------------------------------------------

    @property
    def losses_(self) -> Float64Array:
        """Mean of −ln σ over the pairs of each epoch as it went, (epochs,) float64, read-only."""
        return self._require().losses

    @property
    def aucs_(self) -> Float64Array:
        """Share of the pairs of each epoch in the right order, (epochs,) float64, read-only."""
        return self._require().aucs

    def fold_in(self, indices: Any, weights: Any = None) -> Float32Array:
        """Return the user whom these items describe, against fixed item factors.

        Parameters
        ----------
        indices : array_like (n,), int
            Rows of `item_factors_`, in any order; the weights of a repeated item are summed.
        weights : array_like (n,), optional
            As in the matrix of `fit`, >= 0; 1 each when omitted. Weight 0 is no event.

        Returns
        -------
        ndarray (factors + 1,), float32
            As a row of `user_factors_`; 0, and 1 at the end, without events or with all items.

        Raises
        ------
        ValueError
            An index outside [0, n_items), or a wrong weight, such as one so large that a step
            overflows.

        Notes
        -----
        Passes over the items as in `fit`, from 0, with uniform negatives of a fixed seed; the mean
        over the last half of the steps. There are `iterations` passes, but 30 where that were more
        than 1,500 steps, and fewer where those were more than 5,000.
        The same bits each time and in any order of the items. O(n passes factors) on the caller's
        thread, without the GIL, BLAS or Numba; safe from any number of threads. Checked against a
        float64 NumPy oracle.
        """
        fitted = self._require()
        rows = as_indices("indices", indices, size=len(fitted.items))
        rows, given = merged_events(rows, weights, 1.0)
        n = max(len(rows), 1)
        passes = min(self.iterations, max(_FEW_PASSES, _FEW_STEPS // n), max(1, _MOST_STEPS // n))
        steps = self._steps(given, fitted.scale)
        user = fold_likes(
            fitted.items, rows, steps, self.learning_rate, self.regularization, passes
        )
        if not np.isfinite(user).all():
            raise ValueError(
                f"weights must be of the order of those of fit, got {given.max():g}: steps overflow"
            )
        return user

    # --- persistence ----------------------------------------------------------------------------

    def _saved(self, fitted: _Fitted) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = {
            "user_factors": fitted.users,
            "item_factors": fitted.items,
            "losses": fitted.losses,
            "aucs": fitted.aucs,
        }
        return arrays, {"scale": fitted.scale}

    def _restored(self, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> _Fitted:
        users, items = factors_from(arrays, self.factors + 1)
        losses, aucs = curve("losses", arrays["losses"]), curve("aucs", arrays["aucs"])
        scale = as_real("scale", meta["scale"], minimum=0, exclusive=True)
        return _Fitted(users, items, scale, losses, aucs)
