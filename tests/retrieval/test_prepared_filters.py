"""Prepared filters: what they let through follows the index, at the price of what changed."""

from __future__ import annotations

import threading
from unittest import mock

import numpy as np
import oracles
import pytest

import recengine as rec
from recengine.retrieval import _columns
from recengine.retrieval._columns import Columns

N, DIM = 300, 4
DRAMA = rec.where(genre="Drama")


@pytest.fixture
def index(rng):
    return rec.FlatIndex(
        rng.integers(-2, 3, (N, DIM)).astype(np.float32),
        ids=np.arange(N) + 1000,
        metric="dot",
        columns={
            "genre": np.where(np.arange(N) % 3 == 0, "Drama", "War"),
            "year": np.arange(N) % 40 + 1980,
        },
    )


def found(index, **options):
    """Return the ids of everything that a search returns."""
    ids = index.search(np.ones(DIM), len(index), **options).ids
    return set(ids[ids >= 0].tolist())


def test_upserts_and_deletes_change_what_a_filter_lets_through(index):
    ready = index.filter(where=DRAMA & rec.where(year__ge=1990))
    want = {i + 1000 for i in range(0, N, 3) if i % 40 >= 10}
    assert found(index, filter=ready) == want
    assert ready.n_items == len(want)
    assert ready.selectivity == len(want) / N
    index.upsert([1030, 5000], np.ones((2, DIM)), {"genre": ["War", "Drama"], "year": [2000, 1990]})
    want = want - {1030} | {5000}
    assert found(index, filter=ready) == want
    index.upsert([5001], np.ones((1, DIM)), {"genre": ["Drama"]})  # no year: it never matches
    index.upsert([1015], -np.ones((1, DIM)))  # no columns: it keeps its own
    assert found(index, filter=ready) == want
    index.delete([1015, 1018])
    index.compact()
    want -= {1015, 1018}
    assert found(index, filter=ready) == want
    assert ready.n_items == len(want)
    index.upsert([1015, 1018], np.ones((2, DIM)), {"year": [2000, 2000]})  # they come back bare
    assert found(index, filter=ready) == want
    index.upsert([1018], np.ones((1, DIM)), {"genre": ["Drama"]})
    assert found(index, filter=ready) == want | {1018}


def test_ids_of_a_filter_may_come_later(index):
    allow = index.filter(allow=[1001, 7000, 7001])
    deny = index.filter(deny=[1001, 7000, 7001])
    assert found(index, filter=allow) == {1001}
    index.upsert([7000, 7002], np.ones((2, DIM)))
    everything = set(index.ids.tolist())
    assert found(index, filter=allow) == {1001, 7000}
    assert found(index, filter=deny) == everything - {1001, 7000}
    index.delete([1001])
    index.compact()
    assert found(index, filter=allow) == {7000}
    index.upsert([1001, 7001], np.ones((2, DIM)))
    assert found(index, filter=allow) == {1001, 7000, 7001}
    assert (allow.n_items, deny.n_items) == (3, N)


def test_filter_of_an_index_that_was_empty():
    index = rec.FlatIndex(np.empty((0, DIM)), metric="dot", columns={"genre": []})
    ready = [index.filter(where=DRAMA), index.filter(deny=[5]), index.filter(allow=[5])]
    for filter in ready:
        assert filter.n_items == 0
        assert filter.selectivity == 0.0
        assert index.search(np.ones(DIM), 2, filter=filter).ids.tolist() == [-1, -1]
    index.upsert([5, 6], np.eye(2, DIM), {"genre": ["Drama", "War"]})
    assert [found(index, filter=filter) for filter in ready] == [{5}, {6}, {5}]


def test_filter_answers_as_the_arguments_that_made_it(index, rng):
    queries = rng.integers(-2, 3, (9, DIM)).astype(np.float32)
    arguments = {"allow": np.arange(1000, 1200), "deny": [1003, 4], "where": DRAMA}
    for name in ("allow", "deny", "where"):
        one = {name: arguments[name]}
        oracles.assert_same_topk(
            index.search(queries, 20, filter=index.filter(**one)), index.search(queries, 20, **one)
        )
    together = index.search(queries, 20, **arguments)
    oracles.assert_same_topk(index.search(queries, 20, filter=index.filter(**arguments)), together)
    first = index.filter(allow=arguments["allow"])
    oracles.assert_same_topk(
        index.search(queries, 20, filter=first, deny=arguments["deny"], where=DRAMA), together
    )


