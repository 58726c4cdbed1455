"""What must not change an answer, does not."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest

import recengine as rec
from recengine import _native

each_metric = pytest.mark.parametrize("metric", native.METRICS)


@pytest.fixture
def tied(rng):
    """Items of few values, many of them equal: ties everywhere."""
    vectors = rng.integers(-1, 2, (2000, 6)).astype(np.float32)
    queries = rng.integers(-1, 2, (256, 6)).astype(np.float32)
    return vectors, queries


@each_metric
@pytest.mark.parametrize("num_threads", [1, 2, 3, 4])
def test_threads_do_not_change_the_answer(tied, metric, num_threads):
    vectors, queries = tied
    index = rec.FlatIndex(vectors, metric=metric)
    want = oracles.search(metric, queries[:40], vectors, 9)
    got = index.search(queries[:40], 9, num_threads=num_threads)
    oracles.assert_same_topk(got, want)
    one = index.search(queries[0], 9, num_threads=num_threads)
    oracles.assert_same_topk(one, (want[0][0], want[1][0]))


@each_metric
def test_batch_of_256_equals_single_queries(tied, metric):
    vectors, queries = tied
    index = rec.FlatIndex(vectors, metric=metric)
    batch = index.search(queries, 11)
    for i, query in enumerate(queries):
        single = index.search(query, 11)
        oracles.assert_same_topk(single, (batch.ids[i], batch.scores[i]))


@each_metric
def test_top_k_is_a_prefix_of_top_k_plus_one(tied, metric):
    vectors, queries = tied
    index = rec.FlatIndex(vectors, metric=metric)
    whole = index.search(queries[:10], 2100)
    for k in [*range(20), 100, 1000, 1999, 2000, 2001]:
        part = index.search(queries[:10], k)
        oracles.assert_same_topk(part, (whole.ids[:, :k], whole.scores[:, :k]))


@each_metric
def test_levels_agree(rng, metric):
    vectors = rng.standard_normal((1500, 50)).astype(np.float32)
    queries = rng.standard_normal((20, 50)).astype(np.float32)
    answers = [native.search(level, metric, queries, vectors, 20)[:2] for level in native.LEVELS]
    for answer in answers[1:]:
        oracles.assert_same_topk(answer, answers[0])


@each_metric
def test_permutation_of_distinct_scores_permutes_the_answer(rng, metric):
    vectors = rng.standard_normal((600, 20)).astype(np.float32)
    queries = rng.standard_normal((12, 20)).astype(np.float32)
    shuffle = rng.permutation(600)
    straight = rec.FlatIndex(vectors, metric=metric).search(queries, 15)
    shuffled = rec.FlatIndex(vectors[shuffle], ids=shuffle, metric=metric).search(queries, 15)
    oracles.assert_same_topk(shuffled, straight)


@each_metric
def test_scores_agree_over_every_door(rng, metric):
    vectors = rng.standard_normal((120, 18)).astype(np.float32)
    queries = rng.standard_normal((7, 18)).astype(np.float32)
    index = rec.FlatIndex(vectors, metric=metric)
    found = index.search(queries, 120)
    ranked = index.rank(queries, [np.arange(120)] * 7)
    oracles.assert_same_topk(ranked, found)
    pairs = {
        "cosine": rec.cosine_similarity,
        "dot": rec.dot_similarity,
        "l2": lambda a, b: 0 - rec.euclidean_distance(a, b),
    }[metric](queries, vectors)
    oracles.assert_same_bits(np.take_along_axis(pairs, found.ids, axis=1), found.scores)


def test_input_layout_does_not_change_the_answer(rng, tmp_path):
    vectors = rng.standard_normal((300, 24)).astype(np.float32)
    queries = rng.standard_normal((10, 24)).astype(np.float32)
    want = oracles.search("cosine", queries, vectors, 10)
    np.save(tmp_path / "v.npy", vectors)
    frozen = vectors.copy()
    frozen.flags.writeable = False
    doubled = np.zeros((600, 48), np.float32)
    doubled[::2, ::2] = vectors
    unaligned = np.frombuffer(b"x" + vectors.tobytes(), np.uint8)[1:].view(np.float32)
    layouts = {
        "memmap": np.load(tmp_path / "v.npy", mmap_mode="r"),
        "read-only": frozen,
        "Fortran": np.asfortranarray(vectors),
        "strided": doubled[::2, ::2],
        "unaligned": unaligned.reshape(vectors.shape),
        "big-endian": vectors.astype(">f4"),
        "float64": vectors.astype(np.float64),
        "list": vectors.tolist(),
    }
    for name, layout in layouts.items():
        index = rec.FlatIndex(layout)
        assert len(index) == 300, name
        oracles.assert_same_topk(index.search(queries), want)
    index = rec.FlatIndex(vectors)
    for layout in (np.asfortranarray(queries), queries.astype(">f4"), queries.tolist()):
        oracles.assert_same_topk(index.search(layout), want)
    query_bytes = np.frombuffer(b"x" + queries.tobytes(), np.uint8)[1:].view(np.float32)
    oracles.assert_same_topk(index.search(query_bytes.reshape(queries.shape)), want)


def test_best_level_is_the_one_in_use(rng):
    index = rec.FlatIndex(rng.standard_normal((50, 8)))
    index.search(np.ones(8))
    assert index.stats["level"] == _native.simd_level()
    assert index.stats["level"] in native.LEVELS
