"""Any program of updates, compactions, saves and snapshots against a plain dictionary."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import recengine as rec
from recengine.retrieval import _delta, _live

DIM = 3
IDS = st.lists(st.integers(0, 60), max_size=24, unique=True)
SEEDS = st.integers(0, 2**16)


@dataclass
class Model:
    """What an index must hold: vectors by id, and every id in order of its first insert."""

    vectors: dict = field(default_factory=dict)
    order: list = field(default_factory=list)

    def copied(self) -> Model:
        return Model(dict(self.vectors), list(self.order))

    def upsert(self, ids, vectors):
        self.vectors |= dict(zip(ids, vectors, strict=True))
        self.order += [item for item in ids if item not in self.order]

    def delete(self, ids):
        for item in ids:
            del self.vectors[item]

    def live(self):
        return [item for item in self.order if item in self.vectors]


class Updates(RuleBasedStateMachine):
    """Several indexes, each beside its model; a rule picks one of them."""

    metric = "dot"
    is_str = False

    def __init__(self):
        super().__init__()
        self.pairs = [(rec.FlatIndex(np.empty((0, DIM)), metric=self.metric), Model())]
        self.queries = np.array([[1, 2, -1], [0, 0, 0], [-3, 1, 1]], np.float32)

    def name(self, number):
        return f"ü{number}" if self.is_str else number * number - 7

    def pick(self, seed):
        return self.pairs[seed % len(self.pairs)]

    @rule(ids=IDS, seed=SEEDS)
    def upsert(self, ids, seed):
        index, model = self.pick(seed)
        vectors = np.random.default_rng(seed).integers(-2, 3, (len(ids), DIM)).astype(np.float32)
        index.upsert([self.name(item) for item in ids], vectors)
        model.upsert([self.name(item) for item in ids], vectors)

    @rule(ids=IDS, seed=SEEDS)
    def delete(self, ids, seed):
        index, model = self.pick(seed)
        there = [name for name in map(self.name, ids) if name in model.vectors]
        index.delete(there)
        model.delete(there)

    @rule(seed=SEEDS)
    def delete_what_is_not_there(self, seed):
        index, model = self.pick(seed)
        lost = self.name(seed % 60 + 100)
        with pytest.raises(rec.UnknownItemError):
            index.delete([*model.live()[:2], lost])

    @rule(seed=SEEDS)
    def compact(self, seed):
        index, _ = self.pick(seed)
        before = index.search(self.queries, 70)
        index.compact()
        after = index.search(self.queries, 70)
        oracles.assert_same_topk(after, before)
        np.testing.assert_array_equal(after.ordinals, before.ordinals)
        assert index._live.generation.is_clean

    @rule(seed=SEEDS, verify=st.booleans())
    def reopen(self, seed, verify):
        index, model = self.pick(seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index.rec"
            index.save(path)
            opened = rec.FlatIndex.open(path, verify=verify)
        self.pairs[seed % len(self.pairs)] = opened, model

    @rule(seed=SEEDS)
    def snapshot(self, seed):
        index, model = self.pick(seed)
        if len(self.pairs) < 3:
            self.pairs.append((index.snapshot(), model.copied()))

    @invariant()
    def every_index_is_its_model(self):
        for index, model in self.pairs:
            live = model.live()
            assert index.ids.tolist() == live
            assert len(index) == len(live)
            assert index.n_ordinals == len(model.order)
            table = np.array([model.vectors[item] for item in live]).reshape(-1, DIM)
            ordinals = np.array([model.order.index(item) for item in live], np.int64)
            for k in (5, 70):
                rows, scores = oracles.search(self.metric, self.queries, table, k)
                got = index.search(self.queries, k)
                oracles.assert_same_bits(got.scores, scores)
                padded = np.append(ordinals, -1)
                np.testing.assert_array_equal(got.ordinals, padded[rows])
                fill = None if self.is_str and model.order else -1  # empty: no kind yet
                names = [[fill if row < 0 else live[row] for row in each] for each in rows]
                assert got.ids.tolist() == names
            ranked = index.rank(self.queries, [[*live, self.name(99)]] * 3)
            rows, scores = oracles.search(self.metric, self.queries, table, len(live) + 1)
            oracles.assert_same_bits(ranked.scores, scores)
            np.testing.assert_array_equal(ranked.ordinals, padded[rows])
            for item in model.order:
                assert (item in index) == (item in model.vectors)
                if item in index:
                    np.testing.assert_array_equal(index[item], model.vectors[item])


@pytest.mark.parametrize("smallest", [3, 2048], ids=["compacting", "piling up"])
@pytest.mark.parametrize("is_str", [False, True], ids=["int64", "str"])
@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_any_program_of_updates_equals_a_dictionary(monkeypatch, metric, is_str, smallest):
    """With a delta of 3 rows the thread compacts beside nearly every step, at any moment of it.

    One that piles up has codes for most of its rows.
    """
    monkeypatch.setattr(_delta, "LEAST_CODED", 4)
    monkeypatch.setattr(_live, "SMALLEST_DELTA", smallest)
    machine = type("Machine", (Updates,), {"metric": metric, "is_str": is_str})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )
