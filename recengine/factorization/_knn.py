"""What ItemKNN and UserKNN share: the nearest rows of one side of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from recengine._types import TopK
from recengine._validation import as_k
from recengine.factorization import _rows
from recengine.factorization._keeps_matrix import KeepsMatrix, Kept
from recengine.factorization._knn_options import KnnOptions
from recengine.factorization._likes import Likes, as_likes
from recengine.factorization._options import as_flag, as_threads
from recengine.factorization._ranking import as_row, best_listed


@dataclass(frozen=True)
class Neighbours(Kept):
    """The matrix and the nearest rows of one of its sides."""

    neighbours: Likes  # users x users, or items x items


F = TypeVar("F", bound=Neighbours)


class KNN(KeepsMatrix[F]):
    """A model of the nearest neighbours of one side."""

    _settings = ("neighbours", "similarity", "shrinkage", "k1", "b")
    _shown = ("neighbours", "similarity", "shrinkage")
    _side: ClassVar[int]  # whose neighbours: 0 users, 1 items

    def __init__(self, options: KnnOptions, num_threads: int | None) -> None:
        self._options = options
        self.neighbours = options.neighbours
        self.similarity = options.similarity
        self.shrinkage = options.shrinkage
        self.k1, self.b = options.k1, options.b
        self.num_threads = as_threads(num_threads)

    def _prepared(self, likes: Likes, neighbours: Likes) -> F:
        """Return what is kept of a fit."""
        raise NotImplementedError

    def fit(self, matrix: Any, progress: bool = False) -> Self:
        """Find the neighbours of the items (`UserKNN`: of the users) of `matrix`.

        Parameters
        ----------
        matrix : Interactions or scipy sparse (n_users, n_items)
            Weights >= 0. Duplicates are summed; explicit zeros are not likes.
        progress : bool
            Draw a bar on standard error.

        Returns
        -------
        ItemKNN or UserKNN
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
        documents = likes.transposed() if self._side else likes
        label = type(self).__name__ if progress else ""
        neighbours = self._options.nearest(documents, self.num_threads, label)
        self._fitted = self._prepared(likes, neighbours)
        return self

    def _neighbours(self) -> Any:
        """Return the neighbours as a scipy csr_array over read-only arrays, sorted indices."""
        from scipy.sparse import csr_array

        near = self._require().neighbours
        return csr_array((near.confidences, near.indices, near.indptr), shape=near.shape)

    def _similar(self, name: str, index: Any, k: Any) -> TopK:
        """Return the best k neighbours of a row of that side."""
        near = self._require().neighbours
        row = as_row(name, index, near.shape[0])
        return best_listed(*_rows.row_of(near, row), as_k(k, near.shape[0]))

    def _learned_arrays(self, fitted: F) -> dict[str, Any]:
        return _rows.to_arrays(fitted.neighbours, "neighbours")

    def _restored_from(self, likes: Likes, arrays: Mapping[str, Any]) -> F:
        n_rows = likes.shape[self._side]
        return self._prepared(likes, _rows.from_arrays(arrays, "neighbours", (n_rows, n_rows)))
