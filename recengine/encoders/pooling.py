"""From the vectors of tokens to the vector of a text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array

POOLINGS = ("mean", "cls", "last", "none")


def pool(hidden: NDArray[Any], mask: NDArray[np.bool_], pooling: str) -> Float32Array:
    """Reduce the tokens of each text to one vector.

    Parameters
    ----------
    hidden : ndarray (n, tokens, dim), floating
        The graph's output. What stands at padded places is never read.
    mask : ndarray (n, tokens), bool
        Where a token of the text is; at least one in each row, padding at the end.
    pooling : {"mean", "cls", "last"}
        The mean over the text's tokens, its first token or its last one.

    Returns
    -------
    ndarray (n, dim), float32

    References
    ----------
    N. Reimers, I. Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks.
    EMNLP 2019, section 3 (mean and cls).
    """
    if pooling == "mean" and len(mask) == 1 and mask.all():
        total: Float32Array = hidden.sum(axis=1, dtype=np.float32)
        total /= np.float32(mask.shape[1])
        return total
    lengths = mask.sum(axis=1)
    if pooling == "cls":
        pooled = hidden[:, 0]
    elif pooling == "last":
        pooled = hidden[np.arange(len(hidden)), lengths - 1]
    else:
        text_only = np.where(mask[:, :, None], hidden, np.zeros((), hidden.dtype))
        pooled = text_only.sum(axis=1, dtype=np.float32) / lengths[:, None].astype(np.float32)
    return pooled.astype(np.float32)


def normalized(vectors: Float32Array) -> Float32Array:
    """Scale each row to length 1; a row of zeros stays as it is.

    Parameters
    ----------
    vectors : ndarray (n, dim), float32

    Returns
    -------
    ndarray (n, dim), float32
        The norm is taken in float64.
    """
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    norms[norms == 0.0] = 1.0
    scaled: Float32Array = (vectors / norms).astype(np.float32)
    return scaled
