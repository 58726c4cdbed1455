"""EASE: one linear weight for every pair of items, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, TopK
from recengine._validation import as_count, as_k, as_matrix, as_real
from recengine.factorization import _ease, _rows
from recengine.factorization._keeps_matrix import KeepsMatrix, Kept
from recengine.factorization._learned import check_parts
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._options import as_flag, as_threads, threads_of
from recengine.factorization._progress import bar
from recengine.factorization._ranking import as_row, best

_BLOCK = 2**17  # numbers converted to float64 at a time: 1 MB


@dataclass(frozen=True)
class _Fitted(Kept):
    """The matrix and what items say for each other."""

    weights: Float32Array


class EASE(KeepsMatrix[_Fitted]):
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

    _settings = ("regularization", "max_items")
    _shown = ("regularization",)

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

    def _scores(self, fitted: _Fitted, user: int) -> Float64Array:
        return _summed(fitted.weights, *_rows.row_of(fitted.likes, user))

    def _scores_for(self, fitted: _Fitted, events: Likes) -> Float64Array:
        return _summed(fitted.weights, events.indices, events.confidences)

    @property
    def item_weights_(self) -> Float32Array:
        """What every item says for every other, (n_items, n_items) float32, read-only."""
        return self._require().weights

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

    def _learned_arrays(self, fitted: _Fitted) -> dict[str, Any]:
        return {"item_weights": fitted.weights}

    def _restored_from(self, likes: Likes, arrays: Mapping[str, Any]) -> _Fitted:
        check_parts("arrays", arrays, ("item_weights",))
        n_items = likes.shape[1]
        weights = as_matrix("item_weights", arrays["item_weights"], dim=n_items, n_rows=n_items)
        weights = weights.copy() if weights.flags.writeable else weights
        weights.flags.writeable = False
        return _Fitted(likes, weights)


def _summed(weights: Float32Array, items: Any, values: Float32Array) -> Float64Array:
    """Return the sum of the rows of `items` times `values`, in the order of the items."""
    scores = np.zeros(weights.shape[1])
    step = max(1, _BLOCK // max(1, weights.shape[1]))
    for start in range(0, len(items), step):
        part = slice(start, start + step)
        block = weights[items[part]].astype(np.float64)
        scores += np.einsum("i,ij->j", values[part].astype(np.float64), block)
    return scores
