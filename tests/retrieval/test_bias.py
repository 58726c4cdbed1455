"""Boosts: added in float64 before the one rounding, by item, per index and per request."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec

N, DIM = 200, 6


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture
def bias(rng):
    return (rng.standard_normal(N) * 10.0 ** rng.integers(-9, 9, N)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("n_queries", [1, 40])
def test_bias_equals_oracle(vectors, bias, metric, n_queries, rng):
    queries = rng.standard_normal((n_queries, DIM)).astype(np.float32)
    want = oracles.search(metric, queries, vectors, N, bias=bias)
    plain = rec.FlatIndex(vectors, metric=metric)
    boosted = rec.FlatIndex(vectors, metric=metric, bias=bias)
    by_id = dict(enumerate(bias.tolist()))
    for got in (
        boosted.search(queries, N),
        plain.search(queries, N, bias=bias),
        plain.search(queries, N, bias=by_id),
        boosted.rank(queries, [np.arange(N)] * n_queries),
        plain.rank(queries, [np.arange(N)] * n_queries, bias=by_id),
    ):
        oracles.assert_same_topk(got, want)


def test_bias_lifts_an_item_the_scan_alone_would_drop(vectors):
    index = rec.FlatIndex(vectors, ids=[f"{i}" for i in range(N)])
    worst = index.search(vectors[0], N).ids[-1]
    assert index.search(vectors[0], 1, bias={worst: 3.0}).ids.tolist() == [worst]
    assert index.search(vectors[0], 1, bias={"nobody": 3.0}).ids.tolist() == ["0"]


def test_two_biases_are_summed_and_rounded_once(vectors, rng):
    own = np.full(N, 1e8, np.float32)
    extra = rng.standard_normal(N).astype(np.float32)
    index = rec.FlatIndex(vectors, metric="dot", bias=own)
    total = (own.astype(np.float64) + extra).astype(np.float32)
    got = index.search(vectors[:3], N, bias=extra)
    oracles.assert_same_topk(got, oracles.search("dot", vectors[:3], vectors, N, bias=total))


def test_huge_biases_saturate():
    largest = np.finfo(np.float32).max
    index = rec.FlatIndex(np.eye(3), metric="dot", bias=[largest, -largest, 0])
    got = index.search(np.ones(3), 3, bias=[largest, -largest, 0])
    assert got.ids.tolist() == [0, 2, 1]
    assert got.scores.tolist() == [largest, 1, -largest]


def test_upsert_keeps_a_bias_that_is_not_given(vectors, bias):
    index = rec.FlatIndex(vectors, metric="dot", bias=bias)
    now = {i: float(bias[i]) for i in range(N)}

    def check():
        live = index.ids
        want = oracles.scores(
            "dot",
            vectors[:1],
            np.array([index[i] for i in live]),
            np.array([now[i] for i in live], np.float32),
        )[0]
        got = index.search(vectors[0], len(live))
        scores = dict(zip(live.tolist(), want, strict=True))
        oracles.assert_same_bits(got.scores, np.array([scores[i] for i in got.ids]))

    index.upsert([3, N], vectors[:2] + 1)
    now[N] = 0.0
    check()
    index.upsert([3, 4, N], vectors[5:8], bias=[5.0, 6.0, 7.0])
    now |= {3: 5.0, 4: 6.0, N: 7.0}
    check()
    index.upsert([4], vectors[9:10])
    check()
    index.compact()
    check()
    index.delete([4, N])
    index.upsert([4, N], vectors[:2])
    now |= {4: 0.0, N: 0.0}
    check()


def test_request_bias_follows_the_ids_after_deletes(vectors, rng):
    index = rec.FlatIndex(vectors, ids=np.arange(N) * 3, metric="dot")
    index.delete(np.arange(0, N, 2) * 3)
    index.upsert([1, 6], vectors[:2])
    for _ in range(2):
        boosts = rng.standard_normal(len(index)).astype(np.float32)
        got = index.search(vectors[7], len(index), bias=boosts)
        table = np.array([index[i] for i in index.ids])
        want = oracles.search("dot", vectors[7], table, len(index), bias=boosts)
        np.testing.assert_array_equal(got.ids, index.ids[want[0][0]])
        oracles.assert_same_bits(got.scores, want[1][0])
        index.compact()


def test_index_without_bias_takes_one_by_upsert(vectors):
    index = rec.FlatIndex(vectors, metric="dot")
    index.upsert([7], vectors[7:8], bias=[1e6])
    assert index.search(vectors[0], 1).ids.tolist() == [7]
    twin = index.snapshot()
    index.upsert([7], vectors[7:8], bias=[0])
    assert (
        index.search(vectors[7], 1).ids.tolist() != [7] or index.search(vectors[7], 1).scores < 9e5
    )
    twin.upsert([8], vectors[8:9])
    assert twin.search(vectors[0], 1).ids.tolist() == [7]


def test_bias_survives_save_and_open(vectors, bias, tmp_path):
    index = rec.FlatIndex(vectors, metric="dot", bias=bias)
    index.upsert([5, N + 1], vectors[:2], bias=[1e9, 1e8])
    index.save(tmp_path / "index.rec")
    again = rec.FlatIndex.open(tmp_path / "index.rec")
    oracles.assert_same_topk(again.search(vectors[:4], 50), index.search(vectors[:4], 50))


@pytest.mark.parametrize(
    ("bias", "error", "message"),
    [
        ([1.0] * 3, ValueError, r"bias must be 1-D of 4 entries, got shape \(3,\)"),
        ([[1.0] * 4], ValueError, r"bias must be 1-D of 4 entries, got shape \(1, 4\)"),
        ([1.0, np.nan, 0, 0], ValueError, "bias must be finite, got nan at 1$"),
        ([[1.0], [1.0, 2.0]], ValueError, "bias must be an array, got rows of different"),
        ([1e39, 0, 0, 0], ValueError, "bias must fit float32, got 1e"),
        (["1", "2", "3", "4"], TypeError, "bias must hold real numbers"),
    ],
)
def test_bias_refuses(bias, error, message):
    index = rec.FlatIndex(np.eye(4), metric="dot")
    with pytest.raises(error, match=message):
        index.search(np.ones(4), bias=bias)
    with pytest.raises(error, match=message):
        index.upsert(range(4), np.eye(4), bias=bias)
    with pytest.raises(error, match=message):
        rec.FlatIndex(np.eye(4), bias=bias)


def test_l2_refuses_a_bias():
    index = rec.FlatIndex(np.eye(2), metric="l2")
    calls = [
        lambda: rec.FlatIndex(np.eye(2), metric="l2", bias=[0, 0]),
        lambda: index.search(np.ones(2), bias=[0, 0]),
        lambda: index.search(np.ones(2), bias={}),
        lambda: index.rank(np.ones(2), [0], bias={0: 1.0}),
        lambda: index.upsert([0], np.ones((1, 2)), bias=[0]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="bias must be None under l2"):
            call()


def test_bias_by_id_refuses_ids_of_the_other_kind():
    index = rec.FlatIndex(np.eye(2), metric="dot")
    with pytest.raises(TypeError, match="bias must be integers as in the index, got 'a'"):
        index.search(np.ones(2), bias={"a": 1.0})
