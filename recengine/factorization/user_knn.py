"""User-user neighbours: similar users' items speak for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, TopK
from recengine.factorization import _rows
from recengine.factorization._knn import KNN, Neighbours
from recengine.factorization._knn_options import KnnOptions
from recengine.factorization._likes import Likes
from recengine.factorization._ranking import best
from recengine.factorization.weighting import Weighting


@dataclass(frozen=True)
class _Fitted(Neighbours):
    """And what finds the neighbours of a new user."""

    by_item: Likes  # items x users, weighed
    norms: Float64Array
    weighting: Weighting


class UserKNN(KNN[_Fitted]):
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

    _side = 0

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
        options = KnnOptions.checked(neighbours, similarity, shrinkage, k1, b)
        super().__init__(options, num_threads)

    def _prepared(self, likes: Likes, neighbours: Likes) -> _Fitted:
        weighting = self._options.weighting(likes)
        weights = weighting.weigh_rows(likes)
        weighed = Likes(likes.shape, likes.indptr, likes.indices, weights)
        norms = _rows.squared_norms(likes, weights)
        norms.flags.writeable = False
        return _Fitted(likes, neighbours, _rows.owned(weighed.transposed()), norms, weighting)

    def _scores(self, fitted: _Fitted, user: int) -> Float64Array:
        return _rows.sum_rows(fitted.likes, *_rows.row_of(fitted.neighbours, user))

    def _scores_for(self, fitted: _Fitted, events: Likes) -> Float64Array:
        return _rows.sum_rows(fitted.likes, *self._nearest_users(fitted, events))

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

    @property
    def user_neighbours_(self) -> Any:
        """Neighbours of the users, a scipy csr_array over read-only arrays, sorted indices."""
        return self._neighbours()

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
        return self._similar("user_index", user_index, k)
