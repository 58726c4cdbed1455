"""An engine over each model: it answers as the model does, learns on, and is saved."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec

MODELS = {
    "ALS": lambda: rec.ALS(6, iterations=2, random_state=0),
    "BPR": lambda: rec.BPR(6, iterations=5, random_state=0),
}


@pytest.fixture
def inter(rng):
    users, items = np.nonzero(rng.random((30, 20)) < 0.3)
    return rec.Interactions.from_arrays(users + 100, items + 500)


@pytest.mark.parametrize("name", MODELS)
def test_an_engine_answers_as_its_model_and_is_saved(inter, tmp_path, name):
    model = MODELS[name]().fit(inter)
    engine = rec.Engine.build(inter, model=model)
    row = inter.to_csr()[[2]]
    user = inter.users.ids[2]
    want = model.recommend(2, row, k=20)
    got = engine.recommend(user, 20)
    n = int((want.ids >= 0).sum())
    assert got.ids[:n].tolist() == inter.items.ids[want.ids[:n]].tolist()
    np.testing.assert_allclose(got.scores[:n], want.scores[:n], rtol=1e-6)
    similar = model.similar_items(3, k=5)
    alike = engine.similar_items(inter.items.ids[3], 5)
    assert alike.ids.tolist() == inter.items.ids[similar.ids].tolist()
    item = engine.recommend(user, 1).ids[0]
    engine.observe(user, item)
    engine.observe(9, item)
    engine.save(tmp_path / "shop.rec")
    loaded = rec.Engine.load(tmp_path / "shop.rec")
    everybody = [*inter.users.ids.tolist(), 9]
    oracles.assert_same_topk(loaded.recommend(everybody, 9), engine.recommend(everybody, 9))
    loaded.observe(9, int(inter.items.ids[0]))
    engine.observe(9, int(inter.items.ids[0]))
    oracles.assert_same_topk(loaded.recommend(9, 9), engine.recommend(9, 9))


def test_ratings_are_no_weights(inter):
    with pytest.raises(TypeError, match="model must be a fitted ALS or BPR, got SGD"):
        rec.Engine.build(inter, model=rec.SGD(2, iterations=1).fit(inter))
