"""Item-item neighbours: a user's items speak for what is like them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._errors import NotFittedError
from recengine._types import TopK
from recengine._validation import as_k
from recengine.factorization import _rows
from recengine.factorization._biased import as_flag, as_threads
from recengine.factorization._knn_options import KnnOptions, shape_of
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._ranking import as_excluded, as_row, best, best_listed


@dataclass(frozen=True)
class _Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    likes: Likes  # users x items
    neighbours: Likes  # items x items


class ItemKNN:
    """The nearest neighbours of every item, by the users they share.

    The score of item i for a user with weights w is Σ_j w_j s(j, i) over the user's items j that
    have i among their `neighbours` most similar items.

    Parameters
    ----------
    neighbours : int, default 20
        Similar items to keep of each item, itself not counted.
    similarity : {"cosine", "bm25", "tfidf"}
        "cosine" of the weights, "tfidf": cosine of the weights after `tfidf_weight`, "bm25": inner
        product of the weights after `bm25_weight`; items are the documents.
    shrinkage : float, default 0.0
        What is added to the product of norms, >= 0: pairs with little in common count less. 0 for
        "bm25", which divides by nothing.
    num_threads : int or None
        Threads of `fit`; None: what this process may use (affinity and quota).
    k1, b : float, optional
        "bm25" only, as in `bm25_weight`; 1.2 and 0.75 when omitted.

    Attributes
    ----------
    item_neighbours_ : csr_array (n_items, n_items), float32
        Row j holds s(j, i) of its neighbours i, at most `neighbours`, all above 0; equal
        similarities are decided by the lower index.

    Notes
    -----
    Cost of `fit`: Σ n²/2 products over the users' n items. Memory: 24 bytes an entry of the matrix
    (100 while they are laid out), 8 n_items neighbours a thread, with fewer threads where those
    would exceed 1 GiB. Similarities are float64 sums rounded once to float32, the same bits at any
    `num_threads`. A fitted model is immutable and may be used from any number of threads; it keeps
    the matrix. Checked against a dense float64 NumPy oracle.

    References
    ----------
    Sarwar, Karypis, Konstan, Riedl: Item-based collaborative filtering recommendation algorithms,
    2001, section 3. Ferrari Dacrema, Boglio, Cremonesi, Jannach: A troubling analysis of
    reproducibility and progress in recommender systems research, 2021 (shrinkage).
    """

    def __init__(
        self,
        neighbours: int = 20,
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
            f"ItemKNN(neighbours={self.neighbours}, similarity={self.similarity!r}, "
            f"shrinkage={self.shrinkage:g}) <{state}>"
        )

    def fit(self, matrix: Any, progress: bool = False) -> ItemKNN:
        """Find the neighbours of the items of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Weights >= 0. Duplicates are summed; explicit zeros are not likes.
        progress : bool
            Draw a bar on standard error.

        Returns
        -------
        ItemKNN
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
        neighbours = self._options.nearest(
            likes.transposed(), self.num_threads, "ItemKNN" if progress else ""
        )
        self._fitted = _Fitted(likes, neighbours)
        return self

    # --- what was learned -----------------------------------------------------------------------

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("this ItemKNN is not fitted: call fit(interactions) first")
        return self._fitted

    @property
    def item_neighbours_(self) -> Any:
        """Neighbours of the items, a scipy csr_array over read-only arrays, sorted indices."""
        from scipy.sparse import csr_array

        near = self._require().neighbours
        return csr_array((near.confidences, near.indices, near.indptr), shape=near.shape)

    def similar_items(self, item_index: Any, k: int = 10) -> TopK:
        """Return the best k neighbours of an item.

        Parameters
        ----------
        item_index : int
            Column of the matrix of `fit`.
        k : int
            At most `neighbours` are known: the rest is padding.

        Returns
        -------
        TopK
            As `recommend` does, over items.
        """
        near = self._require().neighbours
        row = as_row("item_index", item_index, near.shape[0])
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
        items, weights = _rows.row_of(fitted.likes, user)
        return best(_rows.sum_rows(fitted.neighbours, items, weights), k, exclude)

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
        scores = _rows.sum_rows(fitted.neighbours, events.indices, events.confidences)
        return best(scores, k, exclude)

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
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> ItemKNN:
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
        neighbours = _rows.from_arrays(arrays, "neighbours", (shape[1], shape[1]))
        model._fitted = _Fitted(likes, neighbours)
        return model
