"""Calls straight into the native search, at a chosen SIMD level."""

from __future__ import annotations

import numpy as np
import oracles

from recengine import _native
from recengine.retrieval import _coding, _score, _search

LEVELS = tuple(_native.simd_levels())
METRICS = oracles.METRICS


def f32(array):
    return np.ascontiguousarray(array, np.float32)


def search(level, metric, queries, vectors, k, **options):
    """Return (rows, scores, stats) of the int8 scan, having held the float32 scan against it."""
    api = _native.api(level)
    queries, vectors = f32(queries), f32(vectors)
    number, norms = METRICS.index(metric), _score.squared_norms(api, vectors)
    reach = _score.reach(number, norms)
    arguments = (api, number, queries, vectors, norms, reach, k)
    by_float = _search.search(*arguments, **options)
    codes = _coding.encode(vectors, norms, reach, number)
    by_codes = _search.search(*arguments, codes=codes, **options)
    np.testing.assert_array_equal(by_codes[0], by_float[0])
    np.testing.assert_array_equal(by_codes[1].view(np.int32), by_float[1].view(np.int32))
    return by_codes


def panel_facts(codes, n):
    """Return views (inverse_step, bias: (n_panels, 32); bounds: (n_panels, 2, 8)) of a code table.

    `bounds` holds, of the fine and of the coarse grid, the largest residual, length, 1 / step and
    |bias| and the smallest 1 / step of each panel.
    """
    n_panels = -(-n // 32)
    tail = codes["high"].reshape(n_panels, -1)[:, -320:].view(np.float32)
    return tail[:, :32], tail[:, 32:64], tail[:, 64:].reshape(n_panels, 2, 8)


def signed_codes(codes, n, dim):
    """Return the codes (n, 8 * pairs) of a code table, joined from their planes."""
    n_panels, pairs = -(-n // 32), -(-dim // 8)
    high = codes["high"].reshape(n_panels, -1)[:, :-320]
    low = codes["low"].reshape(n_panels, -1)
    groups = np.stack([(high & 15) << 4 | low & 15, high & 240 | low >> 4], axis=1)
    groups = groups.reshape(n_panels, 2, pairs, 32, 4)
    return groups.transpose(0, 3, 2, 1, 4).reshape(-1, pairs * 8).astype(np.int64)[:n] - 128


def words(allowed):
    """Pack booleans (n,) into the uint64 mask of the kernels."""
    bits = np.zeros(-(-len(allowed) // 64) * 64, bool)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view(np.uint64)


def random_limits(rng, n, n_queries, chosen):
    """Return options of the search that limit it to some of n rows, as far as `chosen` names them.

    Of "ordinals", "mask", "alive", "exclude" and "bias".
    """
    options, width = {}, n
    if "ordinals" in chosen:
        width = 2 * n
        numbers = rng.permutation(width)[:n].astype(np.int64)
        if rng.random() < 0.5:
            numbers.sort()
        options["ordinals"] = numbers
        options["ascending"] = bool((np.diff(numbers) > 0).all())
    if "mask" in chosen:
        options["mask"] = words(rng.random(width) < 0.6)
    if "alive" in chosen:
        options["alive"] = words(rng.random(n) < 0.6)
    if "exclude" in chosen:
        lists = [np.unique(rng.integers(0, width, 20)) for _ in range(n_queries)]
        options["exclude_indptr"], options["exclude_rows"] = csr(lists)
    if "bias" in chosen:
        options["bias"] = f32(rng.choice([0, 0.5, -2, 1e-3], n))
    return options


def csr(lists):
    """Return (indptr, rows) of sorted row lists."""
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    rows = [np.unique(np.asarray(entry, np.int64)) for entry in lists]
    assert all(len(a) == len(b) for a, b in zip(rows, lists, strict=True))
    return indptr, np.concatenate([*rows, np.empty(0, np.int64)])
