"""Exact retrieval: the best k items of a query, under filters, with bit-stable scores.

Python decides, native code computes. This package checks arguments, turns the caller's ids into
rows, masks and CSR lists (`_filters`), and hands plain arrays to two Cython modules: `_search`
drives the SIMD tiles of csrc over blocks of items (its float32 scan only nominates; the canonical
float64 score of a pair, rounded once, decides), and `_select` orders, merges and pads.
`FlatIndex` holds one immutable `Generation` of vectors, norms, ids and tombstones. A request reads
it once; a writer builds the next one aside and publishes it by replacing one reference, so a
reader never sees half an update. An ordinal is the stable number of an item: today its row.
The order is total (score descending, ordinal ascending), hence every answer is independent of
threads, batch size, SIMD level and filter strategy, and top-k is a prefix of top-(k+1).
"""

from recengine.retrieval.filters import Filter
from recengine.retrieval.flat import FlatIndex
from recengine.retrieval.predicate import where
from recengine.retrieval.selection import merge_topk, topk
from recengine.retrieval.similarity import (
    cosine_similarity,
    dot_similarity,
    euclidean_distance,
)

__all__ = [
    "Filter",
    "FlatIndex",
    "cosine_similarity",
    "dot_similarity",
    "euclidean_distance",
    "merge_topk",
    "topk",
    "where",
]