def test_only_changed_chunks_are_evaluated_again(rng):
    with (
        mock.patch.object(_columns, "CHUNK", 64),
        mock.patch("recengine.retrieval.filters.CHUNK", 64),
    ):
        index = rec.FlatIndex(
            np.ones((N, DIM)), metric="dot", columns={"genre": ["Drama", "War", None] * (N // 3)}
        )
        ready = index.filter(where=DRAMA)
        seen = []
        real = Columns.matcher

        def counted(self, predicate):
            matches = real(self, predicate)
            return lambda chunk: seen.append(len(chunk["genre"][0])) or matches(chunk)

        with mock.patch.object(Columns, "matcher", counted):
            assert len(found(index, filter=ready)) == N // 3
            assert seen == []
            index.upsert([70], np.ones((1, DIM)), {"genre": ["Drama"]})
            index.upsert([N], np.ones((1, DIM)), {"genre": ["Drama"]})
            index.upsert([5], np.ones((1, DIM)))
            index.delete([200])
            assert len(found(index, filter=ready)) == N // 3 + 2
            assert seen == [64, N + 1 - 256]
            found(index, filter=ready)
            assert len(seen) == 2


def test_filter_serves_a_reader_that_is_behind(index):
    ready = index.filter(allow=[1000, 9000], where=None)
    matching = index.filter(where=DRAMA)
    before = index._live.generation
    index.upsert([9000], np.ones((1, DIM)), {"genre": ["Drama"]})
    assert found(index, filter=ready) == {1000, 9000}
    assert 9000 in found(index, filter=matching)
    with mock.patch.object(index._live, "generation", before):
        assert found(index, filter=ready) == {1000}
        assert 9000 not in found(index, filter=matching)
    assert 9000 in found(index, filter=matching)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "filter must be given allow, deny or where"),
        ({"where": rec.where(price__lt=3)}, ValueError, r"\('genre', 'year'\), got 'price'"),
        (
            {"where": {"genre": "Drama"}},
            TypeError,
            "must be made by recengine.where, got dict",
        ),
        ({"allow": ["a"]}, TypeError, "allow must be integers as in the index, got 'a'"),
        ({"deny": [-1]}, ValueError, "deny must not contain -1"),
        ({"allow": "abc"}, TypeError, "allow must be a sequence of ids, got str"),
    ],
)
def test_filter_refuses(index, options, error, message):
    with pytest.raises(error, match=message):
        index.filter(**options)


def test_search_refuses_what_is_no_filter_of_its_index(index):
    ready = index.filter(deny=[1])
    with pytest.raises(ValueError, match="filter must come from the index that is searched"):
        index.snapshot().search(np.ones(DIM), filter=ready)
    with pytest.raises(TypeError, match="filter must be a Filter of this index, got Predicate"):
        index.search(np.ones(DIM), filter=DRAMA)
    with pytest.raises(TypeError, match=r"where must be made by recengine\.where, got str"):
        index.search(np.ones(DIM), where="genre = 'Drama'")
    with pytest.raises(ValueError, match=r"columns of the index \('genre', 'year'\), got 'price'"):
        index.search(np.ones(DIM), where=rec.where(price=3))
    with pytest.raises(ValueError, match=r"columns must name columns of the index .* got 'price'"):
        index.upsert([1], np.ones((1, DIM)), {"price": [1]})
    assert len(index) == N
    assert 1 not in index


def test_filter_says_what_it_is(index):
    assert repr(index.filter(allow=[1, 2, 2], where=DRAMA)) == (
        "Filter(allow=2 ids, where=(genre == 'Drama'))"
    )


