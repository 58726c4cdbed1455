"""From the vectors of tokens to the vector of a text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine.encoders._pool import scale_rows, token_means

POOLINGS = ("mean", "cls", "last", "none")


def pool(hidden: NDArray[Any], lengths: Int64Array, pooling: str) -> Float32Array:
    """Reduce the tokens of each text to one vector.

    Parameters
    ----------
    hidden : ndarray (n_rows, tokens, dim), floating
        The graph's output. What stands at padded places is never read.
    lengths : ndarray (n,), int64
        Tokens of each text, at least one, padding at the end; n <= n_rows.
    pooling : {"mean", "cls", "last"}
        The mean over the text's tokens, its first token or its last one.

    Returns
    -------
    ndarray (n, dim), float32
        A new array. The mean is summed in float32 in the order of the tokens.

    References
    ----------
    N. Reimers, I. Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks.
    EMNLP 2019, section 3 (mean and cls).
    """
    if pooling == "mean":
        means: Float32Array = token_means(np.ascontiguousarray(hidden, np.float32), lengths)
        return means
    places = 0 if pooling == "cls" else lengths - 1
    taken: Float32Array = hidden[np.arange(len(lengths)), places].astype(np.float32)
    return taken


def normalized(vectors: Float32Array) -> Float32Array:
    """Scale each row to length 1; a row of zeros, or with NaN or infinity, stays as it is.

    Parameters
    ----------
    vectors : ndarray (n, dim), float32

    Returns
    -------
    ndarray (n, dim), float32
        A new array. The norm is taken in float64.
    """
    scaled = np.array(vectors, np.float32, order="C")
    scale_rows(scaled)
    return scaled
