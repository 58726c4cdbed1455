"""What changes and what does not: events, new items, removed items, in any order."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import recengine as rec
from recengine.engine.profiles import N_BUCKETS

sys.path.append(str(Path(__file__).parent))
from brute_force import (
    CONTENT,
    MIXTURES,
    MODEL,
    assert_agree,
    assert_same,
    make_inter,
    make_pair,
)

ODD_VECTORS = st.lists(st.integers(-3, 3), min_size=6, max_size=6)


class EngineAgainstBruteForce(RuleBasedStateMachine):
    """Any sequence of changes, and of files written and read between them."""

    folder: Path

    @initialize(seed=st.integers(0, 2**32 - 1), weights=st.sampled_from(MIXTURES))
    def build(self, seed, weights):
        self.engine, self.twin = make_pair(np.random.default_rng(seed), weights)
        self.users = [*self.twin.users, 10**6, 10**6 + N_BUCKETS, -5]

    def _items(self, data, most=3):
        alive = sorted(self.twin.alive)
        return data.draw(st.lists(st.sampled_from(alive), max_size=most)) if alive else []

    @rule(data=st.data(), weight=st.sampled_from([1.0, 0.5, 3.0]))
    def observe(self, data, weight):
        user = data.draw(st.sampled_from(self.users))
        for item in self._items(data, most=1):
            self.engine.observe(user, item, weight)
            self.twin.observe(user, item, weight)

    @rule(data=st.data(), item=st.integers(-21, 60), vector=ODD_VECTORS)
    def add(self, data, item, vector):
        ids = [item] if item != -1 else []
        table = np.array([vector], np.float32)[: len(ids)]
        self.engine.add_items(ids, vectors=None if self.twin.content is None else table)
        self.twin.add(ids, table)

    @rule(data=st.data())
    def remove(self, data):
        ids = self._items(data)
        self.engine.remove_items(ids)
        self.twin.remove(ids)

    @rule()
    def save_and_load(self):
        path = self.folder / "engine.rec"
        self.engine.save(path)
        self.engine = rec.Engine.load(path)

    @invariant()
    def answers_agree(self):
        if not hasattr(self, "twin"):
            return
        users = self.users[-6:]
        for row, user in enumerate(users):
            want = self.twin.recommend(user, 6)
            assert_same(self.engine.recommend(user, 6), want)
            assert self.engine.recommend(users, 6).ids[row].tolist() == want[0]
        history = sorted(self.twin.alive)[:3]
        assert_same(self.engine.recommend_for(history, 6), self.twin.recommend_for(history, 6))
        assert_same(
            self.engine.rank(users[0], self.twin.items), self.twin.rank(users[0], self.twin.items)
        )
        assert set(self.engine.item_ids.tolist()) == self.twin.alive


def test_any_sequence_of_changes_equals_brute_force(tmp_path):
    class Machine(EngineAgainstBruteForce):
        folder = tmp_path

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=12))


@pytest.mark.parametrize("weights", MIXTURES, ids=["+".join(mixture) for mixture in MIXTURES])
@pytest.mark.parametrize("strings", [False, True])
def test_the_next_list_knows_what_was_observed(rng, weights, strings):
    engine, twin = make_pair(rng, weights, strings=strings)
    for user in [*list(twin.users)[:3], "new" if strings else 10**9]:
        before = engine.recommend(user, 5)
        chosen = before.ids[0]
        engine.observe(user, chosen, 2.0)
        twin.observe(user, chosen, 2.0)
        after = engine.recommend(user, 5)
        assert chosen not in after.ids.tolist()
        assert_same(after, twin.recommend(user, 5))
        assert chosen in engine.history(user)[0].tolist()


def test_an_observed_user_is_solved_anew_from_the_whole_history(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    user = next(iter(twin.users))
    others = [other for other in twin.users if other != user]
    untouched = engine.recommend(others, 5)
    engine.observe(user, twin.items[3])
    twin.observe(user, twin.items[3])
    assert_agree(engine, twin)
    oracles.assert_same_topk(engine.recommend(others, 5), untouched)


def test_weights_of_a_pair_are_added_up(rng):
    engine, _ = make_pair(rng, {MODEL: 1.0})
    engine.observe(10**9, 1, 1.5)
    engine.observe(10**9, 1, 2.0)
    ids, weights = engine.history(10**9)
    assert (ids.tolist(), weights.tolist()) == ([1], [3.5])


def test_weights_saturate(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    huge = float(np.finfo(np.float32).max)
    for _ in range(2):
        engine.observe(10**9, twin.items[0], huge)
    assert engine.history(10**9)[1].tolist() == [huge]
    history = [twin.items[0]] * 2
    assert np.isfinite(engine.recommend_for(history, 3, weights=[huge, huge]).scores).all()
    assert np.isfinite(engine.recommend(10**9, 3).scores).all()


def test_popularity_counts_users_once(rng):
    inter = rec.Interactions.from_arrays([1, 2, 3, 3], [10, 10, 11, 12])
    engine = rec.Engine.build(inter)
    assert engine.recommend(99, 3).scores.tolist() == [2, 1, 1]
    engine.observe(4, 11)
    engine.observe(4, 11)
    engine.observe(5, 11)
    assert engine.recommend(99, 3).ids.tolist() == [11, 10, 12]
    assert engine.recommend(99, 3).scores.tolist() == [3, 2, 1]


def test_popularity_changes_in_every_part_of_a_large_catalogue():
    items = np.arange(10_000)
    engine = rec.Engine.build(rec.Interactions.from_arrays(np.ones(10_000, np.int64), items))
    for item in (0, 4095, 4096, 8191, 8192, 9999):
        engine.observe(2, item)
    got = engine.recommend(3, 7)
    assert got.ids.tolist() == [0, 4095, 4096, 8191, 8192, 9999, 1]
    assert got.scores.tolist() == [2] * 6 + [1]


def test_new_items_are_found_by_content_only(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    vector = rng.standard_normal((1, 6)).astype(np.float32)
    engine.add_items([999], vectors=vector)
    twin.add([999], vector)
    assert 999 in engine
    assert_agree(engine, twin, k=30)
    near = engine.similar_items(999, 5)
    assert_same(near, twin.similar(999, 5, CONTENT))
    assert engine.similar_items(near.ids[0], 30, source=CONTENT).ids.tolist().count(999) == 1
    with pytest.raises(rec.UnknownItemError, match="must have a vector in model, got 999"):
        engine.similar_items(999, source=MODEL)


def test_new_items_are_not_recommended_where_content_has_no_weight(rng):
    inter = make_inter(rng)
    als = rec.ALS(factors=3, iterations=1, random_state=0).fit(inter)
    engine = rec.Engine.build(inter, als, rng.standard_normal((len(inter.items), 4)))
    engine.add_items([999], vectors=np.ones((1, 4)))
    users = inter.users.ids
    assert 999 not in engine.recommend(users, 50, exclude_seen=False).ids
    assert engine.rank(users[0], [999]).ids.tolist() == [-1]
    assert 999 in engine.similar_items(inter.items.ids[0], 50, source=CONTENT).ids
    engine.observe(users[0], 999)
    assert 999 in engine.history(users[0])[0]


def test_a_user_of_new_items_only_is_unknown_to_the_model(rng):
    inter = make_inter(rng)
    als = rec.ALS(factors=3, iterations=1, random_state=0).fit(inter)
    engine = rec.Engine.build(inter, als, rng.standard_normal((len(inter.items), 4)))
    engine.add_items([999], vectors=np.ones((1, 4)))
    engine.observe(10**9, 999)
    assert 999 not in engine.recommend(10**9, 50).ids
    popular = engine.recommend(10**9 + 1, 5, deny=[999])
    assert engine.recommend(10**9, 5).ids.tolist() == popular.ids.tolist()
    with pytest.raises(rec.UnknownUserError):
        engine.recommend(10**9, on_unknown="raise")


def test_known_items_take_new_content(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    item = twin.items[4]
    engine.add_items([item], vectors=np.ones((1, 6)))
    twin.add([item], np.ones((1, 6)))
    assert engine.n_items == len(twin.items)
    assert_agree(engine, twin)
    assert_same(engine.similar_items(item, 5), twin.similar(item, 5, CONTENT))


@pytest.mark.parametrize("weights", MIXTURES, ids=["+".join(mixture) for mixture in MIXTURES])
def test_removed_items_are_gone_from_every_answer(rng, weights):
    engine, twin = make_pair(rng, weights)
    users = [*twin.users, 10**9]
    gone = engine.recommend(users[0], 3).ids.tolist()
    left = next(item for item in twin.items if item not in gone)
    engine.remove_items([*gone, gone[0]])
    twin.remove(gone)
    answers = [
        engine.recommend(users, 40, exclude_seen=False),
        engine.recommend(users, 40, allow=gone),
        engine.recommend_for([left], 40),
        engine.rank(users[0], twin.items),
    ]
    if MODEL in weights or CONTENT in weights:
        answers.append(engine.similar_items(left, 40))
    for answer in answers:
        assert not set(answer.ids.ravel().tolist()) & set(gone)
    assert_agree(engine, twin, k=40)
    assert engine.n_items == len(twin.items) - 3
    for call in (
        lambda: engine.observe(users[0], gone[0]),
        lambda: engine.recommend_for([gone[0]]),
        lambda: engine.similar_items(gone[0]),
        lambda: engine.remove_items(gone[:1]),
        lambda: engine.item_attributes(gone[:1]),
    ):
        with pytest.raises(rec.UnknownItemError, match=str(gone[0])):
            call()


def test_a_removed_item_returns_with_its_ordinal_factors_and_users(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    users = list(twin.users)
    before = engine.recommend(users, 40)
    item = before.ids[0, 0]
    vector = twin.content[twin.items.index(item)]
    engine.remove_items([item])
    engine.add_items([item], vectors=[vector])
    after = engine.recommend(users, 40)
    oracles.assert_same_topk(after, before)
    assert after.ordinals.tolist() == before.ordinals.tolist()


def test_removing_everything_leaves_padding_and_adding_starts_anew(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    engine.remove_items(twin.items)
    assert engine.n_items == 0
    assert engine.recommend(list(twin.users), 3).ids.tolist() == [[-1] * 3] * len(twin.users)
    engine.add_items([77], vectors=np.ones((1, 6)))
    assert engine.recommend(next(iter(twin.users)), 2).ids.tolist() == [77, -1]


@pytest.mark.parametrize("ids", [[5, 6], ["x", "y"]])
def test_an_empty_engine_takes_items_and_users_of_either_kind(ids):
    nothing = rec.Interactions.from_arrays([], [])
    engine = rec.Engine.build(nothing, content=np.empty((0, 2)))
    engine.add_items(ids, vectors=[[1, 0], [0, 1]])
    user = "u" if isinstance(ids[0], str) else 1
    engine.observe(user, ids[0])
    pad = None if isinstance(ids[0], str) else -1
    assert engine.recommend(user, 3).ids.tolist() == [ids[1], pad, pad]
    assert engine.user_ids.tolist() == [user]
    wrong = 7 if isinstance(ids[0], str) else "seven"
    with pytest.raises(TypeError, match="user_id must be"):
        engine.recommend(wrong)
    with pytest.raises(TypeError, match="item_id must be"):
        engine.observe(user, wrong)


def test_a_refused_change_changes_nothing(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    state = engine._state
    for refused in (
        lambda: engine.observe(1, 10**6),
        lambda: engine.observe(1, twin.items[0], weight=0),
        lambda: engine.observe(1, twin.items[0], weight=float("inf")),
        lambda: engine.observe(1, twin.items[0], weight=1e-60),
        lambda: engine.observe("one", twin.items[0]),
        lambda: engine.observe(-1, twin.items[0]),
        lambda: engine.add_items([500, 500], vectors=np.ones((2, 6))),
        lambda: engine.add_items([500], vectors=np.full((1, 6), np.nan)),
        lambda: engine.add_items([500], vectors=np.ones((1, 5))),
        lambda: engine.add_items([500]),
        lambda: engine.add_items([500], texts=["t"], vectors=np.ones((1, 6))),
        lambda: engine.add_items([500], texts=["no encoder"]),
        lambda: engine.remove_items([twin.items[0], 10**6]),
    ):
        with pytest.raises((ValueError, TypeError, rec.UnknownItemError)):
            refused()
    assert engine._state is state
