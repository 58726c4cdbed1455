"""EASE: one linear weight for every pair of items, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._errors import NotFittedError
from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import as_count, as_k, as_matrix, as_real
from recengine.factorization import _ease, _rows
from recengine.factorization._biased import as_flag, as_threads, threads_of
from recengine.factorization._knn_options import shape_of
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._progress import bar
from recengine.factorization._ranking import as_excluded, as_row, best

_BLOCK = 2**17  # numbers converted to float64 at a time: 1 MB


@dataclass(frozen=True)
class _Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    likes: Likes  # users x items
    weights: Float32Array


class EASE:
    """A linear model of items by items, solved at once.

    With X the users x items matrix, it minimises ``‖X − X B‖² + regularization ‖B‖²`` under a zero
    diagonal of B. The score of item i for a user with weights w is Σ_j w_j B_ji.

    Parameters
    ----------
    regularization : float, default 500.0
        Weight of the squared norm, >= 0; a few hundred suits weights of 1.
    num_threads : int or None
        Threads that add up XᵀX; None: what this process may use (affinity and quota).
    max_items : int, default 20000
        The largest catalogue that `fit` accepts: B is dense.

    Attributes
    ----------
    item_weights_ : ndarray (n_items, n_items), float32, C-contiguous, read-only
        B: row j holds what item j says for every other item.

    Notes
    -----
    Cost of `fit`: Σ n²/2 products over the users' n items, and n_items³ operations of LAPACK's
    Cholesky factorization and inverse, in float64. Memory: 12 n_items² bytes at the peak (4.5 GiB
    for 20,000 items), 4 n_items² and the matrix afterwards. XᵀX has the same bits at any
    `num_threads`; LAPACK runs on the threads that the process gives to BLAS
    (``OPENBLAS_NUM_THREADS``), and another number of those may move B by rounding, about 1e-7 of
    its largest entry. A fitted model is immutable and may be used from any number of threads; it
    keeps the matrix. Checked against a dense float64 NumPy oracle.

    References
    ----------
    Steck: Embarrassingly shallow autoencoders for sparse data, 2019, section 3.1.
    """

    def __init__(
        self,
        regularization: float = 500.0,
        num_threads: int | None = None,
        *,
        max_items: int = 20_000,
    ) -> None:
        self.regularization = as_real("regularization", regularization, minimum=0)
        self.num_threads = as_threads(num_threads)
        self.max_items = as_count("max_items", max_items, minimum=1)
        self._fitted: _Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted"
        if self._fitted is not None:
            state = "{} users, {} items".format(*self._fitted.likes.shape)
        return f"EASE(regularization={self.regularization:g}) <{state}>"

    def fit(self, matrix: Any, progress: bool = False) -> EASE:
        """Solve for the weights of all pairs of items of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Weights >= 0. Duplicates are summed; explicit zeros are not likes.
        progress : bool
            Draw a bar on standard error.

        Returns
        -------
        EASE
            This model.

        Raises
        ------
        TypeError
            `matrix` is not sparse or does not hold real numbers; `progress` is not a bool.
        ValueError
            A weight is negative or not finite, there are more than `max_items` items, or
            `regularization` is too small for the system to be solved. The model is unchanged then.
        """
        as_flag("progress", progress)
        likes = _rows.owned(as_likes(matrix, 1.0))
        n_items = likes.shape[1]
        if n_items > self.max_items:
            raise ValueError(
                f"max_items must be >= the number of items ({n_items}), got {self.max_items}: "
                f"their weights take {12 * n_items**2 / 2**30:.1f} GiB to solve for; raise "
                "max_items where there is so much, or use ItemKNN"
            )
        with bar("EASE", 2, progress) as advance:
            gram = _ease.item_gram(likes, threads_of(self.num_threads))
            advance()
            weights = _ease.solve(gram, self.regularization)
            advance()
        weights.flags.writeable = False
        self._fitted = _Fitted(likes, weights)
        return self

    # --- what was learned -----------------------------------------------------------------------

    def _require(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("this EASE is not fitted: call fit(interactions) first")
        return self._fitted

    @property
    def item_weights_(self) -> Float32Array:
        """What every item says for every other, (n_items, n_items) float32, read-only."""
        return self._require().weights

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
            ids (k,) int64, columns of the matrix, and scores (k,) float32. Score descending, then
            column ascending; id −1 and score −inf where fewer than k items are left.

        Raises
        ------
        ValueError
            An index or k out of range, or a row of another length.

        Notes
        -----
        Float64 sums rounded once to float32; O(n_items) for each item of the user, on the caller's
        thread, without BLAS or Numba.
        """
        fitted = self._require()
        n_users, n_items = fitted.likes.shape
        k, exclude = as_k(k, n_items), as_excluded(user_items_row, n_items)
        user = as_row("user_index", user_index, n_users)
        return best(_scores(fitted.weights, *_rows.row_of(fitted.likes, user)), k, exclude)

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
        weights = self._require().weights
        as_flag("exclude_seen", exclude_seen)
        events, k = _rows.as_events(user_items_row, len(weights)), as_k(k, len(weights))
        exclude = events.indices.astype(np.int64) if exclude_seen else None
        return best(_scores(weights, events.indices, events.confidences), k, exclude)

    def similar_items(self, item_index: Any, k: int = 10) -> TopK:
        """Return the best k other items by what an item says for them.

        Parameters
        ----------
        item_index : int
            Row of `item_weights_`.
        k : int

        Returns
        -------
        TopK
            As `recommend` does, with the weights of the row as scores.
        """
        weights = self._require().weights
        item = as_row("item_index", item_index, len(weights))
        return best(weights[item].astype(np.float64), as_k(k, len(weights)), np.array([item]))

    # --- persistence ----------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, meta): plain numeric arrays and a JSON object, for `from_state`.

        `num_threads` belongs to the process and is left out.
        """
        fitted = self._require()
        arrays = _rows.to_arrays(fitted.likes, "matrix") | {"item_weights": fitted.weights}
        return arrays, {
            "regularization": self.regularization,
            "max_items": self.max_items,
            "shape": list(fitted.likes.shape),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> EASE:
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
        shape = shape_of(meta, ("regularization", "max_items"))
        model = cls(meta["regularization"], max_items=meta["max_items"])
        likes = _rows.from_arrays(arrays, "matrix", shape)
        if "item_weights" not in arrays:
            raise ValueError("arrays must hold item_weights")
        weights = as_matrix("item_weights", arrays["item_weights"], dim=shape[1], n_rows=shape[1])
        weights = weights.copy() if weights.flags.writeable else weights
        weights.flags.writeable = False
        model._fitted = _Fitted(likes, weights)
        return model


def _scores(weights: Float32Array, items: Any, values: Float32Array) -> Float64Array:
    """Return the sum of the rows of `items` times `values`, in the order of the items."""
    scores = np.zeros(weights.shape[1])
    step = max(1, _BLOCK // max(1, weights.shape[1]))
    for start in range(0, len(items), step):
        part = slice(start, start + step)
        block = weights[items[part]].astype(np.float64)
        scores += np.einsum("i,ij->j", values[part].astype(np.float64), block)
    return scores
