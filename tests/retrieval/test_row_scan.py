"""Where codes in an order of their own cannot tell items apart, rows are walked as they lie."""

from __future__ import annotations

import time

import native_calls as native
import numpy as np
import oracles
import pytest

from recengine import _native
from recengine.retrieval import _coding, _score, _search
from recengine.retrieval._vectors import rounded

N, DIM, K = 6000, 512, 9  # rows long enough for the codes to be tried twice
KINDS = ("orthogonal", "tight", "lengths", "copies")
ORDERS = ("norm", "any")
LIMITS = ("mask", "alive", "exclude", "bias", "ordinals")

each_kind = pytest.mark.parametrize("kind", KINDS)
each_order = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(autouse=True)
def by_norm(monkeypatch):
    """Codes lie in order of norm, whatever norms are."""
    monkeypatch.setattr(_coding, "SMALLEST_ORDERED", 0)
    monkeypatch.setattr(_coding, "WORTHWHILE", 2.0)


def tied(rng, kind, n_queries, n=N):
    """Return (queries, vectors) whose scores tie, or nearly, in spite of their norms."""
    noise = rng.standard_normal((n, DIM))
    queries = np.ones((n_queries, DIM)) + 1e-7 * rng.standard_normal((n_queries, DIM))
    if kind == "tight":
        return native.f32(queries), native.f32(1 + 1e-7 * noise)
    if kind == "lengths":  # the best are the last in order of norm: each beats all before it
        return native.f32(-queries), native.f32((1 + 1e-7 * noise) * rng.pareto(2, (n, 1)))
    noise *= rng.pareto(2, (n, 1)) * (np.arange(DIM) != 5)
    if kind == "copies":
        noise[rng.permutation(n)[: n // 12]] = noise[0]
        noise[rng.permutation(n)[: n // 12]] = noise[1]
    queries = rng.uniform(1, 2, (n_queries, 1)) * (np.arange(DIM) == 5)
    return native.f32(queries), native.f32(noise)


def both(rng, order, queries, vectors, level=native.LEVELS[-1], **options):
    """Return the stats of a search by codes, having held its answer against the float scan."""
    api = _native.api(level)
    norms = _score.squared_norms(api, vectors)
    reach = _score.reach(1, norms)
    codes = _coding.encode(vectors, norms, reach, 1)
    assert "block_reach" in codes
    if order == "any":
        codes.pop("block_reach")
        if "members" not in codes:
            codes = _native.encode(vectors, norms, 1, order=rng.permutation(len(vectors)))
    arguments = (api, 1, queries, vectors, norms, reach, K)
    want = _search.search(*arguments, **options)
    got = _search.search(*arguments, codes=codes, **options)
    np.testing.assert_array_equal(got[0], want[0])
    oracles.assert_same_bits(got[1], want[1])
    return got[2]


@each_kind
@each_order
@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("n_queries", [1, 14])
def test_answers_are_those_of_the_oracle(rng, kind, order, level, n_queries):
    queries, vectors = tied(rng, kind, n_queries)
    stats = both(rng, order, queries, vectors, level)
    begins_anew = (kind, order) != ("lengths", "any")  # there codes tell lengths apart
    assert (stats["scanned"] > len(vectors) * n_queries) == begins_anew
    want = oracles.search("dot", queries, vectors, K)
    oracles.assert_same_topk(native.search(level, "dot", queries, vectors, K)[:2], want)


@each_kind
@each_order
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_parts_and_limits_of_a_request_hold(rng, kind, order, threads, storage):
    queries, vectors = tied(rng, kind, 3)
    queries[1] = 0
    vectors = rounded("vectors", vectors, storage)
    for chosen in (set(), *({limit} for limit in LIMITS), set(LIMITS)):
        options = native.random_limits(rng, N, 3, chosen)
        both(rng, order, queries, vectors, num_threads=threads, **options)
    both(rng, order, queries, vectors, num_threads=threads, min_score=0.0)


@each_kind
def test_a_deadline_loses_nothing_that_was_found(rng, kind):
    """However far the walk came, what it returns is the best of some rows, k of them."""
    queries, vectors = tied(rng, kind, 2)
    norms = _score.squared_norms(_native.api(), vectors)
    reach = _score.reach(1, norms)
    codes = _coding.encode(vectors, norms, reach, 1)
    all_scores = oracles.scores("dot", queries, vectors)
    arguments = (_native.api(), 1, queries, vectors, norms, reach, K)
    for microseconds in range(50, 4000, 50):
        deadline = time.monotonic_ns() + 1000 * microseconds
        rows, scores, stats = _search.search(*arguments, codes=codes, deadline_ns=deadline)
        if stats["scanned"] < 2 * K * len(queries):
            continue
        for mine, got, every in zip(rows, scores, all_scores, strict=True):
            assert (mine >= 0).all()
            assert len(set(mine.tolist())) == K
            oracles.assert_same_bits(got, every[mine])
            assert np.array_equal(np.lexsort((mine, -got)), np.arange(K))


def test_order_is_kept_where_queries_stop_soon(rng):
    """The first rows tie, and nothing behind them is as long."""
    queries, vectors = tied(rng, "tight", 1)
    vectors[1200:] *= np.float32(0.5)
    assert both(rng, "norm", queries, vectors)["scanned"] < 2000


def test_each_beats_all_before_it_only_in_order_of_norm(rng):
    queries, vectors = tied(rng, "lengths", 1)
    assert both(rng, "norm", queries, vectors)["rescored"] < 0.6 * N
