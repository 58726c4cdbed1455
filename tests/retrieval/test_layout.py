"""The order of the codes is kept from base to base, until many rows are others."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec
from recengine.retrieval import _coding, _segment

N, DIM = 6000, 8


def plain(rng, n):
    rows = rng.standard_normal((n, DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def of_many_norms(rng, n):
    return plain(rng, n) * np.exp(2 * rng.standard_normal((n, 1))).astype(np.float32)


def copies(rng, n):
    return plain(np.random.default_rng(5), 900)[rng.integers(0, 900, n)]


def copies_of_many_norms(rng, n):
    return of_many_norms(np.random.default_rng(5), 900)[rng.integers(0, 900, n)]


LAYOUTS = {
    plain: set(),
    of_many_norms: {"block_reach"},
    copies: {"members", "starts"},
    copies_of_many_norms: {"block_reach", "members", "starts"},
}


def layout_of(index):
    return set(index._live.generation.base.codes) & {"block_reach", "members", "starts", "axes"}


@pytest.mark.parametrize("make", LAYOUTS)
def test_a_compacted_index_keeps_its_layout_and_answers_as_one_made_anew(make, monkeypatch):
    rng = np.random.default_rng(0)
    table, alive = make(rng, N), np.ones(N, bool)
    index = rec.FlatIndex(table, metric="dot")
    assert layout_of(index) == LAYOUTS[make]
    monkeypatch.setattr(_coding, "_chosen", None)  # choosing again would raise
    queries = plain(rng, 20)
    for _ in range(3):
        fresh = np.concatenate(
            [rng.choice(len(table), 90, replace=False), len(table) + np.arange(9)]
        )
        table = np.concatenate([table, np.zeros((9, DIM), np.float32)])
        alive = np.concatenate([alive, np.ones(9, bool)])
        table[fresh], alive[fresh] = make(rng, 99), True
        index.upsert(fresh, table[fresh])
        gone = rng.choice(np.flatnonzero(alive), 40, replace=False)
        alive[gone] = False
        index.delete(gone)
        index.compact()
        assert layout_of(index) == LAYOUTS[make]
        rows, scores = oracles.search("dot", queries, table[alive], 30)
        found = index.search(queries, 30)
        oracles.assert_same_bits(found.scores, scores)
        np.testing.assert_array_equal(found.ids, np.flatnonzero(alive)[rows])


def test_norms_fall_from_block_to_block_after_a_compaction():
    rng = np.random.default_rng(0)
    index = rec.FlatIndex(of_many_norms(rng, N), metric="dot")
    index.upsert(np.arange(0, 600, 2), of_many_norms(rng, 300))
    index.compact()
    base = index._live.generation.base
    order = base.codes["order"]
    assert sorted(order.tolist()) == list(range(N))
    assert (np.diff(base.sq_norms[order]) <= 0).all()


@pytest.mark.parametrize("n_changed", [N // 4, N // 4 + 1])
def test_a_layout_is_measured_again_when_more_than_a_quarter_of_the_rows_changed(
    n_changed, monkeypatch
):
    assert _segment.CHANGED_SHARE == 4
    rng = np.random.default_rng(0)
    index = rec.FlatIndex(plain(rng, N), metric="dot")
    calls, chosen = [], _coding._chosen

    def counted(*arguments):
        calls.append(len(arguments[0]))
        return chosen(*arguments)

    monkeypatch.setattr(_coding, "_chosen", counted)
    for ids in np.array_split(rng.permutation(N)[:n_changed], 3):
        index.upsert(ids, of_many_norms(rng, len(ids)))
        index.compact()
    assert calls == ([N] if n_changed > N // 4 else [])
    index.upsert([0], np.ones((1, DIM)))
    index.compact()
    assert len(calls) <= 1  # it was counted from there


def test_an_index_that_grows_has_its_layout_measured_at_every_quarter(monkeypatch):
    rng = np.random.default_rng(0)
    index = rec.FlatIndex(of_many_norms(rng, 40), metric="dot")
    n = 40
    while n < N:
        index.upsert(np.arange(n, n + n // 3), of_many_norms(rng, n // 3))
        n += n // 3
        index.compact()
    assert layout_of(index) == {"block_reach"}
