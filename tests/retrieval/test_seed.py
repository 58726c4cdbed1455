"""The limit that a walk begins with: it spares scores, and never an item of the answer."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest

each_level = pytest.mark.parametrize("level", native.LEVELS)
each_metric = pytest.mark.parametrize("metric", native.METRICS)


@each_level
@each_metric
@pytest.mark.parametrize("n_queries", [1, 5, 40])
def test_little_survives_of_a_short_table(rng, level, metric, n_queries):
    vectors, queries = rng.standard_normal((2000, 32)), rng.standard_normal((n_queries, 32))
    got = native.search(level, metric, queries, vectors, 10, coarse=False)
    want = oracles.search(metric, native.f32(queries), native.f32(vectors), 10)
    oracles.assert_same_topk(got[:2], want)
    assert got[2]["fine"] == n_queries * 2000
    assert got[2]["survived"] < 70 * n_queries  # without it 100


@each_level
@each_metric
@pytest.mark.parametrize("k", [1, 3, 16, 17])
@pytest.mark.parametrize("n", [64, 127, 700, 1500])
def test_what_ties_with_the_limit_is_met(rng, level, metric, k, n):
    """All scores tie: the limit comes from items whose ordinals are higher than the answer's."""
    vectors = np.zeros((n, 24))
    vectors[:, 0] = 1
    vectors[np.arange(n), 1 + rng.integers(0, 23, n)] = rng.choice([-1, 1], n)
    queries = np.zeros((3, 24))
    queries[:, 0] = 1, 2.0**-70, 2.0**60
    got = native.search(level, metric, queries, vectors, k)
    np.testing.assert_array_equal(got[0], np.tile(np.arange(k), (3, 1)))
    got = native.search(level, metric, -queries, vectors, k, num_threads=2)
    want = oracles.search(metric, native.f32(-queries), native.f32(vectors), k)
    oracles.assert_same_topk(got[:2], want)


@each_level
def test_a_deadline_that_has_passed_leaves_nothing_seen(rng, level):
    vectors, queries = rng.standard_normal((4000, 16)), rng.standard_normal((20, 16))
    got = native.search(level, "dot", queries, vectors, 5, deadline_ns=1)
    assert got[2]["partial"]
    assert (got[0] == -1).all()


@each_level
@each_metric
@pytest.mark.parametrize("n_queries", [1, 14])
def test_the_limit_is_below_the_items_that_set_it(rng, level, metric, n_queries):
    """A few items stand out, and one more number lets them lie in many panels."""
    k, n_good, direction = 9, 18, rng.standard_normal(32)
    vectors = 0.01 * rng.standard_normal((1500, 33))
    good = rng.choice(1000, n_good, replace=False)
    vectors[good, :32] = direction * np.linspace(1, 1.001, n_good)[:, None]
    vectors[:, 32] = rng.uniform(4, 5, 1500)
    queries = np.append(direction, 0) + 1e-3 * rng.standard_normal((n_queries, 33))
    got = native.search(level, metric, queries, vectors, k)
    want = oracles.search(metric, native.f32(queries), native.f32(vectors), k)
    oracles.assert_same_topk(got[:2], want)


@each_level
@each_metric
def test_a_large_k_is_given_a_limit_from_more_rows(rng, level, metric):
    """The first 2,560 rows of 42,000, where k is 20."""
    vectors, queries = rng.standard_normal((42_000, 32)), rng.standard_normal((15, 32))
    got = native.search(level, metric, queries, vectors, 20)
    want = oracles.search(metric, native.f32(queries), native.f32(vectors), 20)
    oracles.assert_same_topk(got[:2], want)
    short = native.search(level, metric, queries, vectors[:40_000], 20)
    assert got[2]["survived"] < 0.9 * short[2]["survived"]
