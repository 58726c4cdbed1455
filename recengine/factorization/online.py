"""What a fitted model learns without `fit`: one user's further events, new rows of either side."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self

from recengine._types import Float32Array
from recengine._validation import as_matrix
from recengine.factorization import _online_rows
from recengine.factorization._fitted import Fitted, fixed_side
from recengine.factorization._gram import gram
from recengine.factorization._likes import as_likes
from recengine.factorization._priors import at, predicted
from recengine.factorization.folded_user import FoldedUser


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

    def fold_in_rows(self, matrix: Any, *, features: Any = None) -> Float32Array:
        """Return the users whom the rows of a matrix describe, against fixed item factors.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_rows, n_items)
            Weights as in `fit`.
        features : array_like or scipy sparse (n_rows, n_features), optional
            As in `fold_in`, a row for each.

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
        likes = as_likes(matrix, fitted.objective.alpha, signed=True)
        if likes.shape[1] != len(fitted.items):
            raise ValueError(
                f"matrix must have a column for each of the {len(fitted.items)} items, "
                f"got shape {likes.shape}"
            )
        priors = None
        if features is not None:
            priors = predicted("user", fitted.user_prior, features)
            if len(priors) != likes.shape[0]:
                raise ValueError(
                    f"features must have a row for each of the {likes.shape[0]} of matrix, "
                    f"got {len(priors)}"
                )
        return _online_rows.solved_rows(
            fitted.objective, fitted.side, likes, self._threads(), "row", priors
        )

    def partial_fit_users(self, user_indices: Any, rows: Any) -> Self:
        """Solve some users anew, against the item factors as they are.

        Parameters
        ----------
        user_indices : array_like (n,), int
            Distinct rows of `user_factors_`; n_users, n_users + 1, ... for new users, without gaps.
        rows : scipy sparse (n, n_items)
            All that each of them has had. Weights as in `fit`. A user of the fit keeps what the
            features of then predict; without entries one becomes that, or 0.

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
        shape = len(places), len(fitted.items)
        likes = as_likes(rows, fitted.objective.alpha, shape=shape, signed=True)
        threads = self._threads()
        solved = _online_rows.solved_rows(
            fitted.objective, fitted.side, likes, threads, "row", at(fitted.user_prior, places)
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
            All who have had each of them. Weights as in `fit`. An item of the fit keeps what the
            features of then predict; without entries one becomes that, or 0.

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
        shape = len(fitted.users), len(places)
        likes = as_likes(columns, fitted.objective.alpha, shape=shape, signed=True).transposed()
        threads = self._threads()
        product = fitted.user_gram
        if product is None:
            product = gram(fitted.users, threads)
            product.flags.writeable = False
        solved = _online_rows.solved_rows(
            fitted.objective,
            fixed_side(fitted.objective, fitted.users, product),
            likes,
            threads,
            "column",
            at(fitted.item_prior, places),
        )
        items, item_gram = _online_rows.with_rows(
            fitted.items, fitted.item_gram, places, solved, threads
        )
        assert item_gram is not None
        self._fitted = fitted.with_items(items, item_gram, product)
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
