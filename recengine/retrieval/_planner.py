"""How a scan goes about shared filters: by the counted number of items that they leave.

Few are handed to the scan as a list to gather, many as a bitmap to test what it nominates, and
everything as nothing. A prepared filter that leaves few has a base of its own. The answer is the
same; only its price differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Int64Array
from recengine.retrieval import _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_lists import ids_of_kind
from recengine.retrieval._segment import Segment
from recengine.retrieval.filters import LIST_FEW, Prepared, as_predicate, known

# Items are gathered when at most one in so many may be returned. A gather reads 4 dim bytes an
# item in float32, the masked scan of codes dim bytes of every item. Timed with
# `_search.search` on 200k x 64 Gaussian vectors, k = 10, one thread, AVX-512 VNNI, at 1, 2, 5, 10,
# 12.5, 16, 20, 25, 30 and 50 %: they cost the same at about 11 % for 1 and 4 queries, 19 % for 16,
# 25 % for 32 to 64 and 28 % for 256, whose panels are packed once for all.
GATHER_FEW = 9
GATHER_BATCH = LIST_FEW
BATCH = 8  # queries from which GATHER_BATCH holds


@dataclass(frozen=True, slots=True)
class Selection:
    """Which ordinals a batch may return: a bitmap, a list, or (both None) all of them.

    Deleted items are not taken out of it: the scan knows them.

    Attributes
    ----------
    words : ndarray (m,), uint64, or None
        The mask of the scan; ordinals beyond its end may not be returned.
    ordinals : ndarray (m,), int64, ascending, or None
        What to gather.
    base : (Segment, uint64 words or None), or None
        What to scan instead of the base, and which of its rows are alive.
    """

    words: Words | None
    ordinals: Int64Array | None
    base: tuple[Segment, Words | None] | None = None


_EVERYTHING = Selection(None, None)


def select(
    generation: Generation,
    n_queries: int,
    *,
    allow: Any = None,
    deny: Any = None,
    where: Any = None,
    prepared: Prepared | None = None,
    base: tuple[Segment, Words | None] | None = None,
) -> Selection:
    """Return what all of these let through, in the form that is cheaper to scan.

    `prepared` and `base` come from a filter.
    """
    if prepared is allow is deny is where is None:
        return _EVERYTHING
    n, words, ordinals = generation.n_ordinals, None, None
    if prepared is not None:
        if base is not None and allow is None and deny is None and where is None:
            return Selection(prepared.words, None, base)
        words, ordinals = prepared.words, prepared.ordinals
        if ordinals is not None and prepared.n_ordinals > n:  # worked out for a later state
            ordinals = ordinals[: np.searchsorted(ordinals, n)]
    if where is not None:
        met = _bits.packed(generation.columns.matching(as_predicate(where)))
        words, ordinals = met if words is None else met & words[: len(met)], None
    if allow is not None:
        ordinals = np.unique(
            known(generation, ids_of_kind(generation, "allow", allow, ordered=False))
        )
        if words is not None:
            ordinals, words = ordinals[_bits.has(words, ordinals)], None
    if deny is not None:
        denied = known(generation, ids_of_kind(generation, "deny", deny, ordered=False))
        if ordinals is not None:
            ordinals = np.setdiff1d(ordinals, denied, assume_unique=True)
        if ordinals is None or words is not None:
            kept = _bits.without_rows(denied, n)
            words = kept if words is None else kept & words[: len(kept)]
    return _planned(n, n_queries, words, ordinals)


def _planned(n: int, n_queries: int, words: Words | None, ordinals: Int64Array | None) -> Selection:
    share = GATHER_FEW if n_queries < BATCH else GATHER_BATCH
    if ordinals is not None:
        if len(ordinals) * share <= n:
            return Selection(None, ordinals)
        words = _bits.of_rows(ordinals, n) if words is None else words
    elif words is not None:
        left = _bits.count(words)
        if left * share <= n:
            return Selection(None, _bits.members(words))
        words = words if left < n else None
    return Selection(words, None)
