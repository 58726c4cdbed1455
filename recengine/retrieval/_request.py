"""One request against one generation: a native call over its segments."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from recengine import _native
from recengine._types import PADDING_ID, Float32Array, IdArray, Int64Array, TopK
from recengine.retrieval import _bias, _score, _search, _select
from recengine.retrieval._bits import Words
from recengine.retrieval._generation import Generation
from recengine.retrieval._segment import Segment

Out = tuple[IdArray, Float32Array]
_api = cache(_native.api)  # the level is settled when it is first asked for


def search(
    now: Generation,
    queries: Float32Array,
    k: int,
    *,
    ordinals: Int64Array | None = None,
    mask: Words | None = None,
    base: tuple[Segment, Words | None] | None = None,
    bias: Float32Array | None = None,
    num_threads: int = 1,
    **options: Any,
) -> tuple[Int64Array, Float32Array, dict[str, Any]]:
    """Return (ordinals, scores, stats) as `_search.search_parts` does, over all segments.

    Parameters
    ----------
    ordinals : ndarray (m,), int64, ascending, optional
        Only these are looked at.
    mask : uint64 words, optional
        By ordinal: what may be returned.
    base : (Segment, uint64 words or None), optional
        Scanned instead of the base: those of its rows that `mask` lets through, and which are
        alive. They are not asked about again.
    bias : ndarray (n_ordinals,), float32, optional
        By ordinal, beside what the segments hold.
    options
        Further arguments of `_search.search_parts`: the exclusions, the lowest score, the deadline.
    """
    parts: list[_search.Part] = []
    places = (None, None) if ordinals is None else now.locate(ordinals)
    first = (now.base, now.base_alive, mask) if base is None else (*base, None)
    segments = ((*first, places[0]), (now.delta, now.delta_alive, mask, places[1]))
    for segment, alive, words, place in segments:
        rows = None if place is None else _there(segment, place)
        if segment.n_rows == 0 or (rows is not None and len(rows) == 0):
            continue
        boost = None if bias is None else _bias.of_rows(segment, bias)
        parts.append((segment.table(), alive, words, rows, boost))
    return _search.search_parts(
        _api(), now.metric, queries, parts, k, num_threads=num_threads, **options
    )


def _there(segment: Segment, rows: Int64Array) -> Int64Array:
    """Return the rows that are not −1, ascending."""
    found = rows[rows >= 0]
    return found if segment.ascending else np.sort(found)


def rank(
    now: Generation,
    queries: Float32Array,
    indptr: Int64Array,
    ordinals: Int64Array,
    k: int,
    *,
    bias: Float32Array | None = None,
    num_threads: int = 1,
) -> tuple[Int64Array, Float32Array]:
    """Order the live ordinals of a CSR of candidates; return (ordinals, scores), (n_queries, k)."""
    pairs = np.empty(len(ordinals), np.float32)
    for segment, rows in zip((now.base, now.delta), now.locate(ordinals), strict=True):
        here = rows >= 0
        if not here.any():
            continue
        before = np.zeros(len(ordinals) + 1, np.int64)
        np.cumsum(here, out=before[1:])
        pairs[here] = _score.rank(
            _native.api(),
            now.metric,
            queries,
            segment.vectors,
            segment.sq_norms,
            before[indptr],
            rows[here],
            bias=_bias.of_rows(segment, bias),
            num_threads=num_threads,
        )
    return _select.order(pairs, ordinals, indptr, k)


def as_out(out: Any, now: Generation, n_queries: int, k: int, *, single: bool) -> Out | None:
    """Check the buffers that a caller lends for the answer."""
    if out is None:
        return None
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"out must be a tuple (ids, scores), got {type(out).__name__}")
    if now.n_ordinals and now.book.dtype == object:
        raise TypeError("out must be None for str ids: an object array is made for each answer")
    shape = (k,) if single else (n_queries, k)
    for name, array, dtype in (("ids", out[0], np.int64), ("scores", out[1], np.float32)):
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array)
            wanted = f"{np.dtype(dtype)}{shape}"
            raise ValueError(f"out must hold {name} as an ndarray {wanted}, got {got}")
        if not array.flags.writeable:
            raise ValueError(f"out must hold writeable {name}, got a read-only array")
    if np.shares_memory(*out):
        raise ValueError("out must hold two arrays that share no memory")
    return out


def answer(
    now: Generation,
    ordinals: Int64Array,
    scores: Float32Array,
    *,
    single: bool,
    partial: bool = False,
    out: Out | None = None,
) -> TopK:
    """Return ordinals (n_queries, k), −1 where padded, as the caller's ids."""
    if now.n_ordinals == 0:
        ids = np.full(ordinals.shape, _fill(now), now.book.dtype)
    else:
        ids = now.book.names(ordinals, now.n_ordinals)
        if len(ordinals) != 1 or (ordinals.size and ordinals.item(-1) < 0):  # padding comes last
            ids[ordinals < 0] = _fill(now)
    if single:
        ids, scores, ordinals = ids[0], scores[0], ordinals[0]
    if out is not None:
        out[0][...], out[1][...] = ids, scores
        ids, scores = out
    return TopK(ids, scores, ordinals=ordinals, partial=partial)


def _fill(now: Generation) -> int | None:
    """Return what stands for no id."""
    return None if now.book.dtype == object else PADDING_ID
