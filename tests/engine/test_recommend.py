"""Recommending against brute force: every mixture of sources, every filter, every edge."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MIXTURES, MODEL, POPULARITY, assert_same, make_inter, make_pair

MIXTURE_NAMES = ["+".join(mixture) for mixture in MIXTURES]
mixtures = pytest.mark.parametrize("weights", MIXTURES, ids=MIXTURE_NAMES)


@mixtures
@pytest.mark.parametrize("strings", [False, True])
def test_recommend_equals_brute_force(rng, weights, strings):
    engine, twin = make_pair(rng, weights, strings=strings)
    for user in twin.users:
        for k in (0, 1, 5, 40):
            assert_same(engine.recommend(user, k), twin.recommend(user, k))
            got = engine.recommend(user, k, exclude_seen=False)
            assert_same(got, twin.recommend(user, k, exclude_seen=False))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    weights=st.sampled_from(MIXTURES),
    tied=st.booleans(),
    k=st.integers(0, 25),
    data=st.data(),
)
def test_recommend_under_any_filters_equals_brute_force(seed, weights, tied, k, data):
    engine, twin = make_pair(np.random.default_rng(seed), weights, tied=tied)
    ids = st.lists(st.sampled_from([*twin.items, 10**6]), max_size=20)
    filters = {
        "exclude_seen": data.draw(st.booleans()),
        "allow": data.draw(st.none() | ids),
        "deny": data.draw(st.none() | ids),
    }
    for user in list(twin.users)[:4]:
        assert_same(engine.recommend(user, k, **filters), twin.recommend(user, k, **filters))


@mixtures
def test_recommend_for_equals_brute_force(rng, weights):
    engine, twin = make_pair(rng, weights)
    for n in (1, 2, 6):
        history = rng.choice(twin.items, n).tolist()
        strengths = rng.integers(1, 5, n).astype(float).tolist()
        assert_same(engine.recommend_for(history, 9), twin.recommend_for(history, 9))
        got = engine.recommend_for(history, 9, weights=strengths, exclude_seen=False)
        assert_same(got, twin.recommend_for(history, 9, weights=strengths, exclude_seen=False))


@pytest.mark.parametrize("weights", [mixture for mixture in MIXTURES if POPULARITY not in mixture])
def test_recommend_for_a_history_equals_observing_it(rng, weights):
    engine, twin = make_pair(rng, weights)
    history = twin.items[:4]
    before = engine.recommend_for(history, 9)
    for item in history:
        engine.observe(10**9, item)
    after = engine.recommend(10**9, 9)
    assert after.ids.tolist() == before.ids.tolist()
    oracles.assert_same_bits(after.scores, before.scores)


@mixtures
def test_rank_equals_brute_force(rng, weights):
    engine, twin = make_pair(rng, weights)
    for user in [*list(twin.users)[:5], 10**9]:
        candidates = rng.permutation([*twin.items[:9], 10**6]).tolist()
        assert_same(engine.rank(user, candidates), twin.rank(user, candidates))
        top = engine.rank(user, candidates, k=3)
        assert top.ids.tolist() == engine.rank(user, candidates).ids[:3].tolist()


@mixtures
def test_rank_gives_the_bits_that_recommend_gives(rng, weights):
    engine, twin = make_pair(rng, weights)
    for user in twin.users:
        listed = engine.recommend(user, 6)
        known = listed.ids[listed.ordinals >= 0]
        ranked = engine.rank(user, rng.permutation(known))
        assert ranked.ids.tolist() == known.tolist()
        oracles.assert_same_bits(ranked.scores, listed.scores[: len(known)])


@pytest.mark.parametrize("source", [MODEL, CONTENT])
def test_similar_items_equals_brute_force(rng, source):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    for item in twin.items:
        assert_same(engine.similar_items(item, 6, source=source), twin.similar(item, 6, source))
    batch = engine.similar_items(twin.items, 6)
    assert batch.ids.tolist() == [engine.similar_items(item, 6).ids.tolist() for item in twin.items]
    assert_same(engine.similar_items(twin.items[0], 6), twin.similar(twin.items[0], 6, MODEL))


def test_similar_items_takes_the_heaviest_source(rng):
    engine, twin = make_pair(rng, {MODEL: 0.5, CONTENT: 1.0})
    item = twin.items[2]
    assert_same(engine.similar_items(item, 6), twin.similar(item, 6, CONTENT))


@mixtures
@pytest.mark.parametrize("strings", [False, True])
def test_batch_equals_singles_bit_for_bit(rng, weights, strings):
    engine, twin = make_pair(rng, weights, strings=strings)
    nobody = "nobody" if strings else 10**9
    users = rng.permutation([*twin.users, nobody, next(iter(twin.users))]).tolist()
    batch = engine.recommend(users, 8)
    assert batch.ids.shape == batch.scores.shape == batch.ordinals.shape == (len(users), 8)
    for row, user in enumerate(users):
        single = engine.recommend(user, 8)
        assert batch.ids[row].tolist() == single.ids.tolist()
        assert batch.ordinals[row].tolist() == single.ordinals.tolist()
        oracles.assert_same_bits(batch.scores[row], single.scores)


@mixtures
def test_top_k_is_a_prefix_of_top_more(rng, weights):
    engine, twin = make_pair(rng, weights, n_items=150, n_events=400)
    for user in list(twin.users)[:4]:
        whole = engine.recommend(user, 160)
        for k in (1, 2, 31, 64, 65, 140):
            part = engine.recommend(user, k)
            assert part.ids.tolist() == whole.ids[:k].tolist()
            oracles.assert_same_bits(part.scores, whole.scores[:k])


def test_seen_items_are_never_returned(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    users = list(twin.users)
    for user, ids in zip(users, engine.recommend(users, 30).ids, strict=True):
        assert not set(ids.tolist()) & set(twin.users[user])
        assert set(ids.tolist()) - {-1} == set(twin.items) - set(twin.users[user])


def test_a_user_without_events_in_this_split_is_unknown():
    whole = rec.Interactions.from_arrays([1, 1, 2], [10, 11, 12], timestamps=[1, 2, 3])
    train = whole.select(whole.user_indices == 0)
    engine = rec.Engine.build(train, model=rec.ALS(factors=2, random_state=0).fit(train))
    assert engine.recommend(2, 3).ids.tolist() == [10, 11, 12]
    assert engine.recommend(2, 3).scores.tolist() == [1, 1, 0]
    with pytest.raises(rec.UnknownUserError, match="got 1 without: 2"):
        engine.recommend(2, on_unknown="raise")


def test_unknown_users_get_what_most_users_have(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    got = engine.recommend(10**9, 6, deny=twin.items[:2])
    assert_same(got, twin.recommend(10**9, 6, deny=twin.items[:2]))
    known = next(iter(twin.users))
    with pytest.raises(rec.UnknownUserError, match="got 2 without: 5, 6"):
        engine.recommend([known, 5, 6], on_unknown="raise")
    with pytest.raises(rec.UnknownUserError, match="got 1 without: 5"):
        engine.rank(5, twin.items, on_unknown="raise")


def test_an_empty_history_gets_what_is_popular(rng):
    engine, _ = make_pair(rng, {MODEL: 1.0})
    assert engine.recommend_for([], 6).ids.tolist() == engine.recommend(10**9, 6).ids.tolist()


def test_an_empty_catalogue_answers_with_padding():
    empty = rec.Interactions.from_arrays([], [])
    engine = rec.Engine.build(empty, content=np.empty((0, 3)))
    assert engine.recommend(1, 3).ids.tolist() == [-1] * 3
    assert engine.recommend(1, 3).scores.tolist() == [-np.inf] * 3
    assert engine.recommend([1, 2], 2).ids.tolist() == [[-1, -1]] * 2
    assert engine.recommend_for([], 2).ids.tolist() == [-1, -1]
    assert engine.rank(1, [5, 6]).ids.tolist() == [-1, -1]
    assert (engine.n_items, engine.item_ids.tolist()) == (0, [])


def test_an_empty_batch_and_k_zero(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 1.0})
    assert engine.recommend([], 4).ids.shape == (0, 4)
    assert engine.recommend(list(twin.users), 0).ids.shape == (len(twin.users), 0)
    assert engine.recommend(1, 0).ids.shape == (0,)
    assert engine.rank(1, [], 2).ids.tolist() == [-1, -1]
    assert engine.rank(1, []).ids.shape == (0,)
    assert engine.similar_items([], 3).ids.shape == (0, 3)


def test_everything_filtered_away_leaves_padding(rng):
    for weights in MIXTURES:
        engine, twin = make_pair(rng, weights)
        user = next(iter(twin.users))
        for filters in ({"allow": []}, {"deny": twin.items}, {"allow": [10**6]}):
            got = engine.recommend(user, 3, **filters)
            assert got.ids.tolist() == [-1] * 3
            assert got.scores.tolist() == [-np.inf] * 3


def test_defaults_take_the_best_source_alone(rng):
    inter = make_inter(rng)
    content = rng.standard_normal((len(inter.items), 4))
    als = rec.ALS(factors=3, random_state=0, iterations=1).fit(inter)
    assert rec.Engine.build(inter, als, content).weights == {
        MODEL: 1.0,
        CONTENT: 0.0,
        POPULARITY: 0.0,
    }
    assert rec.Engine.build(inter, content=content).weights == {CONTENT: 1.0, POPULARITY: 0.0}
    assert rec.Engine.build(inter).weights == {POPULARITY: 1.0}
    assert rec.Engine.build(inter, content=content, weights={POPULARITY: 2}).weights == {
        CONTENT: 0.0,
        POPULARITY: 2.0,
    }


def test_a_later_fit_of_the_model_changes_nothing(rng):
    inter = make_inter(rng)
    als = rec.ALS(factors=3, random_state=0, iterations=1).fit(inter)
    engine = rec.Engine.build(inter, als)
    users = inter.users.ids
    before, folded = engine.recommend(users, 5), engine.recommend_for([inter.items.ids[0]], 5)
    als.random_state = 9
    als.fit(inter)
    oracles.assert_same_topk(engine.recommend(users, 5), before)
    oracles.assert_same_topk(engine.recommend_for([inter.items.ids[0]], 5), folded)
