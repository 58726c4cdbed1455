"""User-user neighbours: similar users' items speak for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._errors import NotFittedError
from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import as_k
from recengine.factorization import _rows
from recengine.factorization._biased import as_flag, as_threads
from recengine.factorization._knn_options import KnnOptions, shape_of
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._ranking import as_excluded, as_row, best, best_listed
from recengine.factorization.weighting import Weighting


@dataclass(frozen=True)
class _Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    likes: Likes  # users x items
    neighbours: Likes  # users x users
    by_item: Likes  # items x users, weighed
    norms: Float64Array
    weighting: Weighting


class UserKNN:
    """The nearest neighbours of every user, by the items they share.

    The score of item i for user u is Σ_v s(u, v) w_vi over the `neighbours` users v most similar
    to u, with w the weights of the matrix.

    Parameters
    ----------
    neighbours : int, default 100
        Similar users to keep of each user, itself not counted.
    similarity : {"cosine", "bm25", "tfidf"}
        "cosine" of the weights, "tfidf": cosine of the weights after `tfidf_weight`, "bm25": inner
        product of the weights after `bm25_weight`; users are the documents.
    shrinkage : float, default 0.0
        What is added to the product of norms, >= 0: pairs with little in common count less. 0 for
        "bm25", which divides by nothing.
    num_threads : int or None
        Threads of `fit`; None: what this process may use (affinity and quota).
    k1, b : float, optional
        "bm25" only, as in `bm25_weight`; 1.2 and 0.75 when omitted.

    Attributes
    ----------
    user_neighbours_ : csr_array (n_users, n_users), float32
        Row u holds s(u, v) of its neighbours v, at most `neighbours`, all above 0; equal
        similarities are decided by the lower index.

    Notes
    -----
    Cost of `fit`: Σ n²/2 products over the items' n users, which one very popular item can rule.
    Memory: 24 bytes an entry of the matrix (100 while they are laid out), 8 n_users neighbours a
    thread, with fewer threads where those would exceed 1 GiB. Similarities are float64 sums rounded
    once to float32, the same bits at any `num_threads`. A fitted model is immutable and may be used
    from any number of threads; it keeps the matrix and its transposed. Checked against a dense
    float64 NumPy oracle.

    References
    ----------
    Resnick, Iacovou, Suchak, Bergstrom, Riedl: GroupLens: an open architecture for collaborative
    filtering of netnews, 1994. Ferrari Dacrema, Boglio, Cremonesi, Jannach: A troubling analysis
    of reproducibility and progress in recommender systems research, 2021 (shrinkage).
    """

    def __init__(
        self,
        neighbours: int = 100,
        similarity: str = "cosine",
        shrinkage: float = 0.0,
        num_threads: int | None = None,
        *,
        k1: float | None = None,
        b: float | None = None,
    ) -> None:
        self._options = KnnOptions.checked(neighbours, similarity, shrinkage, k1, b)
        self.neighbours = self._options.neighbours
        self.similarity = self._options.similarity
        self.shrinkage = self._options.shrinkage
        self.k1, self.b = self._options.k1, self._options.b
        self.num_threads = as_threads(num_threads)
        self._fitted: _Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted"
        if self._fitted is not None:
            state = "{} users, {} items".format(*self._fitted.likes.shape)
        return (
            f"UserKNN(neighbours={self.neighbours}, similarity={self.similarity!r}, "
            f"shrinkage={self.shrinkage:g}) <{state}>"
        )

    def fit(self, matrix: Any, progress: bool = False) -> UserKNN:
        """Find the neighbours of the users of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Weights >= 0. Duplicates are summed; explicit zeros are not likes.
        progress : bool
            Draw a bar on standard error.

        Returns
        -------
        UserKNN
            This model.

        Raises
        ------
        TypeError
            `matrix` is not sparse or does not hold real numbers; `progress` is not a bool.
        ValueError
            A weight is negative or not finite. The model is unchanged then.
        """
        as_flag("progress", progress)
        likes = _rows.owned(as_likes(matrix, 1.0))
        neighbours = self._options.nearest(likes, self.num_threads, "UserKNN" if progress else "")
        self._fitted = self._prepared(likes, neighbours)
        return self

    def _prepared(self, likes: Likes, neighbours: Likes) -> _Fitted:
        weighting = self._options.weighting(likes)
        weights = weighting.weigh_rows(likes)
        weighed = Likes(likes.shape, likes.indptr, likes.indices, weights)
        norms = _rows.squared_norms(likes, weights)
        norms.flags.writeable = False
        return _Fitted(likes, neighbours, _rows.owned(weighed.transposed()), norms, weighting)

    # --- what was learned -----------------------------------------------------------------------

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("this UserKNN is not fitted: call fit(interactions) first")
        return self._fitted

    @property
    def user_neighbours_(self) -> Any:
        """Neighbours of the users, a scipy csr_array over read-only arrays, sorted indices."""
        from scipy.sparse import csr_array

        near = self._require().neighbours
        return csr_array((near.confidences, near.indices, near.indptr), shape=near.shape)

    def similar_users(self, user_index: Any, k: int = 10) -> TopK:
        """Return the best k neighbours of a user.

        Parameters
        ----------
        user_index : int
            Row of the matrix of `fit`.
        k : int
            At most `neighbours` are known: the rest is padding.

        Returns
        -------
        TopK
            As `recommend` does, over users.
        """
        near = self._require().neighbours
        row = as_row("user_index", user_index, near.shape[0])
        return best_listed(*_rows.row_of(near, row), as_k(k, near.shape[0]))

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
            ids (k,) int64, columns of the matrix, and scores (k,) float32, 0 where no neighbour
            speaks for an item. Score descending, then column ascending; id −1 and score −inf
            where fewer than k items are left.

        Raises
        ------
        ValueError
            An index or k out of range, or a row of another length.

        Notes
        -----
        Float64 sums rounded once to float32, on the caller's thread, without BLAS or Numba.
        """
        fitted = self._require()
        n_users, n_items = fitted.likes.shape
        k, exclude = as_k(k, n_items), as_excluded(user_items_row, n_items)
        user = as_row("user_index", user_index, n_users)
        users, similarities = _rows.row_of(fitted.neighbours, user)
        return best(_rows.sum_rows(fitted.likes, users, similarities), k, exclude)

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
        users, similarities = self._nearest_users(fitted, events)
        return best(_rows.sum_rows(fitted.likes, users, similarities), k, exclude)

    def _nearest_users(self, fitted: _Fitted, events: Likes) -> tuple[Any, Float32Array]:
        """Return the neighbours of a user of these events, ascending, as `fit` finds them."""
        weights = fitted.weighting.weigh_rows(events)
        sums = _rows.sum_rows(fitted.by_item, events.indices, weights)
        if self._options.cosine:
            lengths = np.sqrt(fitted.norms * _rows.squared_norms(events, weights))
            lengths += self.shrinkage
            np.divide(sums, lengths, out=sums, where=lengths > 0)
        users, similarities = best(sums, min(self.neighbours, len(sums)))
        users, similarities = users[similarities > 0], similarities[similarities > 0]
        order = np.argsort(users)
        return users[order], similarities[order]

    # --- persistence ----------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, meta): plain numeric arrays and a JSON object, for `from_state`.

        `num_threads` belongs to the process and is left out.
        """
        fitted = self._require()
        arrays = _rows.to_arrays(fitted.likes, "matrix")
        arrays |= _rows.to_arrays(fitted.neighbours, "neighbours")
        return arrays, self._options.to_meta(fitted.likes.shape)

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> UserKNN:
        """Return the model that `state` described; read-only arrays (mmapped ones) are borrowed.

        Parameters
        ----------
        arrays, meta : mappings
            The two parts that `state` returned.

        Raises
        ------
        ValueError
            A part is missing, or the parts do not fit together.
        """
        names = ("neighbours", "similarity", "shrinkage", "k1", "b")
        shape = shape_of(meta, names)
        model = cls(**{name: meta[name] for name in names})
        likes = _rows.from_arrays(arrays, "matrix", shape)
        neighbours = _rows.from_arrays(arrays, "neighbours", (shape[0], shape[0]))
        model._fitted = model._prepared(likes, neighbours)
        return model
