"""How content sees a user: by the mean, by attention to the last item, or by several interests."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec

N_USERS, N_ITEMS, DIM = 9, 50, 6
POOLINGS = ("mean", "attention", "interests")


def world(seed=5):
    """Return (interactions, content): events out of time order, weights of 0 among them."""
    rng = np.random.default_rng(seed)
    n = 90
    users, items = rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n)
    everything = np.arange(N_ITEMS)
    inter = rec.Interactions.from_arrays(
        np.concatenate([users, np.full(N_ITEMS, 99)]),
        np.concatenate([items, everything]),
        np.concatenate([rng.integers(0, 4, n), np.ones(N_ITEMS)]),
        np.concatenate([rng.permutation(n), everything]),
    )
    return inter, rng.standard_normal((N_ITEMS, DIM)).astype(np.float32)


def units(rows):
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)


def user_vectors(content, history, weights, last, pooling):
    """Return (m, dim) float64 by the formulas; interests come from the function of their own."""
    chosen, w = units(content[history]), np.asarray(weights, np.float64)
    mean = (chosen * (w / w.sum())[:, None]).sum(axis=0)
    if pooling == "mean":
        return mean[None]
    if pooling == "interests":
        return rec.interests(chosen.astype(np.float32), [np.arange(len(w))], 4, weights=[w]).vectors
    asking = units(mean if last is None else content[last])
    logits = chosen @ asking / 0.2 + np.log(w)
    shares = np.exp(logits - logits.max())
    return ((shares / shares.sum())[:, None] * chosen).sum(axis=0)[None]


def scores(content, vectors):
    return (units(content) @ units(vectors).T).max(axis=1)


def last_of(inter, user):
    """Return the newest item of a user with a weight above 0."""
    events = np.flatnonzero((inter.user_indices == inter.users.index(user)) & (inter.weights > 0))
    return int(inter.item_indices[events[np.argmax(inter.timestamps[events])]])


def assert_best(got, expected, k, excluded=()):
    expected = expected.copy()
    expected[list(excluded)] = -np.inf
    best = np.sort(expected)[::-1][:k]
    np.testing.assert_allclose(got.scores, best, rtol=0, atol=2e-6)
    np.testing.assert_allclose(expected[got.ids], got.scores, rtol=0, atol=2e-6)
    assert len(set(got.ids.tolist())) == k


@pytest.mark.parametrize("pooling", POOLINGS)
def test_recommend_equals_the_formula(pooling):
    inter, content = world()
    engine = rec.Engine.build(inter, content=content, pooling=pooling)
    users = list(range(N_USERS))
    many = engine.recommend(users, 7, exclude_seen=False)
    for row, user in enumerate(users):
        history, weights = engine.history(user)
        vectors = user_vectors(content, history, weights, last_of(inter, user), pooling)
        expected = scores(content, vectors)
        one = engine.recommend(user, 7, exclude_seen=False)
        assert_best(one, expected, 7)
        oracles.assert_same_topk(one, (many.ids[row], many.scores[row]))
        assert_best(engine.recommend(user, 5), expected, 5, history)
        ranked = engine.rank(user, [3, 4, 5, 6])
        np.testing.assert_allclose(ranked.scores, expected[ranked.ids], rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_history_is_read_oldest_first(pooling):
    inter, content = world()
    engine = rec.Engine.build(inter, content=content, pooling=pooling)
    history = [7, 30, 7, 12, 4]
    for given, last in ((history, 4), (history[::-1], 7)):
        vectors = user_vectors(content, [4, 7, 12, 30], [1, 2, 1, 1], last, pooling)
        assert_best(engine.recommend_for(given, 6), scores(content, vectors), 6, history)
    one, two = (engine.recommend_for(each, 6) for each in (history, history[::-1]))
    assert np.array_equal(one.scores, two.scores) == (pooling != "attention")
    popular = engine.recommend_for([], 3)
    assert (popular.ids >= 0).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_was_observed_is_the_last_and_is_saved(pooling, tmp_path):
    inter, content = world()
    engine = rec.Engine.build(inter, content=content, pooling=pooling)
    for user, item in ((3, 8), (777, 1), (777, 2), (777, 1)):
        engine.observe(user, item, 2.0)
    engine.save(tmp_path / "e.rec")
    loaded = rec.Engine.load(tmp_path / "e.rec")
    for each in (engine, loaded):
        for user, last in ((3, 8), (777, 1), (5, last_of(inter, 5))):
            history, weights = each.history(user)
            vectors = user_vectors(content, history, weights, last, pooling)
            assert_best(each.recommend(user, 4), scores(content, vectors), 4, history)
    users = [*range(N_USERS), 777, 12345]
    oracles.assert_same_topk(loaded.recommend(users, 9), engine.recommend(users, 9))
    loaded.add_items([500], vectors=np.ones((1, DIM)))
    loaded.observe(777, 500)
    history, weights = loaded.history(777)
    table = np.concatenate([content, np.ones((1, DIM), np.float32)])
    rows = np.where(history == 500, N_ITEMS, history)
    expected = scores(table, user_vectors(table, rows, weights, N_ITEMS, pooling))
    found = loaded.recommend(777, 3)
    np.testing.assert_allclose(found.scores, expected[found.ids], rtol=0, atol=2e-6)


@pytest.mark.parametrize("pooling", ["attention", "interests"])
def test_the_sum_with_a_model_equals_brute_force(pooling):
    inter, content = world()
    model = rec.ALS(factors=3, iterations=2, random_state=0).fit(inter)
    weights = {"model": 1.0, "content": 0.5, "popularity": 0.01}
    engine = rec.Engine.build(inter, model, content, weights=weights, pooling=pooling)
    alone = {
        name: rec.Engine.build(inter, model, content, weights={name: 1}, pooling=pooling)
        for name in weights
    }
    users = [0, 4, 8]
    found = engine.recommend(users, 6, exclude_seen=False)
    total = np.zeros((len(users), N_ITEMS))
    for name, weight in weights.items():
        whole = alone[name].recommend(users, N_ITEMS, exclude_seen=False)
        np.put_along_axis(part := np.zeros_like(total), whole.ids, whole.scores, axis=1)
        total += weight * part
    np.testing.assert_allclose(found.scores, -np.sort(-total, axis=1)[:, :6], rtol=1e-5)


def test_two_interests_are_both_served_where_the_mean_serves_neither():
    """Ten films of each of two kinds, and ten that are half of either: what is the user's next?"""
    angles = np.repeat([0.0, np.pi / 2, np.pi / 4], 10) + np.tile(np.arange(10) * 0.01, 3)
    content = np.column_stack([np.cos(angles), np.sin(angles)])
    everything = np.arange(30)
    inter = rec.Interactions.from_arrays([1] * 30, everything)
    history, kinds = [0, 1, 10, 11], {}
    for pooling in ("mean", "interests"):
        engine = rec.Engine.build(inter, content=content, pooling=pooling)
        kinds[pooling] = set(engine.recommend_for(history, 6).ids // 10)
    assert kinds == {"mean": {2}, "interests": {0, 1}}


def test_wrong_pooling_is_refused(tmp_path):
    inter, content = world()
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'attention', 'interests'"):
        rec.Engine.build(inter, content=content, pooling="max")
    with pytest.raises(ValueError, match="pooling must go with content, got 'interests'"):
        rec.Engine.build(inter, pooling="interests")
    engine = rec.Engine.build(inter, content=content, pooling="attention")
    with pytest.raises(TypeError, match="history"):
        engine.recommend_for({1, 2}, 3)
