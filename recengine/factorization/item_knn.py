"""Item-item neighbours: a user's items speak for what is like them."""

from __future__ import annotations

from typing import Any

from recengine._types import Float64Array, TopK
from recengine.factorization import _rows
from recengine.factorization._knn import KNN, Neighbours
from recengine.factorization._knn_options import KnnOptions
from recengine.factorization._likes import Likes


class ItemKNN(KNN[Neighbours]):
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

    _side = 1

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
        options = KnnOptions.checked(neighbours, similarity, shrinkage, k1, b)
        super().__init__(options, num_threads)

    def _prepared(self, likes: Likes, neighbours: Likes) -> Neighbours:
        return Neighbours(likes, neighbours)

    def _scores(self, fitted: Neighbours, user: int) -> Float64Array:
        return _rows.sum_rows(fitted.neighbours, *_rows.row_of(fitted.likes, user))

    def _scores_for(self, fitted: Neighbours, events: Likes) -> Float64Array:
        return _rows.sum_rows(fitted.neighbours, events.indices, events.confidences)

    @property
    def item_neighbours_(self) -> Any:
        """Neighbours of the items, a scipy csr_array over read-only arrays, sorted indices."""
        return self._neighbours()

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
        return self._similar("item_index", item_index, k)
