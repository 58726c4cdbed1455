"""Items that come after the training, in an engine whose model predicts factors from content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recengine as rec

N_USERS, N_ITEMS, GROUPS = 40, 30, 3


@pytest.fixture
def inter(rng: np.random.Generator) -> rec.Interactions:
    """Users of three groups who choose items of their group; items 0 to 29 are chosen."""
    likes = rng.random((N_USERS, N_ITEMS)) < np.where(
        np.arange(N_USERS)[:, None] % GROUPS == np.arange(N_ITEMS) % GROUPS, 0.5, 0.02
    )
    likes[np.arange(N_ITEMS) % N_USERS, np.arange(N_ITEMS)] = True
    return rec.Interactions.from_arrays(*np.nonzero(likes))


def content_of(items: Any) -> Any:
    return np.eye(GROUPS, dtype=np.float32)[np.asarray(items) % GROUPS]


def engine_of(inter: rec.Interactions, features: Any, **options: Any) -> rec.Engine:
    model = rec.ALS(4, 1.0, iterations=5, random_state=0)
    model.fit(inter, item_features=features)
    return rec.Engine.build(inter, model=model, content=content_of(inter.items.ids), **options)


def test_new_items_are_recommended_to_who_likes_their_kind(inter: Any, tmp_path: Any) -> None:
    engine = engine_of(inter, content_of(inter.items.ids))
    new = np.arange(100, 106)
    engine.add_items(new, vectors=content_of(new))
    engine.save(tmp_path / "e.rec")
    for each in (engine, rec.Engine.load(tmp_path / "e.rec")):
        for user in range(6):
            ids, scores = each.recommend(user, k=3 + 20)
            at = {item: scores[ids == item][0] for item in new if item in ids}
            mine = [score for item, score in at.items() if item % GROUPS == user % GROUPS]
            others = [score for item, score in at.items() if item % GROUPS != user % GROUPS]
            assert len(mine) == 2
            assert min(mine) > max(others, default=-1.0) + 0.1
        ids, scores = each.rank(0, [100, 102])  # 102 % 3 == 0
        assert list(ids) == [102, 100]
        similar = each.similar_items(102, k=5)[0]
        assert (similar % GROUPS == 0).all()


def test_a_new_item_says_who_a_user_is(inter: Any) -> None:
    engine = engine_of(inter, content_of(inter.items.ids))
    engine.add_items([100], vectors=content_of([100]))
    engine.observe(999, 100)
    ids, _ = engine.recommend(999, k=8)
    assert 100 not in ids
    assert (ids % GROUPS == 100 % GROUPS).mean() > 0.7
    ids, _ = engine.recommend_for(history=[100], k=8)
    assert (ids % GROUPS == 100 % GROUPS).mean() > 0.7
    engine.remove_items([100])
    assert 100 not in engine.recommend(1, k=20)[0]
    engine.add_items([100, 101], vectors=content_of([100, 101]))
    assert 100 in engine.recommend(1, k=30)[0]


def test_items_one_by_one_are_items_at_once(inter: Any) -> None:
    one, many = (engine_of(inter, content_of(inter.items.ids)) for _ in range(2))
    new = np.array([100, 101, 102])
    many.add_items(new, vectors=content_of(new))
    for item in new:
        one.add_items([item], vectors=content_of([item]))
    got, want = one.recommend(3, k=20), many.recommend(3, k=20)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", ["none", "other", "more"])
def test_without_these_features_new_items_wait(inter: Any, features: str) -> None:
    table = {
        "none": None,
        "other": np.random.default_rng(0).random((N_ITEMS, GROUPS), dtype=np.float32),
        "more": np.eye(N_ITEMS, dtype=np.float32),
    }[features]
    engine = engine_of(inter, table)
    before = engine.recommend(0, k=30)
    engine.add_items([100], vectors=content_of([100]))
    after = engine.recommend(0, k=30)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_a_publication_keeps_what_came_while_it_was_made(inter: Any) -> None:
    from recengine.engine import publish

    engine = engine_of(inter, content_of(inter.items.ids))
    engine.observe(1, 4)
    before = engine._state
    made = publish.solved(before, publish.Pending(1, {4}, {1}))
    assert made is not None
    engine.add_items([100, 101], vectors=content_of([100, 101]))
    after = publish.published(engine._state, made)
    assert len(after.model.item_factors_) == after.profiles.n_modelled == N_ITEMS + 2
    np.testing.assert_array_equal(
        after.model.item_factors_[N_ITEMS:], engine._state.model.item_factors_[N_ITEMS:]
    )
    assert not np.array_equal(after.model.item_factors_[4], before.model.item_factors_[4])
