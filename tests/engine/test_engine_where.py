"""`where` of an engine: the attributes of the build filter every kind of request."""

from __future__ import annotations

import numpy as np
import pytest

import recengine as rec

N_ITEMS = 40
DRAMA = rec.where(genre="Drama")


@pytest.fixture
def engine(rng):
    users = np.repeat(np.arange(12), 6)
    inter = rec.Interactions.from_arrays(
        users, np.append(np.arange(N_ITEMS), rng.integers(0, 40, 32))
    )
    items = {
        "item_id": np.arange(N_ITEMS),
        "genre": np.array([["Drama", "War", None][i % 3] for i in range(N_ITEMS)], object),
        "year": np.arange(N_ITEMS) + 1980,
    }
    content = rng.standard_normal((len(inter.items), 8)).astype(np.float32)
    return rec.Engine.build(inter, content=content, items=items)


def test_where_equals_allow_of_the_matching_items(engine):
    both = DRAMA & rec.where(year__ge=1990)
    matching = [i for i in range(N_ITEMS) if i % 3 == 0 and i >= 10]
    for call in (
        lambda **options: engine.recommend([0, 5], 20, **options),
        lambda **options: engine.recommend(0, 20, exclude_seen=False, **options),
        lambda **options: engine.recommend(999, 20, **options),
        lambda **options: engine.recommend_for([1, 2], 20, **options),
        lambda **options: engine.similar_items(4, 20, **options),
    ):
        got, want = call(where=both), call(allow=matching)
        assert (got.ids >= 0).any()
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.scores, want.scores)
        narrower = call(where=DRAMA, allow=range(10, N_ITEMS), deny=[12])
        np.testing.assert_array_equal(
            narrower.ids, call(allow=[i for i in matching if i != 12]).ids
        )


def test_where_follows_added_and_removed_items(engine, rng):
    engine.remove_items([0, 3])
    engine.add_items(
        [77, 78],
        vectors=rng.standard_normal((2, 8)).astype(np.float32),
        items={"item_id": [77, 78], "genre": ["Drama", None], "year": [2000, 2000]},
    )
    ids = engine.recommend_for([1], N_ITEMS, where=DRAMA, exclude_seen=False).ids
    want = ({*range(0, N_ITEMS, 3), 77}) - {0, 3}
    assert set(ids[ids >= 0].tolist()) == want


def test_where_refuses(engine):
    with pytest.raises(ValueError, match=r"columns of the index \('genre', 'year'\), got 'price'"):
        engine.recommend(0, where=rec.where(price=1))
    with pytest.raises(TypeError, match=r"where must be made by recengine\.where, got str"):
        engine.similar_items(0, where="genre")
