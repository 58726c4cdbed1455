"""What live indexes and boosts ask of the native search: ordinals, tombstones, bias, norm order."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest

from recengine import _native
from recengine.retrieval import _coding, _score, _search

KINDS = ("gaussian", "ties", "skewed", "duplicates", "wide")
SHAPES = [(1, 3, 1), (33, 16, 4), (700, 5, 40), (5000, 33, 14)]


def make(rng, kind, n, dim):
    vectors = rng.normal(size=(n, dim))
    if kind == "ties":
        vectors = rng.integers(-1, 2, size=(n, dim))
    elif kind == "skewed":
        vectors *= np.exp(1.5 * rng.normal(size=(n, 1)))
    elif kind == "duplicates":
        vectors = vectors[rng.integers(0, max(1, n // 50), n)]
    elif kind == "wide":
        vectors *= 10.0 ** rng.integers(-15, 16, size=(n, 1))
    return native.f32(vectors)


def best(scores, ordinals, allowed, k):
    """Return the top k by (score desc, ordinal asc) among `allowed`, padded."""
    keep = np.flatnonzero(allowed)
    keep = keep[np.lexsort((ordinals[keep], -scores[keep]))][:k]
    ids, values = np.full(k, -1), np.full(k, -np.inf, np.float32)
    ids[: len(keep)], values[: len(keep)] = ordinals[keep], scores[keep]
    return ids, values


@pytest.fixture
def any_order(monkeypatch):
    """Codes lie in order of norm, however small the index."""
    monkeypatch.setattr(_coding, "SMALLEST_ORDERED", 0)
    monkeypatch.setattr(_coding, "WORTHWHILE", 2.0)


@pytest.mark.parametrize("ascending", [True, False], ids=["ascending", "any order"])
@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_search_speaks_ordinals_and_skips_the_dead(rng, any_order, kind, level, metric, ascending):
    for n, dim, n_queries in SHAPES:
        vectors, queries = make(rng, kind, n, dim), make(rng, kind, n_queries, dim)
        ordinals = rng.permutation(2 * n)[:n].astype(np.int64)
        if ascending:
            ordinals.sort()
        alive, mask = rng.random(n) < 0.8, rng.random(2 * n) < 0.7
        bias = None
        if metric != "l2":
            spread = np.abs(oracles.scores(metric, queries, vectors)).max()
            bias = native.f32(rng.normal(size=n) * 0.3 * spread)
        options = {
            "ordinals": ordinals,
            "ascending": ascending,
            "alive": native.words(alive),
            "mask": native.words(mask),
        }
        if bias is not None:
            options["bias"] = bias
        table = ranked(level, metric, queries, vectors, bias)
        for k, threads in ((1, 1), (10, 3)):
            got = native.search(level, metric, queries, vectors, k, num_threads=threads, **options)
            for q in range(n_queries):
                ids, values = best(table[q], ordinals, alive & mask[ordinals], k)
                np.testing.assert_array_equal(got[0][q], ids)
                oracles.assert_same_bits(got[1][q], values)


def ranked(level, metric, queries, vectors, bias):
    """Return the canonical scores of all pairs, bias added (held against the oracle elsewhere)."""
    api, n = _native.api(level), len(vectors)
    indptr = np.arange(len(queries) + 1, dtype=np.int64) * n
    rows = np.tile(np.arange(n), len(queries))
    norms = _score.squared_norms(api, vectors)
    number = native.METRICS.index(metric)
    scores = _score.rank(api, number, queries, vectors, norms, indptr, rows, bias=bias)
    return scores.reshape(len(queries), n)


def test_ordinals_beyond_the_mask_are_not_returned(rng):
    vectors = make(rng, "gaussian", 130, 8)
    got = native.search("scalar", "dot", vectors[:3], vectors, 130, mask=np.full(1, 7, np.uint64))
    assert {int(i) for i in got[0].ravel()} == {-1, 0, 1, 2}


def test_norm_order_stops_early_on_skewed_norms(rng):
    directions = rng.normal(size=(50_000, 32))
    vectors = native.f32(directions * rng.pareto(1.5, size=(50_000, 1)))
    queries = native.f32(rng.normal(size=(40, 32)))
    stats = native.search("scalar", "dot", queries, vectors, 10)[2]
    assert stats["scanned"] < 0.3 * 40 * 50_000
    even = native.f32(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    stats = native.search("scalar", "dot", queries, even, 10)[2]
    assert stats["scanned"] == 40 * 50_000


@pytest.mark.parametrize("wrong", ["long", "twice", "beyond", "below"])
def test_encode_refuses_what_is_no_order(rng, wrong):
    vectors = make(rng, "gaussian", 5, 4)
    norms = _score.squared_norms(_native.api(), vectors)
    order = {
        "long": [0, 1, 2, 3, 4, 4],
        "twice": [0, 1, 2, 3, 3],
        "beyond": [0, 1, 2, 3, 5],
        "below": [0, 1, 2, 3, -1],
    }[wrong]
    with pytest.raises(ValueError, match="order must"):
        _native.encode(vectors, norms, 1, order=np.array(order, np.int64))


def test_codes_of_other_vectors_are_refused(rng):
    vectors = make(rng, "gaussian", 40, 4)
    api = _native.api()
    norms = _score.squared_norms(api, vectors)
    codes = _native.encode(vectors[:39], norms[:39], 1)
    with pytest.raises(ValueError, match="codes must"):
        _search.search(
            api, 1, vectors[:2], vectors[:8], norms[:8], np.ones(8, np.float32), 3, codes=codes
        )
