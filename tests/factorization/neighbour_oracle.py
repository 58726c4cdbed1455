"""Nearest neighbours in dense float64 NumPy, written to be read."""

from __future__ import annotations

from typing import Any

import numpy as np


def weighed(documents: Any, similarity: str, k1: float = 1.2, b: float = 0.75) -> Any:
    """Return the weights of the rows of a dense matrix, as float64 of float32."""
    x = np.asarray(documents, np.float64)
    if similarity == "cosine":
        return x
    idf = np.log(len(x) / (1.0 + (x > 0).sum(0)))
    if similarity == "tfidf":
        return np.float64(np.float32(np.sqrt(x) * idf))
    longer = 1 - b + b * x.sum(1, keepdims=True) / x.sum(1).mean()
    weights = np.where(x > 0, x * (k1 + 1) / np.where(x > 0, k1 * longer + x, 1) * idf, 0)
    return np.float64(np.float32(weights))


def similarities(documents: Any, similarity: str, shrinkage: float = 0.0) -> Any:
    """Return all similarities of rows, float32; 0 with themselves and with empty rows."""
    x = weighed(documents, similarity)
    dots = x @ x.T
    lengths = np.ones_like(dots)
    if similarity != "bm25":
        norms = (x**2).sum(1)
        lengths = np.sqrt(np.outer(norms, norms)) + shrinkage
    scores = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    np.fill_diagonal(scores, 0)
    return scores.astype(np.float32)


def nearest(scores: Any, neighbours: int) -> Any:
    """Keep the best of each row: score descending, then index ascending; never a 0."""
    kept = np.zeros_like(scores)
    for row, mine in enumerate(scores):
        order = np.lexsort((np.arange(len(mine)), -mine))[:neighbours]
        kept[row, order] = mine[order]
    return kept
