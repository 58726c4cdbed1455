"""implicit's BayesianPersonalizedRanking over `recengine.BPR`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from recengine._types import Float32Array
from recengine.compat.implicit._factor_model import FactorModel
from recengine.compat.implicit._options import as_draw, check_options
from recengine.compat.implicit._side import as_rows
from recengine.factorization import BPR
from recengine.factorization._progress import bar

_NUMBERS = (
    *("factors", "learning_rate", "regularization", "dtype", "iterations"),
    *("num_threads", "verify_negative_samples", "random_state"),
)


class BayesianPersonalizedRanking(FactorModel):
    """Factors that rank what a user likes above what they do not, under implicit's signatures.

    Parameters
    ----------
    factors : int, default 100
    learning_rate : float, default 0.01
    regularization : float, default 0.01
    dtype : float32
        Anything else is refused.
    iterations : int, default 100
    use_gpu : False
        Anything else is a DeviceError.
    num_threads : int, default 0
        0: what this process may use.
    verify_negative_samples : True
        Anything else is refused: an item that a user likes is never their negative.
    random_state : int, Generator, RandomState or None

    Attributes
    ----------
    user_factors : ndarray (n_users, factors + 1), float32, or None before `fit`
        The last column is 1.
    item_factors : ndarray (n_items, factors + 1), float32, or None before `fit`
        The last column is the bias.

    Notes
    -----
    `recengine.compat.implicit` has the table of differences. Both draw the factors that they start
    from uniformly in ``±0.5 / factors``, but other numbers; implicit draws negatives by popularity,
    this by `recengine.BPR`, uniformly. A second `fit` goes on from the factors that are there.

    References
    ----------
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian personalized ranking from
    implicit feedback, 2009.
    """

    _SAVED = ("user_factors", "item_factors", *_NUMBERS)

    def __init__(
        self,
        factors: int = 100,
        learning_rate: float = 0.01,
        regularization: float = 0.01,
        dtype: Any = np.float32,
        iterations: int = 100,
        use_gpu: bool = False,
        num_threads: int = 0,
        verify_negative_samples: bool = True,
        random_state: Any = None,
    ) -> None:
        super().__init__(num_threads)
        check_options(dtype, use_gpu)
        if not verify_negative_samples:
            raise ValueError(
                f"verify_negative_samples must be True, got {verify_negative_samples!r}: what a "
                "user likes is never drawn as their negative"
            )
        self.factors = factors
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.dtype = np.dtype(np.float32)
        self.iterations = iterations
        self.verify_negative_samples = True
        self.random_state = random_state
        self._trainer(self.iterations, as_draw(random_state))  # checks the numbers

    def _trainer(self, iterations: int, draw: np.random.Generator) -> BPR:
        return BPR(
            self.factors,
            self.learning_rate,
            self.regularization,
            iterations,
            num_threads=self._threads(),
            random_state=draw,
        )

    def fit(
        self,
        user_items: Any,
        show_progress: bool = True,
        callback: Callable[[int, float, int, int], Any] | None = None,
    ) -> None:
        """Learn the factors of a matrix whose entries are likes, whatever their weight.

        Parameters
        ----------
        user_items : sparse (n_users, n_items)
            Explicit zeros are not likes.
        show_progress : bool
            Draw a bar on standard error.
        callback : callable, optional
            Called after each epoch with its number, its seconds, how many pairs were in the right
            order before their step, and how many were skipped: those of users who like all items.

        Raises
        ------
        ValueError
            A weight is negative or not finite, factors that are there have another shape, or the
            factors overflow (`learning_rate` is too large). The model is unchanged then.
        """
        likes = as_rows("user_items", user_items, range(user_items.shape[0]), user_items.shape[1])
        draw = as_draw(self.random_state)
        users, items = self.user_factors, self.item_factors
        if items is None:
            items = self._drawn(draw, np.bincount(likes.indices, minlength=likes.shape[1]))
        if users is None:
            users = self._drawn(draw, np.diff(likes.indptr))
            users[:, -1] = 1
        shown = bool(show_progress)
        if callback is None:
            model = self._trainer(self.iterations, draw)
            model.fit(likes, init=(users, items), progress=shown)
        else:
            model = self._by_epochs(likes, (users, items), draw, shown, callback)
        self.user_factors, self.item_factors = model.user_factors_, model.item_factors_

    def _drawn(self, draw: np.random.Generator, counts: Any) -> Float32Array:
        """Return where rows of `counts` entries start: 0 where there are none."""
        drawn = draw.random((len(counts), self.factors + 1), dtype=np.float32) - np.float32(0.5)
        drawn /= np.float32(self.factors)
        drawn[counts == 0] = 0
        return drawn

    def _by_epochs(
        self,
        likes: Any,
        init: tuple[Float32Array, Float32Array],
        draw: np.random.Generator,
        show_progress: bool,
        callback: Callable[..., Any],
    ) -> BPR:
        model, counts = self._trainer(1, draw), np.diff(likes.indptr)
        skipped = int(counts[counts == likes.shape[1]].sum())
        with bar("BPR", self.iterations, show_progress) as advance:
            for epoch in range(self.iterations):
                began = time.perf_counter()
                model.fit(likes, init=init)
                init = model.user_factors_, model.item_factors_
                advance()
                correct = round(float(model.aucs_[0]) * (int(counts.sum()) - skipped))
                callback(epoch, time.perf_counter() - began, correct, skipped)
        return model
