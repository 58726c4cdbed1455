"""What a model that keeps its matrix answers: scores of all items, for users known or new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from recengine._types import Float64Array, TopK
from recengine._validation import as_count, as_k
from recengine.factorization import _rows
from recengine.factorization._learned import Learned
from recengine.factorization._likes import Likes
from recengine.factorization._options import as_flag
from recengine.factorization._ranking import as_excluded, as_row, best


@dataclass(frozen=True)
class Kept:
    """What one fit learned, read-only, replaced as a whole."""

    likes: Likes  # users x items


F = TypeVar("F", bound=Kept)


class KeepsMatrix(Learned[F]):
    """The part of a model that ranks all items by what a row of the matrix holds."""

    _facts: ClassVar[tuple[str, ...]] = ("shape",)

    def _scores(self, fitted: F, user: int) -> Float64Array:
        """Return the score of each item for a user of the matrix."""
        raise NotImplementedError

    def _scores_for(self, fitted: F, events: Likes) -> Float64Array:
        """Return the score of each item for a user of this one row."""
        raise NotImplementedError

    def _learned_arrays(self, fitted: F) -> dict[str, Any]:
        """Return the arrays of `state` beside those of the matrix."""
        raise NotImplementedError

    def _restored_from(self, likes: Likes, arrays: Mapping[str, Any]) -> F:
        """Return what was learned of the matrix `likes`."""
        raise NotImplementedError

    def _shape(self, fitted: F) -> tuple[int, int]:
        return fitted.likes.shape

    def recommend(self, user_index: Any, user_items_row: Any = None, k: int = 10) -> TopK:
        """Return the best k items of a user of the matrix.

        Parameters
        ----------
        user_index : int
            Row of the matrix of `fit`.
        user_items_row : scipy sparse (1, n_items) or array_like (n,), int, optional
            Items to leave out: the user's row of the matrix, or item indices.
        k : int

        Returns
        -------
        TopK
            ids (k,) int64, columns of the matrix, and scores (k,) float32, 0 where nothing
            speaks for an item. Score descending, then column ascending; id −1 and score −inf
            where fewer than k items are left.

        Raises
        ------
        ValueError
            An index or k out of range, or a row of another length.

        Notes
        -----
        Float64 sums rounded once to float32, on the caller's thread, without BLAS or Numba. For
        `EASE` O(n_items) for each item of the user, for neighbours as many as are summed.
        """
        fitted = self._require()
        n_users, n_items = fitted.likes.shape
        k, exclude = as_k(k, n_items), as_excluded(user_items_row, n_items)
        user = as_row("user_index", user_index, n_users)
        return best(self._scores(fitted, user), k, exclude)

    def recommend_for(self, user_items_row: Any, k: int = 10, exclude_seen: bool = True) -> TopK:
        """Return the best k items of a user whom the matrix need not hold.

        Parameters
        ----------
        user_items_row : scipy sparse (1, n_items) or array_like (n,), int
            What the user did: a row with its weights, or item indices that weigh 1 each.
        k : int
        exclude_seen : bool
            Leave out the items of the row.

        Returns
        -------
        TopK
            As `recommend` does.

        Raises
        ------
        ValueError
            An index, a weight or k out of range, or a row of another length.
        """
        fitted = self._require()
        as_flag("exclude_seen", exclude_seen)
        n_items = fitted.likes.shape[1]
        events, k = _rows.as_events(user_items_row, n_items), as_k(k, n_items)
        exclude = events.indices.astype(np.int64) if exclude_seen else None
        return best(self._scores_for(fitted, events), k, exclude)

    def _saved(self, fitted: F) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = _rows.to_arrays(fitted.likes, "matrix") | self._learned_arrays(fitted)
        return arrays, {"shape": list(fitted.likes.shape)}

    def _restored(self, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> F:
        likes = _rows.from_arrays(arrays, "matrix", _as_shape(meta["shape"]))
        return self._restored_from(likes, arrays)


def _as_shape(shape: Any) -> tuple[int, int]:
    if not isinstance(shape, list | tuple) or len(shape) != 2:
        raise ValueError(f"shape must be two counts, got {shape!r}")
    return as_count("shape[0]", shape[0]), as_count("shape[1]", shape[1])
