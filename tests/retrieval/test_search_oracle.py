"""Every SIMD level returns the ids and the score bits of the float64 reference."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest

import recengine as rec
from recengine import _native
from recengine.retrieval import _score

each_level = pytest.mark.parametrize("level", native.LEVELS)
each_metric = pytest.mark.parametrize("metric", native.METRICS)


def mixed(rng, n, dim):
    """Gaussian rows, rows of small integers (ties), copies of rows, a zero row."""
    table = rng.standard_normal((n, dim)).astype(np.float32)
    table[n // 3 : 2 * n // 3] = rng.integers(-2, 3, (2 * n // 3 - n // 3, dim))
    if n > 4:
        table[n - 2] = table[0]
        table[n - 1] = 0
    return table


@each_level
@each_metric
def test_every_dim_equals_oracle(rng, level, metric):
    for dim in [*range(1, 68), 127, 128, 129, 300]:
        vectors, queries = mixed(rng, 50, dim), mixed(rng, 5, dim)
        got = native.search(level, metric, queries, vectors, 7)
        oracles.assert_same_topk(got[:2], oracles.search(metric, queries, vectors, 7))


@each_level
@each_metric
def test_every_catalogue_tail_equals_oracle(rng, level, metric):
    vectors, queries = mixed(rng, 140, 12), mixed(rng, 3, 12)
    for n in range(141):
        got = native.search(level, metric, queries, vectors[:n], 4)
        oracles.assert_same_topk(got[:2], oracles.search(metric, queries, vectors[:n], 4))


@each_level
@each_metric
def test_every_batch_size_equals_oracle(rng, level, metric):
    vectors, queries = mixed(rng, 90, 21), mixed(rng, 70, 21)
    want = oracles.search(metric, queries, vectors, 6)
    for n in range(71):
        got = native.search(level, metric, queries[:n], vectors, 6)
        oracles.assert_same_topk(got[:2], (want[0][:n], want[1][:n]))


@each_level
@each_metric
@pytest.mark.parametrize(
    ("n", "dim", "n_queries", "k"), [(3000, 64, 40, 10), (700, 384, 9, 100), (60, 4096, 3, 5)]
)
def test_larger_shapes_equal_oracle(rng, level, metric, n, dim, n_queries, k):
    vectors, queries = mixed(rng, n, dim), mixed(rng, n_queries, dim)
    got = native.search(level, metric, queries, vectors, k, num_threads=2)
    oracles.assert_same_topk(got[:2], oracles.search(metric, queries, vectors, k))


@each_level
@each_metric
def test_all_filters_equal_oracle(rng, level, metric):
    vectors, queries = mixed(rng, 333, 33), mixed(rng, 20, 33)
    bias = None if metric == "l2" else rng.standard_normal(333).astype(np.float32)
    lists = [rng.choice(333, rng.integers(0, 40), replace=False) for _ in range(20)]
    indptr, rows = native.csr(lists)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        allowed = rng.random(333) < share
        options = {"exclude_indptr": indptr, "exclude_rows": rows, "bias": bias}
        want = oracles.search(
            metric, queries, vectors, 12, allowed=allowed, exclude=lists, bias=bias
        )
        masked = native.search(
            level, metric, queries, vectors, 12, mask=native.words(allowed), **options
        )
        gathered = native.search(
            level, metric, queries, vectors, 12, rows=np.flatnonzero(allowed), **options
        )
        oracles.assert_same_topk(masked[:2], want)
        oracles.assert_same_topk(gathered[:2], want)


@each_level
@each_metric
def test_min_score_keeps_what_reaches_it(rng, level, metric):
    vectors, queries = mixed(rng, 200, 16), mixed(rng, 8, 16)
    table = oracles.scores(metric, queries, vectors)
    for floor in (
        float(np.median(table)),
        float(table[2].max()),
        float(np.nextafter(table[2].max(), np.float32(9))),
    ):
        got = native.search(level, metric, queries, vectors, 30, min_score=floor)
        oracles.assert_same_topk(got[:2], oracles.best(table, 30, min_score=floor))


@each_level
@each_metric
def test_rank_and_pairwise_equal_oracle(rng, level, metric):
    vectors, queries = mixed(rng, 150, 37), mixed(rng, 11, 37)
    api, code = _native.api(level), native.METRICS.index(metric)
    norms = _score.squared_norms(api, vectors)
    table = oracles.scores(metric, queries, vectors)
    for threads in (1, 3):
        oracles.assert_same_bits(
            _score.pairwise(api, code, queries, vectors, num_threads=threads), table
        )
        lists = [rng.choice(150, size, replace=False) for size in rng.integers(0, 50, 11)]
        indptr, rows = native.csr(lists)
        got = _score.rank(api, code, queries, vectors, norms, indptr, rows, num_threads=threads)
        owner = np.repeat(np.arange(11), np.diff(indptr))
        oracles.assert_same_bits(got, table[owner, rows])


@each_level
def test_sq_norms_have_the_bits_of_the_oracle(rng, level):
    for dim in (1, 8, 63, 200):
        vectors = mixed(rng, 60, dim)
        wide = vectors.astype(np.float64)
        got = _score.squared_norms(_native.api(level), vectors)
        np.testing.assert_array_equal(got, oracles.lane_sum(wide * wide))


@each_metric
def test_facade_equals_oracle(rng, metric):
    vectors, queries = mixed(rng, 500, 48), mixed(rng, 30, 48)
    index = rec.FlatIndex(vectors, metric=metric)
    want = oracles.search(metric, queries, vectors, 10)
    oracles.assert_same_topk(index.search(queries), want)
    oracles.assert_same_topk(index.search(queries[4]), (want[0][4], want[1][4]))


def test_worked_example():
    user = np.array([1.2, -0.6])
    items = np.array([[0.9, 0.1], [-0.3, 0.7], [0.6, -0.4], [0.8, 0.2]])
    np.testing.assert_allclose(
        rec.cosine_similarity(user, items), [0.8396, -0.7634, 0.9923, 0.7593], atol=5e-5
    )
    index = rec.FlatIndex(items, ids=[1, 2, 3, 4], metric="cosine")
    assert index.search(user, k=4).ids.tolist() == [3, 1, 4, 2]
