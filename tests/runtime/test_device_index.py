"""DeviceIndex gives the ids and the score bits of its FlatIndex, and says how it came to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from device_indexes import assert_alike, each_metric, each_storage, mixed, on_cpu

import recengine as rec


@each_storage
@each_metric
def test_answers_are_those_of_the_index_and_of_the_oracle(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    for dim, n in ((1, 40), (7, 300), (33, 3000)):
        vectors, queries = mixed(rng, n, dim), mixed(rng, 12, dim)
        device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
        for k in (0, 1, 7, n, n + 3):
            got = assert_alike(device, queries, k)
            oracles.assert_same_topk(got, oracles.search(metric, queries, vectors, k))
            assert_alike(device, queries[0], k)
        assert_alike(device, queries[:0], 3)


@each_storage
@each_metric
def test_gaussian_queries_are_proved_by_the_device(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    vectors, queries = rng.standard_normal((20_000, 48)), rng.standard_normal((300, 48))
    device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
    assert_alike(device, queries, 10)
    assert device.stats == {
        "searches": 1,
        "queries": 300,
        "proved": 300,
        "grown": device.stats["grown"],
        "by_index": 0,
    }
    assert device.stats["grown"] <= (0 if storage == "float32" else 30)


@each_metric
def test_top_k_is_a_prefix_of_top_k_plus_one(rng: np.random.Generator, metric: str) -> None:
    vectors = rng.integers(-1, 2, (2000, 6)).astype(np.float32)
    queries = rng.integers(-1, 2, (9, 6)).astype(np.float32)
    device = on_cpu(rec.FlatIndex(vectors, metric=metric))
    whole = device.search(queries, 40)
    for k in (0, 1, 2, 13, 39):
        oracles.assert_same_topk(device.search(queries, k), (whole.ids[:, :k], whole.scores[:, :k]))


@each_storage
@each_metric
def test_tiles_are_one_catalogue(rng: np.random.Generator, metric: str, storage: str) -> None:
    """Two full tiles, a last one of 4 rows, and a fourth that is there for later."""
    vectors, queries = mixed(rng, 2 * 2048 + 4, 9), rng.standard_normal((5, 9))
    device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage, tile_rows=2048)
    assert_alike(device, queries, 30)
    best = device.index.search(vectors[-3], 1)
    oracles.assert_same_topk(device.search(vectors[-3], 1), best)


def test_more_queries_than_a_run_takes_are_cut_into_runs(rng: np.random.Generator) -> None:
    vectors, queries = rng.standard_normal((900, 5)), rng.standard_normal((600, 5))
    device = on_cpu(rec.FlatIndex(vectors, ids=[f"i{n}" for n in range(900)], metric="dot"))
    lists = [[f"i{n}" for n in rng.integers(0, 900, 20)] for _ in range(600)]
    assert_alike(device, queries, 4, exclude=lists)
    assert device.stats["proved"] == 600


@each_storage
@each_metric
def test_filters_and_biases_are_those_of_the_index(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    n, genre = 3000, np.array(["a", "b"])
    vectors, queries = mixed(rng, n, 12), rng.standard_normal((6, 12))
    own = None if metric == "l2" else rng.standard_normal(n)
    columns = {"genre": genre[rng.integers(0, 2, n)]}
    index = rec.FlatIndex(vectors, metric=metric, columns=columns, bias=own)
    device = on_cpu(index, storage)
    half = rng.permutation(n)[: n // 2]
    lists = [rng.integers(0, n, size).tolist() for size in (0, 3, 50, 200, 1, 9)]
    prepared = index.filter(where=rec.where(genre="a"))
    for options in (
        {"deny": half},
        {"allow": half},
        {"allow": [3, 4, 5], "deny": [4]},
        {"allow": []},
        {"where": rec.where(genre="b")},
        {"filter": prepared},
        {"filter": prepared, "deny": half, "exclude": lists},
        {"exclude": lists},
        {"exclude": lists, "deny": half, "min_score": 0.4},
        {"min_score": 1e9},
    ):
        assert_alike(device, queries, 11, **options)
    if metric != "l2":
        assert_alike(device, queries, 11, bias={int(half[0]): 9.0, 7: -3.0}, exclude=lists)
        assert_alike(device, queries, 11, bias=rng.standard_normal(n) * 1e4)
    assert device.stats["proved"] > 0


@each_storage
@each_metric
def test_updates_are_known_to_the_next_search(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    vectors, queries = rng.standard_normal((3000, 8)), rng.standard_normal((7, 8))
    index = rec.FlatIndex(vectors, metric=metric)
    device = on_cpu(index, storage, tile_rows=2048)
    found = assert_alike(device, queries, 20)
    sessions = dict(device._scorer._sessions)
    index.delete(found.ids[0, :5])
    assert_alike(device, queries, 20)
    index.upsert([10_000, int(found.ids[1, 0])], rng.standard_normal((2, 8)) * 3)
    again = assert_alike(device, queries, 20)
    assert not np.isin(found.ids[0, :5], again.ids).any()
    index.upsert(np.arange(20_000, 21_000), rng.standard_normal((1000, 8)))
    index.compact()
    assert_alike(device, queries, 20, deny=found.ids[2])
    assert device._scorer._sessions == sessions, "new items need no new graph"
    assert device.stats["by_index"] == 0


@each_storage
@pytest.mark.parametrize("kept", ["float16", "bfloat16"])
def test_an_index_of_two_byte_numbers_or_in_a_file_is_searched_alike(
    rng: np.random.Generator, tmp_path: Any, kept: Any, storage: str
) -> None:
    index = rec.FlatIndex(rng.standard_normal((3000, 12)), metric="dot", storage=kept)
    index.save(tmp_path / "i.rec")
    queries = rng.standard_normal((5, 12))
    for each in (index, rec.FlatIndex.open(tmp_path / "i.rec")):
        device = on_cpu(each, storage)
        assert_alike(device, queries)
        assert device.stats["by_index"] == 0


def test_a_catalogue_that_doubled_has_a_new_graph(rng: np.random.Generator) -> None:
    index = rec.FlatIndex(rng.standard_normal((100, 4)), metric="dot")
    device = on_cpu(index, tile_rows=2048)
    assert_alike(device, np.ones(4))
    index.upsert(np.arange(100, 5000), rng.standard_normal((4900, 4)))
    index.compact()
    assert_alike(device, np.ones(4))
    assert {tiles for tiles, _ in device._scorer._sessions} == {4}


@each_metric
def test_an_empty_index_answers_with_padding(metric: str) -> None:
    index = rec.FlatIndex(np.empty((0, 3)), metric=metric)
    device = on_cpu(index)
    assert assert_alike(device, np.ones((2, 3)), 2).ids.tolist() == [[-1, -1]] * 2
    index.upsert([5], np.ones((1, 3)))
    assert assert_alike(device, np.ones(3), 2).ids.tolist() == [5, -1]
