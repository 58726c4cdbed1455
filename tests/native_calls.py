"""Calls straight into the native search, at a chosen SIMD level."""

from __future__ import annotations

import numpy as np
import oracles

from recengine import _native
from recengine.retrieval import _score, _search

LEVELS = tuple(_native.simd_levels())
METRICS = oracles.METRICS


def f32(array):
    return np.ascontiguousarray(array, np.float32)


def search(level, metric, queries, vectors, k, **options):
    """Return (rows, scores, stats) of the native search over plain arrays."""
    api = _native.api(level)
    queries, vectors = f32(queries), f32(vectors)
    number, norms = METRICS.index(metric), _score.squared_norms(api, vectors)
    reach = _score.reach(number, norms)
    return _search.search(api, number, queries, vectors, norms, reach, k, **options)


def words(allowed):
    """Pack booleans (n,) into the uint64 mask of the kernels."""
    bits = np.zeros(-(-len(allowed) // 64) * 64, bool)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view(np.uint64)


def csr(lists):
    """Return (indptr, rows) of sorted row lists."""
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    rows = [np.unique(np.asarray(entry, np.int64)) for entry in lists]
    assert all(len(a) == len(b) for a, b in zip(rows, lists, strict=True))
    return indptr, np.concatenate([*rows, np.empty(0, np.int64)])
