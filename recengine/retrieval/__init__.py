"""Exact retrieval: the best k items of a query, under filters, with bit-stable scores.

Python decides, native code computes. This package checks arguments, turns the caller's ids and
predicates into bitmaps and lists of ordinals (`_id_lists`, `filters`), picks the cheaper way to
scan them (`_planner`), and hands plain arrays to Cython modules: `_table` checks those of a segment
once, `_search` drives the SIMD tiles of csrc over blocks of items (its scans only nominate; the
canonical float64 score of a pair, rounded once, decides) and merges the answers of segments,
`_select` orders, merges and pads. Vectors lie in float32 or in 2 bytes
a number (`_vectors`), widened row by row where they are read. `FlatIndex` holds one immutable
`Generation`: a base segment with codes, a delta of late rows, ids, columns and tombstones. A
request reads it once; a writer publishes the next one by replacing one reference, so a reader
never sees half an update. An ordinal is the stable number of an item, whatever row it is in.
The order is total (score descending, ordinal ascending), hence every answer is independent of
threads, batch size, SIMD level and filter strategy, and top-k is a prefix of top-(k+1).
`device` gives the same answers where an ONNX graph, on a GPU say, nominates: it is not imported
here, for it needs the runtime.
"""

from recengine.retrieval._columns import Columns as ItemColumns
from recengine.retrieval.filters import Filter, as_predicate
from recengine.retrieval.flat import FlatIndex
from recengine.retrieval.interests import search_interests
from recengine.retrieval.predicate import Predicate, where
from recengine.retrieval.selection import merge_topk, topk
from recengine.retrieval.similarity import (
    cosine_similarity,
    dot_similarity,
    euclidean_distance,
)

__all__ = [
    "Filter",
    "FlatIndex",
    "ItemColumns",
    "Predicate",
    "as_predicate",
    "cosine_similarity",
    "dot_similarity",
    "euclidean_distance",
    "merge_topk",
    "search_interests",
    "topk",
    "where",
]
