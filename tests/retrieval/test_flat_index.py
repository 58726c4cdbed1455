"""The index as a container: ids, ordinals, updates, rank, defined edges."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.retrieval import _score, _search


def test_result_unpacks_ids_first_and_carries_ordinals():
    index = rec.FlatIndex(np.eye(3), ids=[30, 10, 20], metric="dot")
    ids, scores = result = index.search([0.1, 0.3, 0.2], k=2)
    assert isinstance(result, rec.TopK)
    assert ids.tolist() == [10, 20]
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert result.ordinals.tolist() == [1, 2]
    assert result.partial is False


def test_str_ids_come_back_as_objects_padded_with_none():
    index = rec.FlatIndex(np.eye(2), ids=["a", "b"], metric="dot")
    result = index.search([[1, 2], [2, 1]], k=3)
    assert result.ids.dtype == object
    assert result.ids.tolist() == [["b", "a", None], ["a", "b", None]]
    assert result.ordinals.tolist() == [[1, 0, -1], [0, 1, -1]]
    assert result.scores[:, 2].tolist() == [-np.inf, -np.inf]
    assert index.search([1, 2], k=3).ids.tolist() == ["b", "a", None]


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_empty_catalogue_empty_batch_and_k_zero(metric):
    empty = rec.FlatIndex(np.empty((0, 4)), metric=metric)
    assert len(empty) == 0
    assert empty.search(np.ones((2, 4)), 3).ids.tolist() == [[-1] * 3] * 2
    assert empty.search(np.ones(4), 2, allow=[1], deny=[2], exclude=[3]).ids.tolist() == [-1, -1]
    assert empty.rank(np.ones(4), [1, 2]).ids.tolist() == [-1, -1]
    index = rec.FlatIndex(np.eye(4), metric=metric)
    batch = index.search(np.empty((0, 4)), 3)
    assert batch.ids.shape == batch.scores.shape == batch.ordinals.shape == (0, 3)
    assert index.search(np.empty((0, 4)), 3, exclude=[]).ids.shape == (0, 3)
    assert index.search(np.ones(4), 0).ids.shape == (0,)
    assert index.search(np.ones((2, 4)), 0).scores.shape == (2, 0)
    assert index.rank(np.empty((0, 4)), []).ids.shape == (0, 0)
    assert index.rank(np.ones(4), []).ids.shape == (0,)


def test_zero_vectors_have_cosine_zero():
    index = rec.FlatIndex([[0, 0], [1, 0], [-1, 0]], metric="cosine")
    ids, scores = index.search([1, 0], 3)
    assert ids.tolist() == [1, 0, 2]
    oracles.assert_same_bits(scores, np.array([1, 0, -1], np.float32))
    ids, scores = index.search([0, 0], 3)
    assert ids.tolist() == [0, 1, 2]
    oracles.assert_same_bits(scores, np.zeros(3, np.float32))


def test_read_only_input_is_borrowed_and_writable_input_copied(tmp_path):
    frozen = np.eye(3, dtype=np.float32)
    frozen.flags.writeable = False
    assert np.shares_memory(rec.FlatIndex(frozen)[0], frozen)
    np.save(tmp_path / "v.npy", frozen)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert np.shares_memory(rec.FlatIndex(mapped)[0], mapped)
    mine = np.eye(3, dtype=np.float32)
    index = rec.FlatIndex(mine, metric="dot")
    mine[:] = 7
    assert mine.flags.writeable
    assert index[0].tolist() == [1, 0, 0]
    lent = np.eye(3, dtype=np.float32)
    through = rec.FlatIndex(memoryview(lent), metric="dot")
    lent[:] = 7
    assert through[0].tolist() == [1, 0, 0]
    assert index.search([1, 0, 0], 1).scores.tolist() == [1]


def test_upserted_and_caller_owned_arrays_stay_apart():
    index = rec.FlatIndex(np.eye(2))
    ids, vectors = np.array([5]), np.ones((1, 2), np.float32)
    index.upsert(ids, vectors)
    ids[0], vectors[0] = 6, 9
    assert 5 in index
    assert 6 not in index
    assert index[5].tolist() == [1, 1]


def test_container_protocol():
    index = rec.FlatIndex(np.eye(3), ids=["a", "b", "c"])
    assert "a" in index
    assert "z" not in index
    assert 0 not in index
    assert index["b"].tolist() == [0, 1, 0]
    assert not index["b"].flags.writeable
    assert (len(index), index.dim, index.metric, index.n_ordinals) == (3, 3, "cosine", 3)
    assert repr(index) == "FlatIndex(n_items=3, dim=3, metric='cosine')"
    assert index.ordinals(["c", "z", "a"]).tolist() == [2, -1, 0]
    with pytest.raises(rec.UnknownItemError, match="id must be in the index, got 'z'"):
        index["z"]


def test_delete_and_upsert_keep_ordinals():
    index = rec.FlatIndex(np.eye(4), ids=[10, 11, 12, 13], metric="dot")
    index.delete([11, 13])
    assert index.ids.tolist() == [10, 12]
    assert len(index) == 2
    assert 11 not in index
    assert index.search(np.ones(4), 4).ids.tolist() == [10, 12, -1, -1]
    assert index.ordinals([10, 11, 12, 13]).tolist() == [0, -1, 2, -1]
    index.upsert([14, 11], [[0, 0, 0, 5], [0, 9, 0, 0]])
    assert index.ids.tolist() == [10, 11, 12, 14]
    assert index.ordinals([11, 14]).tolist() == [1, 4]
    assert index.search(np.ones(4), 2).ids.tolist() == [11, 14]
    index.delete([])
    index.upsert([], np.empty((0, 4)))
    assert index.n_ordinals == 5
    with pytest.raises(rec.UnknownItemError, match="ids must be in the index, got 13"):
        index.delete([10, 13])
    assert 10 in index


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_upserted_index_is_the_index_of_the_same_vectors(rng, metric):
    before = rng.standard_normal((70, 9)).astype(np.float32)
    after = np.concatenate([before, 1e3 * rng.standard_normal((30, 9)).astype(np.float32)])
    after[10:40] = rng.standard_normal((30, 9)) * 1e-3
    after[55] = 0
    index = rec.FlatIndex(before, metric=metric)
    changed = [*range(39, 9, -1), *range(70, 100), 55]
    index.upsert(changed, after[changed])
    fresh = rec.FlatIndex(after, metric=metric)
    index.compact()
    for part in ("vectors", "sq_norms", "reach"):
        ours, theirs = (getattr(one._live.generation.base, part) for one in (index, fresh))
        np.testing.assert_array_equal(ours, theirs)
        assert not ours.flags.writeable
    queries = rng.standard_normal((5, 9)).astype(np.float32)
    oracles.assert_same_topk(index.search(queries, 100), fresh.search(queries, 100))


def test_num_threads_reaches_the_kernels(monkeypatch):
    index, seen = rec.FlatIndex(np.eye(3)), []

    def spy(module, name):
        original = getattr(module, name)

        def call(*arguments, num_threads, **options):
            seen.append((name, num_threads))
            return original(*arguments, num_threads=num_threads, **options)

        monkeypatch.setattr(module, name, call)

    spy(_search, "search_parts")
    spy(_score, "rank")
    spy(_score, "pairwise")
    for asked, wanted in ((None, 1), (1, 1), (3, 3)):
        seen.clear()
        index.search(np.eye(3), 1, num_threads=asked)
        index.rank(np.eye(3), [[0], [1], [2]], num_threads=asked)
        rec.cosine_similarity(np.eye(3), np.eye(3), num_threads=asked)
        assert seen == [("search_parts", wanted), ("rank", wanted), ("pairwise", wanted)]


def test_a_snapshot_and_its_origin_change_apart():
    index = rec.FlatIndex(np.eye(3), ids=["a", "b", "c"], metric="dot")
    index.search(np.ones(3), 1)
    copy = index.snapshot()
    assert np.shares_memory(copy["a"], index["a"])
    assert copy.stats["searches"] == 0
    index.delete(["a"])
    copy.upsert(["d"], np.ones((1, 3)))
    assert index.ids.tolist() == ["b", "c"]
    assert copy.ids.tolist() == ["a", "b", "c", "d"]
    assert copy.metric == "dot"


def test_an_index_may_begin_empty_and_take_str_ids():
    index = rec.FlatIndex(np.empty((0, 2)), metric="dot")
    index.upsert(["x", "y"], np.eye(2))
    assert index.search([2, 1], 3).ids.tolist() == ["x", "y", None]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(0, 100), max_size=70), st.integers(0, 9)),
        max_size=8,
    )
)
def test_any_history_of_updates_equals_a_dictionary(history):
    index, truth = rec.FlatIndex(np.empty((0, 3)), metric="dot"), {}
    order = []
    for deletes, ids, seed in history:
        chosen = sorted(ids & truth.keys() if deletes else ids, reverse=True)
        if deletes:
            index.delete(chosen)
            for item in chosen:
                del truth[item]
        else:
            vectors = np.random.default_rng(seed).integers(-3, 4, (len(chosen), 3))
            index.upsert(chosen, vectors)
            truth |= dict(zip(chosen, vectors, strict=True))
            order += [item for item in chosen if item not in order]
    live = [item for item in order if item in truth]
    assert index.ids.tolist() == live
    assert len(index) == len(truth)
    assert index.n_ordinals == len(order)
    table = np.array([truth[item] for item in live]).reshape(-1, 3)
    rows, scores = oracles.search("dot", np.ones(3), table, 20)
    got = index.search(np.ones(3), 20)
    assert got.ids.tolist() == [-1 if row < 0 else live[row] for row in rows[0]]
    oracles.assert_same_bits(got.scores, scores[0])


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_rank_equals_oracle_over_the_candidates(rng, metric):
    vectors = rng.integers(-2, 3, (80, 6)).astype(np.float32)
    queries = rng.integers(-2, 3, (9, 6)).astype(np.float32)
    index = rec.FlatIndex(vectors, ids=np.arange(80) + 500, metric=metric)
    lists = [rng.permutation(80)[: 4 * i] for i in range(9)]
    table = oracles.scores(metric, queries, vectors)
    may = np.array([np.isin(np.arange(80), rows) for rows in lists])
    for k, width in ((None, 32), (5, 5), (0, 0), (90, 90)):
        got = index.rank(queries, [rows + 500 for rows in lists], k, num_threads=2)
        rows, scores = oracles.best(table, width, allowed=may)
        oracles.assert_same_topk(got, (np.where(rows < 0, -1, rows + 500), scores))


def test_rank_takes_candidates_as_a_set_and_leaves_out_unknown_ones():
    index = rec.FlatIndex(np.eye(3), ids=["a", "b", "c"], metric="dot")
    index.delete(["c"])
    got = index.rank([1, 2, 3], ["c", "a", "nobody", "b", "a"])
    assert got.ids.tolist() == ["b", "a", None, None, None]
    assert index.rank(np.eye(3), [["a"], ["b", "a"], []], 1).ids.tolist() == [["a"], ["b"], [None]]


def test_timeout_gives_a_partial_answer_or_a_whole_one(rng):
    vectors = rng.standard_normal((20000, 32)).astype(np.float32)
    index = rec.FlatIndex(vectors)
    queries = vectors[:64]
    whole = index.search(queries, 5)
    unhurried = index.search(queries, 5, timeout=600)
    assert not unhurried.partial
    oracles.assert_same_topk(unhurried, whole)
    cut = index.search(queries, 5, timeout=0)
    assert cut.partial
    found = cut.ids >= 0
    assert (np.isneginf(cut.scores) == ~found).all()
    exact = oracles.scores("cosine", queries, vectors)
    owner = np.broadcast_to(np.arange(64)[:, None], cut.ids.shape)
    oracles.assert_same_bits(cut.scores[found], exact[owner[found], cut.ids[found]])


def test_stats_count_what_was_done():
    index = rec.FlatIndex(np.eye(8))
    assert index.stats == {
        "level": "",
        "searches": 0,
        "queries": 0,
        "scanned": 0,
        "coarse": 0,
        "fine": 0,
        "float32": 0,
        "float64": 0,
        "survived": 0,
        "rescored": 0,
        "partial": 0,
    }
    index.search(np.ones((3, 8)), 2)
    index.search(np.ones(8), 2)
    stats = index.stats
    assert (stats["searches"], stats["queries"], stats["partial"]) == (2, 4, 0)
    assert stats["scanned"] == 4 * 8
    assert 4 * 2 <= stats["rescored"] <= 4 * 8


def test_stats_tell_the_stages_apart(rng):
    small = rec.FlatIndex(rng.normal(size=(20_000, 32)), metric="dot")
    small.search(rng.normal(size=32), 10)
    assert small.stats["fine"] == small.stats["scanned"] == 20_000
    n_items = 140_000
    index = rec.FlatIndex(rng.normal(size=(n_items, 32)), metric="dot")
    index.search(rng.normal(size=32), 10)
    one = index.stats
    assert one["scanned"] == n_items
    assert one["coarse"] > 0.7 * one["scanned"]
    index.search(rng.normal(size=(40, 32)), 10)
    stats = index.stats
    assert stats["fine"] - one["fine"] == 40 * n_items
    stages = ("coarse", "fine", "float32", "float64")
    assert stats["scanned"] == sum(stats[stage] for stage in stages)
    assert stats["scanned"] / 50 > stats["survived"] > stats["rescored"] >= 41 * 10
    flat = rec.FlatIndex(rng.normal(size=(20_000, 32)) * (np.arange(32) > 0), metric="dot")
    flat.search(np.ones((40, 1)) * (np.arange(32) == 0), 10)
    assert flat.stats["float64"] > 0


@pytest.mark.parametrize("timeout", [1e10, 1e300])
def test_timeout_beyond_the_clock_is_no_limit(rng, timeout):
    index = rec.FlatIndex(rng.normal(size=(50, 4)))
    found = index.search(rng.normal(size=4), 3, timeout=timeout)
    assert not found.partial
    assert len(index.ordinals(found.ids)) == 3
