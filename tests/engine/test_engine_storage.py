"""A saved engine: the same bits when it is read back, a clear error when the file is not whole."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.storage import read_bundle, write_bundle

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MIXTURES, MODEL, assert_agree, make_inter, make_pair


def changed_pair(rng, weights, *, strings=False):
    """Return an engine, and its twin, after some of every change."""
    engine, twin = make_pair(rng, weights, strings=strings)
    new = ["z1", "z2"] if strings else [901, 900]
    table = rng.standard_normal((2, 6)).astype(np.float32)
    engine.add_items(new, vectors=table if weights.get(CONTENT) else None)
    twin.add(new, table)
    for number, user in enumerate([*list(twin.users)[:3], "w2" if strings else 10**9, new[0]]):
        for item in (twin.items[number], new[number % 2]):
            engine.observe(user, item, number + 0.5)
            twin.observe(user, item, number + 0.5)
    only_new = "w3" if strings else 10**9 + 2  # nothing that a model knows
    engine.observe(only_new, new[0])
    twin.observe(only_new, new[0])
    gone = [twin.items[2], new[1]]
    engine.remove_items(gone)
    twin.remove(gone)
    return engine, twin


@pytest.mark.parametrize("weights", MIXTURES, ids=["+".join(mixture) for mixture in MIXTURES])
@pytest.mark.parametrize("strings", [False, True])
def test_a_loaded_engine_answers_with_the_same_bits(rng, tmp_path, weights, strings):
    engine, twin = changed_pair(rng, weights, strings=strings)
    engine.save(tmp_path / "shop.rec")
    loaded = rec.Engine.load(tmp_path / "shop.rec")
    users = [*twin.users, "nobody" if strings else 10**8]
    want, got = engine.recommend(users, 30), loaded.recommend(users, 30)
    oracles.assert_same_topk(got, want)
    assert got.ordinals.tolist() == want.ordinals.tolist()
    history = sorted(twin.alive)[:4]
    oracles.assert_same_topk(loaded.recommend_for(history, 9), engine.recommend_for(history, 9))
    oracles.assert_same_topk(loaded.rank(users[0], twin.items), engine.rank(users[0], twin.items))
    assert loaded.item_ids.tolist() == engine.item_ids.tolist()
    assert sorted(loaded.user_ids.tolist()) == sorted(engine.user_ids.tolist())
    assert loaded.weights == engine.weights
    assert_agree(loaded, twin)


def test_a_loaded_engine_changes_as_the_saved_one_would(rng, tmp_path):
    engine, twin = changed_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    engine.save(tmp_path / "shop.rec")
    loaded = rec.Engine.load(tmp_path / "shop.rec")
    loaded.observe(10**9 + 1, twin.items[0])
    twin.observe(10**9 + 1, twin.items[0])
    loaded.add_items([twin.items[2]], vectors=np.ones((1, 6)))
    twin.add([twin.items[2]], np.ones((1, 6)))
    loaded.remove_items([twin.items[5]])
    twin.remove([twin.items[5]])
    assert_agree(loaded, twin, k=30)


def test_saving_twice_gives_equal_files(rng, tmp_path):
    engine, _ = changed_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    engine.save(tmp_path / "a.rec")
    rec.Engine.load(tmp_path / "a.rec").save(tmp_path / "b.rec")
    assert (tmp_path / "a.rec").read_bytes() == (tmp_path / "b.rec").read_bytes()


def test_an_engine_may_be_saved_over_its_own_file(rng, tmp_path):
    engine, twin = changed_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    path = tmp_path / "shop.rec"
    engine.save(path)
    loaded = rec.Engine.load(path)
    loaded.observe(10**9 + 1, twin.items[0])
    twin.observe(10**9 + 1, twin.items[0])
    loaded.save(path)
    assert_agree(loaded, twin)
    assert_agree(rec.Engine.load(path), twin)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the bytes of a small saved engine."""
    engine, _ = changed_pair(np.random.default_rng(5), {MODEL: 1.0, CONTENT: 0.5})
    path = tmp_path_factory.mktemp("saved") / "shop.rec"
    engine.save(path)
    return path.read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_bundle_is_refused(saved, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "shop.rec"
    place = data.draw(st.integers(0, len(saved) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(saved[:place])
    else:
        flipped = bytes([saved[place] ^ (1 << data.draw(st.integers(0, 7)))])
        path.write_bytes(saved[:place] + flipped + saved[place + 1 :])
    with pytest.raises(rec.BundleError):
        rec.Engine.load(path)


def test_other_files_are_refused(rng, tmp_path):
    path = tmp_path / "other"
    path.write_text("hello")
    with pytest.raises(rec.BundleError, match="not a recengine bundle"):
        rec.Engine.load(path)
    rec.FlatIndex(np.eye(3)).save(path)
    with pytest.raises(rec.BundleError, match="must be of kind 'engine'"):
        rec.Engine.load(path)
    with pytest.raises(FileNotFoundError):
        rec.Engine.load(tmp_path / "absent")


FORGERIES = {
    "no items": lambda a, m: a.pop("items"),
    "no model part": lambda a, m: a.pop("model/item_gram"),
    "no weights": lambda a, m: m.pop("weights"),
    "short alive": lambda a, m: a.update(alive=a["alive"][1:]),
    "alive of numbers": lambda a, m: a.update(alive=a["alive"].astype(np.int8)),
    "short popularity": lambda a, m: a.update(popularity=a["popularity"][1:]),
    "short content": lambda a, m: a.update(content=a["content"][1:]),
    "flat content": lambda a, m: a.update(content=a["content"].ravel()),
    "wide content": lambda a, m: a.update(content=a["content"].astype(np.float64)),
    "content not finite": lambda a, m: a.update(content=np.full_like(a["content"], np.nan)),
    "users twice": lambda a, m: a.update(users=a["users"] * 0 + 7),
    "other users": lambda a, m: a.update(users=a["users"][1:]),
    "history of others": lambda a, m: a.update({"history/indices": a["history/indices"] + 99}),
    "negative history": lambda a, m: a.update({"history/indices": a["history/indices"] - 99}),
    "history backwards": lambda a, m: a.update({"history/indices": a["history/indices"][::-1]}),
    "short weights": lambda a, m: a.update({"history/weights": a["history/weights"][1:]}),
    "zero weights": lambda a, m: a.update({"history/weights": a["history/weights"] * 0}),
    "falling indptr": lambda a, m: a.update({"history/indptr": a["history/indptr"][::-1]}),
    "float indptr": lambda a, m: a.update({"history/indptr": a["history/indptr"] * 1.0}),
    "fewer factors": lambda a, m: a.update({"model/user_factors": a["model/user_factors"][1:]}),
    "more items": lambda a, m: a.update({"model/item_factors": np.ones((99, 5), np.float32)}),
    "other model": lambda a, m: m["model"].update({"class": "os.system"}),
    "other meta": lambda a, m: m.update(model=[1]),
    "n_modelled": lambda a, m: m.update(n_modelled=3),
    "other sources": lambda a, m: m.update(weights={"popularity": 1.0}),
    "weights negative": lambda a, m: m["weights"].update(model=-1.0),
    "weights as text": lambda a, m: m["weights"].update(model="1"),
    "encoder undescribed": lambda a, m: m.update(encoder={"class": "TextEncoder"}),
    "encoder a list": lambda a, m: m.update(encoder=[]),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_whole_bundle_that_holds_no_engine_is_refused(saved, tmp_path, forgery):
    path = tmp_path / "forged.rec"
    path.write_bytes(saved)
    bundle = read_bundle(path, kind="engine", schema=1)
    arrays, meta = dict(bundle.arrays), dict(bundle.meta)
    write_bundle(path, arrays, meta, kind="engine", schema=1)
    rec.Engine.load(path)
    FORGERIES[forgery](arrays, meta)
    write_bundle(path, arrays, meta, kind="engine", schema=1)
    with pytest.raises(rec.BundleError, match=r"forged.rec does not hold an engine|there is no"):
        rec.Engine.load(path)


def test_a_failed_save_leaves_the_old_file(rng, tmp_path, saved):
    path = tmp_path / "shop.rec"
    path.write_bytes(saved)
    engine = rec.Engine.build(make_inter(rng))
    with pytest.raises(FileNotFoundError):
        engine.save(tmp_path / "no folder" / "shop.rec")
    path.chmod(0o400)
    assert path.read_bytes() == saved


def test_an_engine_pickles_as_its_file(rng, tmp_path):
    engine, twin = changed_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    with pytest.raises(TypeError, match="save it first"):
        pickle.dumps(engine)
    engine.save(tmp_path / "shop.rec")
    sent = pickle.dumps(engine)
    assert len(sent) < 500
    assert_agree(pickle.loads(sent), twin)
    assert pickle.dumps(pickle.loads(sent)) == sent
    assert pickle.dumps(rec.Engine.load(tmp_path / "shop.rec")) == sent
    engine.observe(10**9, twin.items[0])
    with pytest.raises(TypeError, match="after each change"):
        pickle.dumps(engine)
    engine.save(tmp_path / "shop.rec")
    with pytest.raises(rec.BundleError, match="must have the digest"):
        pickle.loads(sent)
