"""What a model of factors answers: a row for each user and item, ranked by inner products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import as_k, as_matrix
from recengine.factorization._learned import Learned
from recengine.factorization._ranking import as_excluded, as_row, best, products, similar_rows


class Factors(Protocol):
    """What one fit learned, at least: read-only factors, a row each."""

    @property
    def users(self) -> Float32Array:
        """(n_users, width) float32."""

    @property
    def items(self) -> Float32Array:
        """(n_items, width) float32."""


F = TypeVar("F", bound=Factors)


class Factored(Learned[F]):
    """The part of a model that its factors give."""

    def _shape(self, fitted: F) -> tuple[int, int]:
        return len(fitted.users), len(fitted.items)

    def _scores(self, fitted: F, user: int) -> Float64Array:
        """Return the score of each item for a user."""
        return products(fitted.items, fitted.users[user])

    def _tastes(self, fitted: F) -> Float32Array:
        """Return the columns of the users' factors that tell users apart."""
        return fitted.users

    @property
    def user_factors_(self) -> Float32Array:
        """Factors of the users, (n_users, factors) float32, read-only.

        Where items have biases there is a column of ones more.
        """
        return self._require().users

    @property
    def item_factors_(self) -> Float32Array:
        """Factors of the items, (n_items, factors) float32, read-only.

        Where items have biases these are a column more, the last.
        """
        return self._require().items

    def recommend(self, user_index: Any, user_items_row: Any = None, k: int = 10) -> TopK:
        """Return the best k items of a user whom the model knows.

        Parameters
        ----------
        user_index : int
            Row of `user_factors_`.
        user_items_row : scipy sparse (1, n_items) or array_like (n,), int, optional
            Items to leave out: the user's row of the matrix, or item indices.
        k : int
            >= 0.

        Returns
        -------
        TopK
            ids (k,) int64, rows of `item_factors_`, and scores (k,) float32: inner products of
            factors, of `SGD` predicted ratings. Score descending, then row ascending; id −1 and
            score −inf where fewer than k items are left.

        Raises
        ------
        ValueError
            An index or k out of range, or a row of another length.

        Notes
        -----
        Float64 sums rounded once to float32; O(n_items factors) on the caller's thread, without
        BLAS or Numba.
        """
        fitted = self._require()
        n_users, n_items = self._shape(fitted)
        user = as_row("user_index", user_index, n_users)
        k, exclude = as_k(k, n_items), as_excluded(user_items_row, n_items)
        return best(self._scores(fitted, user), k, exclude)

    def similar_items(self, item_index: Any, k: int = 10) -> TopK:
        """Return the k other items whose factors, any bias included, have the largest cosine.

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
        """Return the k other users whose factors, without any ones, have the largest cosine.

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
        users = self._tastes(self._require())
        return similar_rows(users, as_row("user_index", user_index, len(users)), k)


def factors_from(arrays: Mapping[str, Any], width: int) -> tuple[Float32Array, Float32Array]:
    """Return read-only (users, items) of a saved model; read-only float32 input is borrowed."""
    parts = []
    for name in ("user_factors", "item_factors"):
        part = as_matrix(name, arrays[name], dim=width)
        if part.flags.writeable:
            part = part.copy()
            part.flags.writeable = False
        parts.append(part)
    return parts[0], parts[1]
