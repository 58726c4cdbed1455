"""Which texts share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recengine._types import Int64Array
from recengine.runtime import Buckets

# Padded tokens of one batch. MiniLM on one core takes 118 us a token at 512 tokens a batch, the
# same at 1,024 and 140 at 4,096, while the memory of attention grows all the way.
MAX_TOKENS = 2048


def batches_of_like_length(
    lengths: Int64Array,
    batch_size: int,
    *,
    padding: bool = True,
    buckets: Buckets | None = None,
) -> Iterator[Int64Array]:
    """Cut texts into batches that waste little on padding, longest first.

    Parameters
    ----------
    lengths : ndarray (n,), int64
        Tokens of each text. A text without tokens is in no batch.
    batch_size : int
        The most texts of a batch. Fewer where they are long: a batch holds at most
        `MAX_TOKENS` padded tokens, and no text less than half as long as its longest.
    padding : bool
        False puts only texts of one length together, for a graph that takes no mask.
    buckets : Buckets, optional
        What batches will be padded to: a batch then holds a rung of its rows where it can, and the
        cap counts the tokens of the bucket.

    Yields
    ------
    ndarray (m,), int64
        Indices of texts, longest first; texts of one length keep their order.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        shortest = (longest + 1) // 2 if padding else longest
        stop = start + most_texts(longest, batch_size, buckets)
        batch = order[start:stop]
        batch = batch[lengths[batch] >= shortest]  # sorted, so this keeps a prefix
        yield batch
        start += len(batch)


def most_texts(longest: int, batch_size: int, buckets: Buckets | None = None) -> int:
    """Return how many texts of `longest` tokens a batch holds at most."""
    padded_to = longest if buckets is None else buckets.fit(1, longest)[1]
    limit = max(1, min(batch_size, MAX_TOKENS // padded_to))
    return limit if buckets is None else min(limit, buckets.most_rows(limit))
