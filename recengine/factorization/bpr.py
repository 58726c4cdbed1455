"""Bayesian personalized ranking for implicit feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recengine._errors import NotFittedError
from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import as_choice, as_count, as_generator, as_indices, as_real
from recengine.factorization import _bpr_training, _training
from recengine.factorization._biased import (
    as_flag,
    as_threads,
    check_callback,
    check_decay,
    check_parts,
    curve,
    factors_from,
    joined,
    saved_seed,
    starting_factors,
    threads_of,
)
from recengine.factorization._bpr_training import NEGATIVES, Descent, Factors
from recengine.factorization._likes import Likes, as_likes, merged_events
from recengine.factorization._progress import bar
from recengine.factorization._ranking import as_row, recommend_from_factors, similar_rows
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


class BPR:
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
        self.factors = as_count("factors", factors, minimum=1)
        self.learning_rate = as_real("learning_rate", learning_rate, minimum=0, exclusive=True)
        self.regularization = as_real("regularization", regularization, minimum=0)
        check_decay(self.learning_rate, self.regularization)
        self.iterations = as_count("iterations", iterations, minimum=1)
        self.negatives = as_choice("negatives", negatives, NEGATIVES)
        self.num_threads = as_threads(num_threads)
        as_generator(random_state)
        self.random_state = random_state
        self.weighted = as_flag("weighted", weighted)
        self._fitted: _Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted"
        if self._fitted is not None:
            state = f"{len(self._fitted.users)} users, {len(self._fitted.items)} items"
        return (
            f"BPR(factors={self.factors}, learning_rate={self.learning_rate:g}, "
            f"regularization={self.regularization:g}, iterations={self.iterations}, "
            f"negatives={self.negatives!r}) <{state}>"
        )

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
        threads = threads_of(self.num_threads)
        with (
            _training.workers(threads) as team,
            bar("BPR", self.iterations, progress) as advance,
        ):

            def after(epoch: int, loss: float) -> bool:
                advance()
                return callback is not None and bool(callback(epoch, loss))

            descent = Descent(
                self.learning_rate, self.regularization, self.iterations, self.negatives
            )
            losses, aucs = _bpr_training.train(
                descent, likes, factors, generator, threads, team, after
            )
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

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("this BPR is not fitted: call fit(interactions) first")
        return self._fitted

    # --- what was learned -----------------------------------------------------------------------

    @property
    def user_factors_(self) -> Float32Array:
        """Factors of the users and a column of ones, (n_users, factors + 1) float32, read-only."""
        return self._require().users

    @property
    def item_factors_(self) -> Float32Array:
        """Factors and biases of the items, (n_items, factors + 1) float32, read-only."""
        return self._require().items

    @property
    def item_biases_(self) -> Float32Array:
        """Biases of the items, (n_items,) float32, read-only: the last column of the factors."""
        return self._require().items[:, -1]

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

    def recommend(self, user_index: int, user_items_row: Any = None, k: int = 10) -> TopK:
        """Return the best k items of a user of `fit`.

        Parameters
        ----------
        user_index : int
            Row of `user_factors_`.
        user_items_row : sparse (1, n_items) or array_like of item indices, optional
            Items that are left out, such as the user's row of the matrix.
        k : int
            >= 0.

        Returns
        -------
        TopK
            Item indices and scores (k,), best first; index −1 and score −inf where items end.

        Notes
        -----
        O(n_items factors), in float64 without BLAS.
        """
        users, items = self.user_factors_, self.item_factors_
        row = as_row("user_index", user_index, len(users))
        return recommend_from_factors(users[row], items, k, user_items_row)

    def similar_items(self, item_index: int, k: int = 10) -> TopK:
        """Return the k other items whose factors, bias included, have the largest cosine.

        Parameters
        ----------
        item_index : int
            Row of `item_factors_`.
        k : int

        Returns
        -------
        TopK
            As `recommend` does, over items; a cosine with a zero vector is 0.
        """
        items = self.item_factors_
        return similar_rows(items, as_row("item_index", item_index, len(items)), k)

    def similar_users(self, user_index: int, k: int = 10) -> TopK:
        """Return the k other users whose factors, without the ones, have the largest cosine.

        Parameters
        ----------
        user_index : int
            Row of `user_factors_`.
        k : int

        Returns
        -------
        TopK
            As `recommend` does, over users; a cosine with a zero vector is 0.
        """
        users = self.user_factors_
        return similar_rows(users[:, :-1], as_row("user_index", user_index, len(users)), k)

    # --- persistence ----------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, meta): plain numeric arrays and a JSON object, for `from_state`.

        `num_threads` and a Generator given as `random_state` belong to the process and are left
        out.
        """
        fitted = self._require()
        arrays = {
            "user_factors": fitted.users,
            "item_factors": fitted.items,
            "losses": fitted.losses,
            "aucs": fitted.aucs,
        }
        meta = {name: getattr(self, name) for name in _SAVED}
        meta |= {"random_state": saved_seed(self.random_state), "scale": fitted.scale}
        return arrays, meta

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> BPR:
        """Return the model that `state` described; float32 arrays (mmapped ones too) are borrowed.

        Parameters
        ----------
        arrays, meta : mappings
            The two parts that `state` returned.

        Raises
        ------
        ValueError
            A part is missing, or the parts do not fit together.
        """
        check_parts(arrays, meta, _ARRAYS, (*_SAVED, "random_state", "scale"))
        model = cls(**{key: meta[key] for key in (*_SAVED, "random_state")})
        users, items = factors_from(arrays, model.factors)
        losses, aucs = curve("losses", arrays["losses"]), curve("aucs", arrays["aucs"])
        scale = as_real("scale", meta["scale"], minimum=0, exclusive=True)
        model._fitted = _Fitted(users, items, scale, losses, aucs)
        return model


_ARRAYS = ("user_factors", "item_factors", "losses", "aucs")
_SAVED = (
    "factors",
    "learning_rate",
    "regularization",
    "iterations",
    "negatives",
    "weighted",
)
