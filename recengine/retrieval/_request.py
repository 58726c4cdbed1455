"""One request against one generation: a native call per segment, and the merge of their answers."""

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
from recengine.retrieval._stats import PAIRS

# Up to so many bytes of codes few queries read whole: reading them costs little beside scoring what
# the upper halves leave. Timed with `_search.search` on Gaussian vectors of 32 to 384 dims, k = 10,
# one query: at 4 MiB 1.3 to 1.6 times as fast where the codes lie in a cache, and equal where they
# come from memory; there, from 8 MiB on, the upper halves win.
SMALL_CODES = 2**22

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
    """Return (ordinals, scores, stats) as `_search.search` does, over all segments.

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
        Further arguments of `_search.search`: the exclusions, the lowest score, the deadline.
    """
    answers = []
    places = (None, None) if ordinals is None else now.locate(ordinals)
    first = (now.base, now.base_alive, mask) if base is None else (*base, None)
    parts = ((*first, places[0]), (now.delta, now.delta_alive, mask, places[1]))
    for segment, alive, words, place in parts:
        rows = None if place is None else _there(segment, place)
        if segment.n_rows == 0 or (rows is not None and len(rows) == 0):
            continue
        answers.append(
            _search.search(
                _api(),
                now.metric,
                queries,
                segment.vectors,
                segment.sq_norms,
                segment.reach,
                k,
                ordinals=segment.ordinals,
                ascending=segment.ascending,
                alive=alive,
                mask=words,
                rows=rows,
                bias=_bias.of_rows(segment, bias),
                num_threads=num_threads,
                codes=segment.codes,
                coarse=segment.vectors.size > SMALL_CODES,
                **options,
            )
        )
    if not answers:
        return _nothing(len(queries), k)
    return answers[0] if len(answers) == 1 else _merged(answers)


def _there(segment: Segment, rows: Int64Array) -> Int64Array:
    """Return the rows that are not −1, ascending."""
    found = rows[rows >= 0]
    return found if segment.ascending else np.sort(found)


def _nothing(n_queries: int, k: int) -> tuple[Int64Array, Float32Array, dict[str, Any]]:
    padding = np.full((n_queries, k), -1, np.int64)
    scores = np.full((n_queries, k), -np.inf, np.float32)
    stats = {"level": _native.simd_level(), "partial": False, **dict.fromkeys(PAIRS, 0)}
    return padding, scores, stats


def _merged(answers: Any) -> tuple[Int64Array, Float32Array, dict[str, Any]]:
    """Merge two answers over disjoint sets of items."""
    (*one, stats), (*other, more) = answers
    ordinals, scores = _select.merge_two(*one, *other)
    for name, value in more.items():
        if name == "partial":
            stats[name] = stats[name] or value
        elif name != "level":
            stats[name] += value
    return ordinals, scores, stats


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
