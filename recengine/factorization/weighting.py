"""BM25 and TF-IDF: how much an entry of a sparse matrix says about its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_real
from recengine.factorization._likes import Likes, as_likes


def bm25_weight(matrix: Any, k1: float = 100.0, b: float = 0.8) -> Any:
    """Weigh the rows of a sparse matrix by BM25.

    With x an entry, l the sum of its row over the mean sum of a row, n the number of rows and m
    the entries of its column, the entry becomes::

        x (k1 + 1) / (k1 (1 − b + b l) + x) · ln(n / (1 + m))

    Parameters
    ----------
    matrix : Interactions or scipy sparse (n_rows, n_columns)
        Values >= 0. Rows are the documents: pass ``matrix.T`` where items are to be weighed
        against users, and transpose the result. Not changed.
    k1 : float, default 100
        How late repetition saturates, >= 0.
    b : float, default 0.8
        How much long rows are held back, in [0, 1].

    Returns
    -------
    scipy.sparse.csr_array (n_rows, n_columns), float32
        Sorted indices; duplicates are summed and explicit zeros dropped before weighing.

    Raises
    ------
    TypeError
        `matrix` is not sparse or does not hold real numbers.
    ValueError
        A value is negative or not finite, or `k1` or `b` is out of range.

    Notes
    -----
    O(n_entries), in float64, rounded once. Entries of a column that every row has come out below
    0, of one that all rows but one have as 0, as in implicit, whose function of this name the
    result equals on matrices without duplicates and zeros: check before training `ALS` on them.

    References
    ----------
    Robertson, Zaragoza: The probabilistic relevance framework: BM25 and beyond, 2009, section 3.
    """
    k1, b = check_bm25(k1, b)
    likes = as_likes(matrix, 1.0)
    return _weighed(likes, Weighting.of(likes, "bm25", k1, b))


def tfidf_weight(matrix: Any) -> Any:
    """Weigh the rows of a sparse matrix by TF-IDF.

    With x an entry, n the number of rows and m the entries of its column, the entry becomes
    ``√x · ln(n / (1 + m))``.

    Parameters
    ----------
    matrix : Interactions or scipy sparse (n_rows, n_columns)
        Values >= 0; rows are the documents, as in `bm25_weight`. Not changed.

    Returns
    -------
    scipy.sparse.csr_array (n_rows, n_columns), float32
        Sorted indices; duplicates are summed and explicit zeros dropped before weighing.

    Raises
    ------
    TypeError
        `matrix` is not sparse or does not hold real numbers.
    ValueError
        A value is negative or not finite.

    Notes
    -----
    As for `bm25_weight`.

    References
    ----------
    Spärck Jones: A statistical interpretation of term specificity and its application in
    retrieval, 1972.
    """
    likes = as_likes(matrix, 1.0)
    return _weighed(likes, Weighting.of(likes, "tfidf"))


@dataclass(frozen=True)
class Weighting:
    """What weighing a row takes from all rows: so a row that nobody has met can be weighed too.

    `kind` is "cosine" (entries stay as they are), "bm25" or "tfidf"; `idf` (n_columns,) is
    ln(n / (1 + m)) and empty for "cosine"; `mean_length` is the mean sum of a row.
    """

    kind: str
    k1: float
    b: float
    idf: Float64Array
    mean_length: float

    @classmethod
    def of(cls, likes: Likes, kind: str, k1: float = 0.0, b: float = 0.0) -> Weighting:
        """Return the weighting of the rows of `likes`."""
        n_rows, n_columns = likes.shape
        if kind == "cosine":
            return cls(kind, k1, b, np.empty(0), 0.0)
        entries = np.bincount(likes.indices, minlength=n_columns)
        idf = np.log(max(n_rows, 1)) - np.log1p(entries)
        total = likes.confidences.sum(dtype=np.float64) or n_rows
        return cls(kind, k1, b, idf, float(total / max(n_rows, 1)))

    def weigh(self, columns: Any, values: Float32Array, lengths: Any) -> Float32Array:
        """Return the weights of entries, given their columns and the sums of their rows."""
        if self.kind == "cosine":
            return values
        wide = values.astype(np.float64)
        if self.kind == "tfidf":
            weights = np.sqrt(wide) * self.idf[columns]
        else:
            longer = (1.0 - self.b) + self.b * lengths / self.mean_length
            weights = wide * (self.k1 + 1.0) / (self.k1 * longer + wide) * self.idf[columns]
        rounded: Float32Array = weights.astype(np.float32)
        return rounded

    def weigh_rows(self, likes: Likes) -> Float32Array:
        """Return the weights of all entries of `likes`, (n_entries,)."""
        rows: Int64Array = np.repeat(np.arange(likes.shape[0]), likes.counts)
        sums = np.bincount(rows, likes.confidences, minlength=likes.shape[0])
        return self.weigh(likes.indices, likes.confidences, sums[rows])


def check_bm25(k1: Any, b: Any) -> tuple[float, float]:
    """Return (k1, b) as floats, refusing what is out of range."""
    k1, b = as_real("k1", k1, minimum=0), as_real("b", b, minimum=0)
    if b > 1:
        raise ValueError(f"b must be <= 1, got {b:g}")
    return k1, b


def _weighed(likes: Likes, weighting: Weighting) -> Any:
    from scipy.sparse import csr_array

    weights = weighting.weigh_rows(likes)
    return csr_array((weights.copy(), likes.indices.copy(), likes.indptr), shape=likes.shape)
