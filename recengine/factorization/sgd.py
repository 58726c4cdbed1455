"""Biased matrix factorization of explicit ratings, by stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._errors import NotFittedError
from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import (
    as_count,
    as_generator,
    as_indices,
    as_k,
    as_real,
    as_vector,
)
from recengine.factorization import _sgd_training, _training
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
    threads_of,
)
from recengine.factorization._pairs import known_or_not, predicted
from recengine.factorization._progress import bar
from recengine.factorization._ranking import as_excluded, as_row, best, products, similar_rows
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


class SGD:
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
        self.factors = as_count("factors", factors, minimum=1)
        self.learning_rate = as_real("learning_rate", learning_rate, minimum=0, exclusive=True)
        self.regularization = as_real("regularization", regularization, minimum=0)
        check_decay(self.learning_rate, self.regularization)
        self.iterations = as_count("iterations", iterations, minimum=1)
        self.num_threads = as_threads(num_threads)
        as_generator(random_state)
        self.random_state = random_state
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
        self._fitted: _Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted"
        if self._fitted is not None:
            state = f"{len(self._fitted.users)} users, {len(self._fitted.items)} items"
        return (
            f"SGD(factors={self.factors}, learning_rate={self.learning_rate:g}, "
            f"regularization={self.regularization:g}, iterations={self.iterations}) <{state}>"
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
        threads = threads_of(self.num_threads)
        with (
            _training.workers(threads) as team,
            bar("SGD", self.iterations, progress) as advance,
        ):

            def after(epoch: int, rmse: float) -> bool:
                advance()
                return callback is not None and bool(callback(epoch, rmse))

            learned, rmses = _sgd_training.train(
                descent, ratings, held, start, generator, threads, team, after
            )
        users, items = joined(learned.users, learned.items, learned.item_biases)
        learned.user_biases.flags.writeable = False
        self._fitted = _Fitted(mean, users, items, learned.user_biases, rmses)
        return self

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("this SGD is not fitted: call fit(interactions) first")
        return self._fitted

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
    def item_biases_(self) -> Float32Array:
        """Biases of the items, (n_items,) float32, read-only: the last column of the factors."""
        return self._require().items[:, -1]

    @property
    def user_factors_(self) -> Float32Array:
        """Factors of the users and a column of ones, (n_users, factors + 1) float32, read-only."""
        return self._require().users

    @property
    def item_factors_(self) -> Float32Array:
        """Factors and biases of the items, (n_items, factors + 1) float32, read-only."""
        return self._require().items

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

    def recommend(self, user_index: Any, user_items_row: Any = None, k: int = 10) -> TopK:
        """Return the k items whose ratings by a user of `fit` are predicted best.

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
            Item indices and predicted ratings (k,), best first; index −1 and score −inf where items
            end.

        Notes
        -----
        O(n_items factors), in float64 without BLAS.
        """
        fitted = self._require()
        user = as_row("user_index", user_index, len(fitted.users))
        k = as_k(k, len(fitted.items))
        exclude = as_excluded(user_items_row, len(fitted.items))
        scores = products(fitted.items, fitted.users[user])
        scores += fitted.mean + float(fitted.user_biases[user])
        return best(scores, k, exclude)

    def similar_items(self, item_index: Any, k: int = 10) -> TopK:
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
        items = self._require().items
        return similar_rows(items, as_row("item_index", item_index, len(items)), k)

    def similar_users(self, user_index: Any, k: int = 10) -> TopK:
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
        users = self._require().users
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
            "user_biases": fitted.user_biases,
            "rmses": fitted.rmses,
        }
        meta = {name: getattr(self, name) for name in _SAVED}
        meta |= {"random_state": saved_seed(self.random_state), "mean": fitted.mean}
        return arrays, meta

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> SGD:
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
        check_parts(arrays, meta, _ARRAYS, (*_SAVED, "random_state", "mean"))
        model = cls(**{key: meta[key] for key in (*_SAVED, "random_state")})
        users, items = factors_from(arrays, model.factors)
        biases = as_vector("user_biases", arrays["user_biases"], len(users)).copy()
        biases.flags.writeable = False
        mean, rmses = as_real("mean", meta["mean"]), curve("rmses", arrays["rmses"])
        model._fitted = _Fitted(mean, users, items, biases, rmses)
        return model


_ARRAYS = ("user_factors", "item_factors", "user_biases", "rmses")
_SAVED = (
    "factors",
    "learning_rate",
    "regularization",
    "iterations",
    "validation_fraction",
    "patience",
)
