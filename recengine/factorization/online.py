"""What a fitted model learns without `fit`: one user's further events, new rows of either side."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from recengine._types import Float32Array
from recengine._validation import as_matrix
from recengine.factorization import _online_rows
from recengine.factorization._gram import gram
from recengine.factorization._likes import as_likes
from recengine.factorization.folded_user import FoldedUser

if TYPE_CHECKING:
    from recengine.factorization._fitted import Fitted


class Online:
    """What an `ALS` learns between two calls of `fit`.

    Every method leaves the other rows as they are and publishes by one reference: who reads beside
    it sees the model before or after. Changes from several threads must not overlap.
    """

    _fitted: Fitted | None

    def _require(self) -> Fitted:
        raise NotImplementedError

    def _threads(self) -> int:
        raise NotImplementedError

    def user(self, indices: Any = (), weights: Any = None) -> FoldedUser:
        """Return the user whom these items describe, kept warm for further events.

        Parameters
        ----------
        indices, weights
            As in `fold_in`.

        Returns
        -------
        FoldedUser
            ``user.factors`` is what `fold_in` returns; ``user.observe(index, weight)`` adds an
            event in O(factors²).

        Raises
        ------
        ValueError, TypeError
            As in `fold_in`.
        """
        fitted = self._require()
        return FoldedUser(fitted.objective, fitted.base, fitted.items, indices, weights)

    def fold_in_rows(self, matrix: Any) -> Float32Array:
        """Return the users whom the rows of a matrix describe, against fixed item factors.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_rows, n_items)
            Weights as in `fit`.

        Returns
        -------
        ndarray (n_rows, factors), float32
            Row by row the bits of `fold_in`.

        Raises
        ------
        ValueError, TypeError
            As in `fit`; the message names the row.

        Notes
        -----
        O(n_entries factors² + n_rows factors³), split over `num_threads`, without Numba.
        """
        fitted = self._require()
        likes = as_likes(matrix, fitted.objective.alpha)
        if likes.shape[1] != len(fitted.items):
            raise ValueError(
                f"matrix must have a column for each of the {len(fitted.items)} items, "
                f"got shape {likes.shape}"
            )
        return _online_rows.solved_rows(
            fitted.objective, fitted.base, fitted.items, likes, self._threads(), "row"
        )

    def partial_fit_users(self, user_indices: Any, rows: Any) -> Self:
        """Solve some users anew, against the item factors as they are.

        Parameters
        ----------
        user_indices : array_like (n,), int
            Distinct rows of `user_factors_`; n_users, n_users + 1, ... for new users, without gaps.
        rows : scipy sparse (n, n_items)
            All that each of them has had. Weights as in `fit`; without entries a user becomes 0.

        Returns
        -------
        ALS
            This model.

        Raises
        ------
        ValueError, TypeError
            Wrong arguments, or a system that cannot be solved; the model is unchanged then.

        Notes
        -----
        As `fold_in_rows`, and a copy of `user_factors_`.
        """
        fitted = self._require()
        places = _online_rows.as_places("user_indices", user_indices, len(fitted.users))
        likes = as_likes(rows, fitted.objective.alpha, shape=(len(places), len(fitted.items)))
        threads = self._threads()
        solved = _online_rows.solved_rows(
            fitted.objective, fitted.base, fitted.items, likes, threads, "row"
        )
        users, product = _online_rows.with_rows(
            fitted.users, fitted.user_gram, places, solved, threads
        )
        self._fitted = replace(fitted, users=users, user_gram=product)
        return self

    def partial_fit_items(self, item_indices: Any, columns: Any) -> Self:
        """Solve some items anew, against the user factors as they are.

        Parameters
        ----------
        item_indices : array_like (n,), int
            Distinct rows of `item_factors_`; n_items, n_items + 1, ... for new items, without gaps.
        columns : scipy sparse (n_users, n)
            All who have had each of them. Weights as in `fit`; without entries an item becomes 0.

        Returns
        -------
        ALS
            This model.

        Raises
        ------
        ValueError, TypeError
            Wrong arguments, or a system that cannot be solved; the model is unchanged then.

        Notes
        -----
        O(n_entries factors² + n factors³) split over `num_threads`, and a copy of `item_factors_`.
        The Gram matrix of all users is made by the first call, O(n_users factors²), and kept up
        since; that of the items changes by the rows that are solved, O(n factors²).
        """
        fitted = self._require()
        places = _online_rows.as_places("item_indices", item_indices, len(fitted.items))
        likes = as_likes(
            columns, fitted.objective.alpha, shape=(len(fitted.users), len(places))
        ).transposed()
        threads, weight = self._threads(), fitted.objective.unobserved_weight
        product = fitted.user_gram
        if product is None:
            product = gram(fitted.users, threads)
            product.flags.writeable = False
        solved = _online_rows.solved_rows(
            fitted.objective, weight * product, fitted.users, likes, threads, "column"
        )
        items, item_gram = _online_rows.with_rows(
            fitted.items, fitted.item_gram, places, solved, threads
        )
        assert item_gram is not None
        base = weight * item_gram
        base.flags.writeable = False
        self._fitted = replace(
            fitted, items=items, item_gram=item_gram, base=base, user_gram=product
        )
        return self

    def with_users(self, user_indices: Any, factors: Any) -> Self:
        """Return a model like this one in which these users have these factors.

        Parameters
        ----------
        user_indices : array_like (n,), int
            As in `partial_fit_users`.
        factors : array_like (n, factors)
            Finite; from `fold_in`, say.

        Returns
        -------
        ALS
            Another model; this one stays as it is, and the item factors are shared.

        Raises
        ------
        ValueError, TypeError
            Wrong arguments.
        """
        fitted = self._require()
        places = _online_rows.as_places("user_indices", user_indices, len(fitted.users))
        dim = fitted.items.shape[1]
        table = as_matrix("factors", factors, dim=dim, n_rows=len(places))
        users, product = _online_rows.with_rows(
            fitted.users, fitted.user_gram, places, table, self._threads()
        )
        model = copy.copy(self)
        model._fitted = replace(fitted, users=users, user_gram=product)
        return model
