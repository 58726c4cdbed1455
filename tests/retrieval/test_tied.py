"""Scores that float32 cannot tell apart: tiles of float64 sums decide, and the answer is exact."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest

import recengine as rec
from recengine import _native
from recengine.retrieval import _score, _search

N, DIM, K = 1500, 19, 9
KINDS = ("tight", "orthogonal", "integers", "middle", "scales", "in places")

each_level = pytest.mark.parametrize("level", native.LEVELS)
each_metric = pytest.mark.parametrize("metric", native.METRICS)
each_kind = pytest.mark.parametrize("kind", KINDS)


def tied(rng, kind, n_queries, n=N, dim=DIM):
    """Return (queries, vectors) whose scores tie, or nearly."""
    noise = rng.standard_normal((n, dim))
    if kind == "tight":
        return native.f32(1 + 1e-7 * noise[:n_queries]), native.f32(1 + 1e-7 * noise)
    last = np.arange(dim) == dim - 1
    if kind == "orthogonal":
        return native.f32(rng.uniform(1, 2, (n_queries, 1)) * last), native.f32(noise * ~last)
    if kind == "integers":
        return (
            native.f32(rng.integers(-1, 2, (n_queries, dim)) * (np.arange(dim) < 3)),
            native.f32(rng.integers(-1, 2, (n, dim))),
        )
    if kind == "middle":  # sums at the middle of two float32 numbers, and 2^-47 beside it
        vectors = np.zeros((n, dim))
        vectors[:, 0] = 1 + 2.0**-23 * rng.integers(0, 2, n)
        vectors[:, 1] = 64 + 2.0**-17 * rng.integers(-1, 2, n)
        queries = np.zeros((n_queries, dim))
        queries[:, :2] = 1, 2.0**-30
        return native.f32(queries), native.f32(vectors)
    if kind == "scales":  # one direction, lengths that float32 cannot all invert; zeros among them
        lengths = 10.0 ** rng.integers(-36, 37, (n, 1)) * (rng.random((n, 1)) < 0.95)
        directions = 1 + 1e-7 * noise
        return native.f32(directions[:n_queries] * lengths[::-1][:n_queries]), native.f32(
            directions * lengths
        )
    noise[:, 0] += 30 * (np.arange(n) // 200 % 2)  # "in places": 200 rows apart, 200 equal in score
    noise[np.arange(n) // 200 % 2 == 0] = 1
    noise += 1e-7 * rng.standard_normal((n, dim))
    return native.f32(rng.standard_normal((n_queries, dim))), native.f32(noise)


def by_floats(level, metric, queries, vectors, k, **options):
    """Return (rows, scores, stats) of the scan without codes."""
    api, number = _native.api(level), native.METRICS.index(metric)
    norms = _score.squared_norms(api, vectors)
    reach = _score.reach(number, norms)
    return _search.search(api, number, queries, vectors, norms, reach, k, **options)


@each_level
@each_metric
@each_kind
@pytest.mark.parametrize("n_queries", [1, 2, 40])
def test_tied_scores_equal_oracle(rng, level, metric, kind, n_queries):
    queries, vectors = tied(rng, kind, n_queries)
    want = oracles.search(metric, queries, vectors, K)
    got = native.search(level, metric, queries, vectors, K, num_threads=2)
    oracles.assert_same_topk(got[:2], want)


@each_level
@each_metric
@each_kind
def test_every_limit_of_a_request_holds(rng, level, metric, kind):
    queries, vectors = tied(rng, kind, 14)
    lists = [rng.choice(N, rng.integers(0, 60), replace=False) for _ in range(14)]
    indptr, rows = native.csr(lists)
    allowed = rng.random(N) < 0.6
    bias = None
    if metric != "l2":
        bias = native.f32(rng.choice([0, 2.0**-26, 2.0**-24, -(2.0**-60)], N))
    got = native.search(
        level,
        metric,
        queries,
        vectors,
        K,
        mask=native.words(allowed),
        exclude_indptr=indptr,
        exclude_rows=rows,
        bias=bias,
    )
    want = oracles.search(metric, queries, vectors, K, allowed=allowed, exclude=lists, bias=bias)
    oracles.assert_same_topk(got[:2], want)


@each_level
@each_metric
@each_kind
@pytest.mark.parametrize("n_queries", [1, 14])
def test_ties_go_by_ordinal_in_any_order(rng, level, metric, kind, n_queries):
    queries, vectors = tied(rng, kind, n_queries)
    table = oracles.scores(metric, queries, vectors)
    for ordinals in (rng.permutation(N), np.sort(rng.choice(3 * N, N, replace=False))):
        alive = rng.random(N) < 0.7
        by_ordinal = np.full((n_queries, 3 * N), -np.inf, np.float32)
        by_ordinal[:, ordinals] = table
        there = np.zeros(3 * N, bool)
        there[ordinals] = alive
        got = native.search(
            level,
            metric,
            queries,
            vectors,
            K,
            ordinals=ordinals.astype(np.int64),
            ascending=bool((np.diff(ordinals) > 0).all()),
            alive=native.words(alive),
        )
        oracles.assert_same_topk(got[:2], oracles.best(by_ordinal, K, allowed=there))


@each_level
@each_metric
@each_kind
def test_min_score_at_the_tied_score(rng, level, metric, kind):
    queries, vectors = tied(rng, kind, 5)
    table = oracles.scores(metric, queries, vectors)
    common = np.float32(np.median(table))
    for floor in (common, np.nextafter(common, np.float32(np.inf)), table.max()):
        got = native.search(level, metric, queries, vectors, K, min_score=float(floor))
        oracles.assert_same_topk(got[:2], oracles.best(table, K, min_score=float(floor)))


@each_level
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("n_queries", [1, 3, 4, 30])
def test_tiles_do_the_work_and_are_counted(rng, level, metric, n_queries):
    queries, vectors = tied(rng, "orthogonal", n_queries)
    for k in (1, 10):
        stats = by_floats(level, metric, queries, vectors, k)[2]
        assert stats["scanned"] == stats["float32"] + stats["float64"] == n_queries * N
        assert stats["float64"] > 0.95 * stats["scanned"]
        assert stats["rescored"] <= n_queries * max(32, k)


@each_level
def test_what_float32_tells_apart_does_not_go_by_tiles(rng, level):
    vectors, queries = native.f32(rng.standard_normal((2, N, DIM)))
    stats = by_floats(level, "dot", queries[:24], vectors, 5)[2]
    assert stats["scanned"] == 24 * N
    assert stats["float64"] < 0.3 * stats["scanned"]


@each_level
def test_ties_in_another_order_are_not_scored_one_by_one(rng, level):
    queries, vectors = tied(rng, "orthogonal", 12)
    ordinals = rng.permutation(N).astype(np.int64)
    stats = by_floats(level, "dot", queries, vectors, 5, ordinals=ordinals, ascending=False)[2]
    assert stats["rescored"] < 0.6 * stats["scanned"]


@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
@each_kind
def test_each_storage_answers_for_what_it_keeps(rng, metric, storage, kind):
    queries, vectors = tied(rng, kind if kind != "scales" else "tight", 20)
    index = rec.FlatIndex(vectors, metric=metric, storage=storage)
    kept = np.array([index[i] for i in range(N)])
    want = oracles.search(metric, queries, kept, K)
    oracles.assert_same_topk(index.search(queries, K), want)
    oracles.assert_same_topk(index.search(queries[3], K), (want[0][3], want[1][3]))


def test_hopeless_codes_are_seldom_tried(rng):
    queries, vectors = tied(rng, "orthogonal", 40, n=60_000, dim=16)
    index = rec.FlatIndex(vectors, metric="cosine")
    index.search(queries, 10)
    stats = index.stats
    assert stats["scanned"] == 40 * 60_000
    assert stats["fine"] + stats["coarse"] < 0.05 * stats["scanned"]
    assert stats["rescored"] < 0.05 * stats["scanned"]


@each_level
def test_codes_go_on_with_the_right_limits_after_a_pause(rng, level):
    # In order of norm every other query is done early. To the rest the short rows are nearly
    # equal: codes cannot serve them, float32 can, and codes are tried again now and then.
    n, dim = 40_000, 64
    vectors = rng.standard_normal((n, dim))
    vectors[:, -1] = 3 + 3e-3 * rng.standard_normal(n)
    for rows, length in zip(np.split(rng.permutation(n)[:9000], [4000]), (15, 4), strict=True):
        vectors[rows] *= length
        vectors[rows, -1] = -length * np.abs(rng.standard_normal(len(rows)))
    queries = rng.standard_normal((40, dim))
    queries[1::2] = np.eye(dim)[-1] * 10.0 ** np.arange(-10, 10)[:, None]
    queries, vectors = native.f32(queries), native.f32(vectors)
    got = native.search(level, "dot", queries, vectors, 20)
    assert got[2]["float32"] > 0.2 * 40 * n
    oracles.assert_same_topk(got[:2], oracles.search("dot", queries, vectors, 20))
