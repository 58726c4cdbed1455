"""Biased matrix factorization of explicit ratings, by stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count, as_generator, as_indices, as_real, as_vector
from recengine.factorization import _sgd_training
from recengine.factorization._biased import Biased, curve, joined
from recengine.factorization._factored import factors_from
from recengine.factorization._options import as_flag, check_callback
from recengine.factorization._pairs import known_or_not, predicted
from recengine.factorization._ratings import as_ratings, merged_ratings
from recengine.factorization._sgd_fold_in import fold_ratings
from recengine.factorization._sgd_training import Descent

_SWEEPS = 500  # of one fold-in, at most: it ends when nothing moves


@dataclass(frozen=True)
class _Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    mean: float
    users: Float32Array
    items: Float32Array
    user_biases: Float32Array
    rmses: Float64Array


class SGD(Biased[_Fitted]):
    """Factors and biases that predict ratings, by stochastic gradient descent.

    A rating of user u for item i is predicted as ``mean + b_u + b_i + x_u·y_i``; each epoch takes
    one step for every rating down the gradient of its squared error, plus `regularization` times
    the squares of what it touches.

    Parameters
    ----------
    factors : int, default 64
        Numbers that describe a user or an item, beside their biases.
    learning_rate : float, default 0.01
        Length of a step, > 0.
    regularization : float, default 0.1
        Weight of the squares, >= 0; ``learning_rate * regularization`` is < 1.
    iterations : int, default 60
        Epochs, at most.
    num_threads : int or None
        Threads of `fit`; None: what this process may use (affinity and quota). At most 16 have
        work, and fewer where there are less than a million ratings.
    random_state : int, Generator or None
        Seed of held-out ratings, initial factors and blocks; None: a new one each time.
    validation_fraction : float, default 0
        The share of the ratings, in [0, 1), that is held out, each by chance. With any, the factors
        are those of the epoch that predicts them best.
    patience : int, optional
        With held-out ratings only: training ends after so many epochs without a better one; 3 when
        omitted.

    Attributes
    ----------
    mean_ : float
        Mean of the ratings trained on.
    user_biases_ : ndarray (n_users,), float32, read-only
    item_biases_ : ndarray (n_items,), float32, read-only
    user_factors_ : ndarray (n_users, factors + 1), float32, C-contiguous, read-only
        The last column is 1, so that an inner product ranks items, bias included.
    item_factors_ : ndarray (n_items, factors + 1), float32, C-contiguous, read-only
        The last column is the bias. Users and items without ratings have zeros.
    rmses_ : ndarray (epochs,), float64, read-only
        Root mean squared error of the held-out ratings after each epoch; without any, of its own
        ratings, each just before its step.

    Notes
    -----
    What is stored is a rating, of either sign; a stored zero is a rating of 0, but sparse matrices
    made from dense ones store none: what is not stored is not known. Shift ratings that may be 0.

    Cost of an epoch: O(n_ratings factors). Memory beyond the factors: two copies of the matrix and
    of the factors. The factors are the same bits at any `num_threads` for a given (seed, data) on
    one machine: steps of one turn touch no row twice (see `_grid`). A fitted model is immutable and
    may be used from any number of threads. Checked against a float64 NumPy oracle.

    References
    ----------
    Koren, Bell, Volinsky: Matrix factorization techniques for recommender systems, 2009, equations
    4 and 5, which follow S. Funk: Netflix update: try this at home, 2006.
    """

    _shown = ("factors", "learning_rate", "regularization", "iterations")
    _settings = (*_shown, "validation_fraction", "patience", "random_state")
    _arrays = ("user_factors", "item_factors", "user_biases", "rmses")
    _facts = ("mean",)

    def __init__(
        self,
        factors: int = 64,
        learning_rate: float = 0.01,
        regularization: float = 0.1,
        iterations: int = 60,
        num_threads: int | None = None,
        random_state: int | np.random.Generator | None = None,
        *,
        validation_fraction: float = 0.0,
        patience: int | None = None,
    ) -> None:
        super().__init__(
            factors, learning_rate, regularization, iterations, num_threads, random_state
        )
        self.validation_fraction = as_real("validation_fraction", validation_fraction, minimum=0)
        if self.validation_fraction >= 1:
            raise ValueError(f"validation_fraction must be < 1, got {validation_fraction}")
        if patience is not None and self.validation_fraction == 0:
            raise ValueError(f"patience must be None unless ratings are held out, got {patience}")
        held_out = self.validation_fraction > 0
        self.patience = (
            as_count("patience", 3 if patience is None else patience, minimum=1)
            if held_out
            else None
        )

    # --- training -------------------------------------------------------------------------------

    def fit(
        self,
        matrix: Any,
        init: Any = None,
        progress: bool = False,
        callback: Callable[[int, float], Any] | None = None,
    ) -> SGD:
        """Learn the factors of the ratings in `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Ratings, of either sign. Duplicates are summed, as scipy does; stored zeros count.
        init : (user_factors, item_factors), optional
            Where to start, of the shapes of the attributes, copied; otherwise drawn: normal with
            deviation ``0.1 / sqrt(factors)``, biases 0. User biases begin at 0.
        progress : bool
            Draw a bar on standard error.
        callback : callable, optional
            Called as ``callback(epoch, rmse)`` after each epoch (from 1), on this thread; the RMSE
            as in `rmses_`. True ends training there.

        Returns
        -------
        SGD
            This model.

        Raises
        ------
        TypeError
            `matrix` is not sparse or does not hold real numbers; `progress` is not a bool.
        ValueError
            A rating is not finite, `init` has the wrong shape, no rating would be held out or none
            trained on, or the factors overflow (`learning_rate` is too large). The model is
            unchanged then.
        """
        as_flag("progress", progress)
        check_callback(callback)
        generator = as_generator(self.random_state)
        mean, ratings, held = _sgd_training.centred(
            as_ratings(matrix), self.validation_fraction, generator
        )
        start = _sgd_training.begin(ratings, self.factors, init, generator)
        descent = Descent(
            self.learning_rate, self.regularization, self.iterations, self.patience or 0
        )
        with self._epochs(progress, callback) as epochs:
            learned, rmses = _sgd_training.train(descent, ratings, held, start, generator, *epochs)
        users, items = joined(learned.users, learned.items, learned.item_biases)
        learned.user_biases.flags.writeable = False
        self._fitted = _Fitted(mean, users, items, learned.user_biases, rmses)
        return self

    # --- what was learned -----------------------------------------------------------------------

    @property
    def mean_(self) -> float:
        """Mean of the ratings trained on."""
        return self._require().mean

    @property
    def user_biases_(self) -> Float32Array:
        """Biases of the users, (n_users,) float32, read-only."""
        return self._require().user_biases

    @property
    def rmses_(self) -> Float64Array:
        """Root mean squared error of each epoch, (epochs,) float64, read-only."""
        return self._require().rmses

    def predict(self, user_indices: Any, item_indices: Any) -> Float32Array:
        """Return the predicted ratings of pairs of a user and an item.

        Parameters
        ----------
        user_indices, item_indices : array_like (n,), int
            Rows of `user_factors_` and `item_factors_`; −1 for one that is not known, whose bias
            and factors are 0.

        Returns
        -------
        ndarray (n,), float32
            Not clipped to any scale of ratings.

        Raises
        ------
        ValueError
            An index outside [−1, n), or the two differ in length.

        Notes
        -----
        O(n factors), summed in float64.
        """
        fitted = self._require()
        users = known_or_not("user_indices", user_indices, len(fitted.users))
        items = known_or_not("item_indices", item_indices, len(fitted.items))
        if users.shape != items.shape:
            raise ValueError(
                f"item_indices must have shape {users.shape}, as user_indices, got {items.shape}"
            )
        return predicted(fitted.mean, fitted.user_biases, fitted.users, fitted.items, users, items)

    def fold_in(self, indices: Any, ratings: Any) -> Float32Array:
        """Return the user whom these ratings describe, against fixed items.

        Parameters
        ----------
        indices : array_like (n,), int
            Rows of `item_factors_`, in any order; the ratings of a repeated item are summed.
        ratings : array_like (n,)

        Returns
        -------
        ndarray (factors + 1,), float32
            As a row of `user_factors_`; 0, and 1 at the end, without ratings. `predict_for` has
            that user's bias as well.

        Raises
        ------
        ValueError
            An index outside [0, n_items), or a rating that is not finite.

        Notes
        -----
        The minimum of Σ (r − mean − b_i − b − x·y_i)² + λ n (b² + ‖x‖²) over b and x, to which the
        steps of `fit` tend: one coordinate at a time until none moves. O(n factors) for each of at
        most 500 sweeps, on the caller's thread, without the GIL, BLAS or Numba; safe from any
        number of threads. Checked against solving the normal equations in NumPy.
        """
        return self._fold(self._require(), indices, ratings)[1]

    def predict_for(self, indices: Any, ratings: Any, item_indices: Any) -> Float32Array:
        """Return the predicted ratings of a user whom only these ratings describe.

        Parameters
        ----------
        indices, ratings : array_like (n,)
            As `fold_in` takes them.
        item_indices : array_like (m,), int
            Rows of `item_factors_`; −1 for an item that is not known.

        Returns
        -------
        ndarray (m,), float32
        """
        fitted = self._require()
        items = known_or_not("item_indices", item_indices, len(fitted.items))
        bias, user = self._fold(fitted, indices, ratings)
        biases, nobody = np.array([bias], np.float32), np.zeros(len(items), np.int64)
        return predicted(fitted.mean, biases, user[None], fitted.items, nobody, items)

    def _fold(self, fitted: _Fitted, indices: Any, ratings: Any) -> tuple[float, Float32Array]:
        rows = as_indices("indices", indices, size=len(fitted.items))
        rows, values = merged_ratings(rows, ratings)
        bias, user = fold_ratings(
            fitted.items, rows, values, fitted.mean, self.regularization, _SWEEPS
        )
        if not np.isfinite(user).all() or not np.isfinite(np.float32(bias)):
            raise ValueError(
                f"ratings must keep factors within float32, got {np.abs(values).max():g}"
            )
        return bias, user

    def _scores(self, fitted: _Fitted, user: int) -> Float64Array:
        scores = super()._scores(fitted, user)
        scores += fitted.mean + float(fitted.user_biases[user])
        return scores

    # --- persistence ----------------------------------------------------------------------------

    def _saved(self, fitted: _Fitted) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = {
            "user_factors": fitted.users,
            "item_factors": fitted.items,
            "user_biases": fitted.user_biases,
            "rmses": fitted.rmses,
        }
        return arrays, {"mean": fitted.mean}

    def _restored(self, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> _Fitted:
        users, items = factors_from(arrays, self.factors + 1)
        biases = as_vector("user_biases", arrays["user_biases"], len(users)).copy()
        biases.flags.writeable = False
        mean, rmses = as_real("mean", meta["mean"]), curve("rmses", arrays["rmses"])
        return _Fitted(mean, users, items, biases, rmses)
