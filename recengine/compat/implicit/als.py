"""implicit's AlternatingLeastSquares over `recengine.ALS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count
from recengine.compat.implicit._als_rows import by_epochs, explained, solved_rows
from recengine.compat.implicit._factor_model import FactorModel
from recengine.compat.implicit._options import as_draw, check_options
from recengine.compat.implicit._side import Side, as_row_numbers, as_rows
from recengine.factorization import ALS

_NUMBERS = (
    *("factors", "regularization", "alpha", "dtype", "use_cg", "iterations"),
    *("calculate_training_loss", "num_threads", "random_state"),
)


class AlternatingLeastSquares(FactorModel):
    """Factors of implicit feedback by alternating least squares, under implicit's signatures.

    Parameters
    ----------
    factors : int, default 100
    regularization : float, default 0.01
    alpha : float, default 1.0
        What every weight is multiplied with.
    dtype : float32
        Anything else is refused.
    use_native : True
        Anything else is refused.
    use_cg : bool, default True
        True: steps of conjugate gradients, preconditioned here. False: each row's exact solution.
    use_gpu : False
        Anything else is a DeviceError.
    iterations : int, default 15
    calculate_training_loss : bool, default False
        Compute the loss after each epoch: for the callback, and logged to "recengine".
    num_threads : int, default 0
        0: what this process may use.
    random_state : int, Generator, RandomState or None
        The initial factors are those that implicit draws from it.

    Attributes
    ----------
    user_factors, item_factors : ndarray (n, factors), float32, or None before `fit`
        Where `fit` starts, when they are there. Read-only; another array may be assigned.

    Notes
    -----
    `recengine.compat.implicit` has the table of differences. A second `fit` goes on from the
    factors that are there, as in implicit.

    References
    ----------
    Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, 2008.
    """

    _SAVED = ("user_factors", "item_factors", "use_native", "cg_steps", *_NUMBERS)

    def __init__(
        self,
        factors: int = 100,
        regularization: float = 0.01,
        alpha: float = 1.0,
        dtype: Any = np.float32,
        use_native: bool = True,
        use_cg: bool = True,
        use_gpu: bool = False,
        iterations: int = 15,
        calculate_training_loss: bool = False,
        num_threads: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(num_threads)
        check_options(dtype, use_gpu)
        if not use_native:
            raise ValueError(f"use_native must be True, got {use_native!r}: there is one kernel")
        self.factors = factors
        self.regularization = regularization
        self.alpha = alpha
        self.dtype = np.dtype(np.float32)
        self.use_native = True
        self.use_cg = use_cg
        self.cg_steps = 3
        self.iterations = iterations
        self.calculate_training_loss = calculate_training_loss
        self.random_state = random_state
        self.fit_callback: Callable[..., Any] | None = None
        self._solver()  # checks the numbers
        as_draw(random_state)

    def _solver(self, iterations: int | None = None) -> ALS:
        return ALS(
            self.factors,
            self.regularization,
            self.alpha,
            self.iterations if iterations is None else iterations,
            solver="cg" if self.use_cg else "cholesky",
            cg_steps=self.cg_steps if self.use_cg else None,
            num_threads=self._threads(),
        )

    # --- training -------------------------------------------------------------------------------

    def fit(
        self,
        user_items: Any,
        show_progress: bool = True,
        callback: Callable[[int, float, float | None], Any] | None = None,
    ) -> None:
        """Learn the factors of a matrix of confidences.

        Parameters
        ----------
        user_items : sparse (n_users, n_items)
            Duplicates are summed, explicit zeros are no events, negative weights are dislikes.
        show_progress : bool
            Draw a bar on standard error.
        callback : callable, optional
            Called after each epoch with its number, its seconds, and the loss, which is None
            unless `calculate_training_loss`. `fit_callback` where omitted.

        Raises
        ------
        ValueError
            A weight is not finite, factors that are there have another shape, or a
            system cannot be solved. The model is unchanged then.
        """
        draw, callback = as_draw(self.random_state), callback or self.fit_callback
        shown = bool(show_progress)
        users, items = self.user_factors, self.item_factors
        if users is None:
            users = self._drawn(draw, user_items.shape[0])
        if items is None:
            items = self._drawn(draw, user_items.shape[1])
        if callback is None and not self.calculate_training_loss:
            model = self._solver().fit(
                user_items, init=(users, items), progress=bool(show_progress)
            )
        else:
            model = by_epochs(
                self._solver(1),
                user_items,
                (users, items),
                self.iterations,
                with_loss=self.calculate_training_loss,
                show_progress=shown,
                callback=callback,
            )
        self.user_factors, self.item_factors = model.user_factors_, model.item_factors_

    def _drawn(self, draw: np.random.Generator, n_rows: int) -> Float32Array:
        return draw.random((n_rows, self.factors), dtype=np.float32) * np.float32(0.01)

    # --- one row at a time ----------------------------------------------------------------------

    @property
    def YtY(self) -> Float64Array:
        """Gram matrix of the items, (factors, factors) float64."""
        return self._side("item").gram

    @property
    def XtX(self) -> Float64Array:
        """Gram matrix of the users, (factors, factors) float64."""
        return self._side("user").gram

    def recalculate_user(self, userid: Any, user_items: Any) -> Float32Array:
        """Return the factors that `user_items` alone gives these users; nothing is stored.

        Parameters
        ----------
        userid : int or array_like (n,), int
            May be new: only their number counts.
        user_items : sparse (n, n_items)

        Returns
        -------
        ndarray (factors,) or (n, factors), float32

        Notes
        -----
        O(n_entries factors² + n factors³), exact; safe from any number of threads.
        """
        return self._solved("user_items", userid, user_items, self._side("item"))

    def recalculate_item(self, itemid: Any, item_users: Any) -> Float32Array:
        """Return the factors that `item_users` alone gives these items; nothing is stored."""
        return self._solved("item_users", itemid, item_users, self._side("user"))

    def _solved(self, name: str, ids: Any, matrix: Any, fixed: Side) -> Float32Array:
        rows = solved_rows(self._solver(), fixed, as_rows(name, matrix, ids, len(fixed)))
        return rows[0] if np.isscalar(ids) else rows

    def partial_fit_users(self, userids: Any, user_items: Any) -> None:
        """Solve these users anew from `user_items`, and keep them; new ids add rows.

        Parameters
        ----------
        userids : array_like (n,), int
            Rows between the last one and a new one are 0.
        user_items : sparse (n, n_items)
        """
        solved = self.recalculate_user(userids, user_items)
        self._user = self._side("user").extended(userids, solved)

    def partial_fit_items(self, itemids: Any, item_users: Any) -> None:
        """Solve these items anew from `item_users`, and keep them; new ids add rows."""
        solved = self.recalculate_item(itemids, item_users)
        self._item = self._side("item").extended(itemids, solved)

    # --- why ------------------------------------------------------------------------------------

    def explain(
        self,
        userid: int,
        user_items: Any,
        itemid: int,
        user_weights: Any = None,
        N: int = 10,
    ) -> tuple[float, list[tuple[int, float]], Any]:
        """Return which of a user's items speak for `itemid`, and how much.

        Parameters
        ----------
        userid : int
            A row of `user_items`.
        user_items : sparse (n_users, n_items)
            Row `userid` of it is the user: the trained factors are not used.
        itemid : int
        user_weights : tuple, optional
            The third part of an earlier answer for this user: spares a factorization.
        N : int
            How many contributions.

        Returns
        -------
        total_score : float
            The sum of all contributions: the item's score for the user of that row.
        top_contributions : list of (itemid, score)
            The `N` largest, largest first.
        user_weights : tuple
            The Cholesky factors of the user's system, as ``scipy.linalg.cho_factor`` returns them.

        References
        ----------
        Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, 2008,
        section 5.
        """
        from scipy.sparse import csr_array

        rows = as_row_numbers("userid", userid, user_items.shape[0])
        likes = as_rows("user_items", csr_array(user_items)[rows], userid, len(self._side("item")))
        weights = self.alpha * likes.data.astype(np.float64)
        return explained(
            self._side("item"),
            likes.indices,
            weights,
            self.regularization,
            itemid,
            user_weights,
            as_count("N", N),
        )