def test_no_search_beside_a_writer_sees_what_its_filter_forbids(index):
    """Genres turn round with the vectors: a filtered answer of another state would show."""
    ready = index.filter(where=DRAMA)
    stop, wrong = threading.Event(), []

    def write():
        rng = np.random.default_rng(1)
        for turn in range(400):
            ids = rng.permutation(N)[:5] + 1000
            is_drama = rng.random(5) < 0.5
            vectors = np.where(is_drama, 1.0, -1.0)[:, None] * np.ones((5, DIM))
            index.upsert(ids, vectors, {"genre": np.where(is_drama, "Drama", "War")})
            if turn % 50 == 0:
                index.compact()
        stop.set()

    def read():
        while not stop.is_set():
            got = index.search(np.ones(DIM), N, filter=ready)
            if (got.scores[got.ids >= 0] < 0).any():
                wrong.append(got.scores.min())

    signs = np.where(np.arange(N) % 3 == 0, 1.0, -1.0)
    index.upsert(index.ids, signs[:, None] * np.ones((N, DIM)))
    threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_columns_and_filters_survive_save_and_open(index, tmp_path):
    index.upsert([1003, 8000], np.ones((2, DIM)), {"genre": ["é", None]})
    index.delete([1006])
    index.save(tmp_path / "index.rec")
    again = rec.FlatIndex.open(tmp_path / "index.rec")
    for predicate in (DRAMA, ~DRAMA, rec.where(genre="é"), rec.where(year__lt=1990)):
        want = found(index, where=predicate)
        assert want
        assert found(again, where=predicate) == want
        assert found(again, filter=again.filter(where=predicate)) == want
    again.upsert([8000, 1006], np.ones((2, DIM)), {"genre": ["Drama", "new"]})
    assert 8000 in found(again, where=DRAMA)
    assert found(again, where=rec.where(genre="new")) == {1006}
    assert 1006 not in found(again, where=rec.where(year__ge=0))


def test_where_and_snapshot_go_separate_ways(index):
    other = index.snapshot()
    index.upsert([1001], np.ones((1, DIM)), {"genre": ["mine"]})
    other.upsert([1001], np.ones((1, DIM)), {"genre": ["yours"]})
    assert found(index, where=rec.where(genre="mine")) == {1001}
    assert found(index, where=rec.where(genre="yours")) == set()
    assert found(other, where=rec.where(genre="yours")) == {1001}
    assert found(other, where=rec.where(genre="mine")) == set()


def test_filter_of_few_scans_its_own_copy_and_follows_updates(index, rng):
    few = np.arange(1010, 1300, 30)
    ready = index.filter(allow=few)
    queries = rng.integers(-2, 3, (9, DIM)).astype(np.float32)

    def check(kept):
        assert found(index, filter=ready) == set(kept)
        oracles.assert_same_topk(
            index.search(queries, 5, filter=ready), index.search(queries, 5, allow=few)
        )

    assert index.search(queries, 5, filter=ready).ordinals.max() >= 0
    assert index.stats["scanned"] == len(queries) * len(few)
    check(few)
    index.delete(few[:2])
    before = index._live.generation
    check(few[2:])
    index.upsert(few[1:4], -np.ones((3, DIM)))
    check(few[1:])
    with mock.patch.object(index._live, "generation", before):
        check(few[2:])
    index.compact()
    check(few[1:])
    index.delete(few[5:])
    check(few[1:5])
    with mock.patch.object(index._live, "generation", before):
        check(few[2:])


def test_reader_behind_does_not_see_the_copy_of_a_later_base(index):
    few = rec.where(genre="few")
    index.upsert([1001, 1002], np.ones((2, DIM)), {"genre": ["few", "few"]})
    index.compact()
    before = index._live.generation
    index.upsert([1002], np.ones((1, DIM)), {"genre": ["many"]})
    ready = index.filter(where=few)  # copies base rows: 1002 has left them
    assert found(index, filter=ready) == {1001}
    with mock.patch.object(index._live, "generation", before):
        assert found(index, filter=ready) == {1001, 1002}
    assert found(index, filter=ready) == {1001}


def test_list_of_few_follows_changes_in_the_middle():
    with (
        mock.patch.object(_columns, "CHUNK", 64),
        mock.patch("recengine.retrieval.filters.CHUNK", 64),
    ):
        genre = np.where(np.arange(N) % 7 == 0, "Drama", "War")
        index = rec.FlatIndex(np.ones((N, DIM)), metric="dot", columns={"genre": genre})
        ready = index.filter(where=DRAMA)
        want = set(range(0, N, 7))
        for item, name in ((140, "War"), (141, "Drama"), (0, "War"), (299, "Drama")):
            index.upsert([item], np.ones((1, DIM)), {"genre": [name]})
            want = want | {item} if name == "Drama" else want - {item}
            assert found(index, filter=ready) == want
            assert sorted(want) == ready._prepared.ordinals.tolist()


def test_reader_behind_gathers_no_ordinal_it_does_not_know(index):
    ready = index.filter(allow=[1004, *range(5000, 5020)])
    index.upsert([1004], np.ones((1, DIM)))
    before = index._live.generation
    index.compact()
    index.upsert(range(5000, 5300), np.ones((300, DIM)))
    assert len(found(index, filter=ready, deny=[1])) == 21
    with mock.patch.object(index._live, "generation", before):
        assert found(index, filter=ready, deny=[1]) == {1004}
