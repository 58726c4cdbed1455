"""Prepared filters of an engine: exact for every source, through updates and files."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import recengine as rec
from recengine.engine.catalogue import Catalogue

sys.path.append(str(Path(__file__).parent))
from brute_force import (
    CONTENT,
    MIXTURES,
    MODEL,
    POPULARITY,
    BruteForce,
    assert_same,
    make_inter,
    make_model,
)

CHEAP = rec.where(category="x", price__lt=10)
mixtures = pytest.mark.parametrize("weights", MIXTURES, ids=["+".join(m) for m in MIXTURES])


def attributes(ids):
    """Return columns that are a function of the ids, with holes."""
    return {
        "item_id": ids,
        "category": np.array([["x", "y", None][item // 3 % 3] for item in ids], object),
        "price": [float("nan") if item % 5 == 0 else item % 20 for item in ids],
    }


def is_cheap(item):
    return item // 3 % 3 == 0 and item % 5 != 0 and item % 20 < 10


def make_pair(rng, weights):
    """Return (engine with attributes, its brute-force twin)."""
    inter = make_inter(rng, n_items=40, n_events=150)
    model = make_model(rng, inter) if weights.get(MODEL) else None
    content = None
    if weights.get(CONTENT):
        content = rng.standard_normal((len(inter.items), 6)).astype(np.float32)
    parts = {"model": model, "content": content, "weights": weights}
    items = attributes(inter.items.ids.tolist())
    return rec.Engine.build(inter, items=items, **parts), BruteForce(inter, **parts)


def assert_filtered(engine, twin, kept, allowed, k=9):
    """Assert every kind of request under the filter against the twin under `allow`."""
    for user in [*list(twin.users)[:5], 10**9]:  # the last is unknown: what is popular
        for seen in (True, False):
            options = {"exclude_seen": seen}
            got = engine.recommend(user, k, filter=kept, **options)
            assert_same(got, twin.recommend(user, k, allow=allowed, **options))
    history = sorted(twin.alive)[:3]
    got = engine.recommend_for(history, k, filter=kept)
    assert_same(got, twin.recommend_for(history, k, allow=allowed))
    for source in {MODEL, CONTENT} & set(twin.weights):
        got = engine.similar_items(history, k, source=source, filter=kept)
        want = engine.similar_items(history, k, source=source, allow=allowed)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.scores, want.scores)


@mixtures
def test_a_filter_is_exact_in_every_source_and_follows_updates_and_files(rng, weights, tmp_path):
    engine, twin = make_pair(rng, weights)
    few = [item for item in range(-30, 400) if item != -1]
    kept = engine.filter(where=CHEAP, deny=[twin.items[3], 10**6], allow=few)

    def allowed():
        return [i for i in sorted(twin.alive) if is_cheap(i) and i != twin.items[3] and i < 400]

    assert 0 < kept.n_items < len(twin.items)
    assert_filtered(engine, twin, kept, allowed())
    new = [306, 307, 304, 406]
    vectors = rng.standard_normal((4, 6)).astype(np.float32) if CONTENT in weights else None
    engine.add_items(new, vectors=vectors, items=attributes(new))
    twin.add(new, np.zeros((4, 6)) if vectors is None else vectors)
    for item in new[:3]:
        engine.observe(next(iter(twin.users)), item)
        twin.observe(next(iter(twin.users)), item)
    assert_filtered(engine, twin, kept, allowed())
    gone = [next(item for item in allowed() if item not in new), 306]
    engine.remove_items(gone)
    twin.remove(gone)
    assert_filtered(engine, twin, kept, allowed())
    back = None if vectors is None else np.ones((1, 6), np.float32)
    engine.add_items(gone[:1], vectors=back)  # revived, without attributes: they are as they were
    twin.add(gone[:1], np.ones((1, 6)))
    assert kept.n_items == len(allowed())
    assert kept.selectivity == len(allowed()) / engine.n_items
    assert_filtered(engine, twin, kept, allowed())
    engine.save(tmp_path / "e.rec")
    loaded = rec.Engine.load(tmp_path / "e.rec")
    again = loaded.filter(where=CHEAP, deny=[twin.items[3], 406])
    assert_filtered(loaded, twin, again, allowed())


def test_an_item_must_pass_all_filters_that_are_given(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    kept = engine.filter(where=rec.where(category="x"))
    some, denied = twin.items[:20], twin.items[4:8]
    got = engine.recommend(
        10**9, 40, filter=kept, where=rec.where(price__lt=10), allow=some, deny=denied
    )
    want = twin.recommend(10**9, 40, allow=[item for item in some if is_cheap(item)], deny=denied)
    assert_same(got, want)
    assert (got.ordinals >= 0).any()


def test_attributes_that_change_are_judged_anew(rng):
    engine, twin = make_pair(rng, {POPULARITY: 1.0})
    kept = engine.filter(where=CHEAP)
    cheap = [item for item in twin.items if is_cheap(item)]
    dear = [item for item in twin.items if item % 5 and not is_cheap(item)]
    changed = {"item_id": [cheap[0], dear[0]], "category": ["x", "x"], "price": [11, 9]}
    engine.add_items([cheap[0], dear[0]], items=changed)
    got = engine.recommend(10**9, 40, filter=kept)
    assert_same(got, twin.recommend(10**9, 40, allow=[*cheap[1:], dear[0]]))


def test_a_filter_that_nothing_passes_gives_padding(rng):
    engine, _ = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    kept = engine.filter(allow=[])
    assert kept.n_items == 0
    for got in (engine.recommend(100, 3, filter=kept), engine.recommend(10**9, 3, filter=kept)):
        assert got.ids.tolist() == [-1, -1, -1]


def test_a_filter_keeps_the_ids_it_was_given(rng):
    engine, twin = make_pair(rng, {POPULARITY: 1.0})
    ids = np.array(twin.items[:3])
    kept = engine.filter(allow=ids)
    ids[:] = twin.items[5]
    engine.remove_items(twin.items[7:8])
    got = engine.recommend(10**9, 5, filter=kept)
    assert sorted(got.ids[got.ordinals >= 0].tolist()) == sorted(twin.items[:3])


def test_requests_and_events_work_a_filter_out_once(rng, monkeypatch):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    calls = []
    real = Catalogue.matching
    monkeypatch.setattr(
        Catalogue, "matching", lambda self, where: calls.append(1) or real(self, where)
    )
    kept = engine.filter(where=CHEAP)
    for user in twin.users:
        engine.recommend(user, 3, filter=kept)
        engine.observe(user, twin.items[0])
    assert len(calls) == 1
    engine.remove_items(twin.items[:1])
    engine.recommend(100, 3, filter=kept)
    engine.recommend(100, 3, filter=kept)
    assert len(calls) == 2


def test_a_filter_does_not_keep_old_states(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    kept = engine.filter(where=CHEAP)
    engine.recommend(100, 3, filter=kept)
    old = weakref.ref(engine._state.catalogue), weakref.ref(engine._state.content.index)
    engine.remove_items(twin.items[:1])
    gc.collect()
    assert [one() for one in old] == [None, None]
    assert engine.recommend(100, 3, filter=kept).ids.tolist()


def test_threads_share_a_filter_while_items_come_and_go(rng):
    engine, _ = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    kept = engine.filter(where=CHEAP)
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            got = engine.recommend(100, 20, filter=kept)
            ids = got.ids[got.ordinals >= 0].tolist()
            wrong.extend(item for item in ids if not is_cheap(item))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(60):
        new = [1000 + step]
        engine.add_items(new, vectors=np.ones((1, 6), np.float32), items=attributes(new))
        if step % 3 == 0:
            engine.remove_items(new)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    alive = [item for item in engine.item_ids.tolist() if is_cheap(item)]
    assert kept.n_items == len(alive)


def test_filters_of_str_ids(rng):
    inter = make_inter(rng, strings=True)
    engine = rec.Engine.build(inter)
    kept = engine.filter(allow=["i003", "i004", "nothing"], deny=["i004"])
    got = engine.recommend("u000", 3, exclude_seen=False, filter=kept).ids
    assert got.tolist() == ["i003", None, None]
    assert repr(kept) == "ItemFilter(allow=3 ids, deny=1 ids)"


def test_filters_refuse(rng):
    engine, _ = make_pair(rng, {CONTENT: 1.0})
    other, _ = make_pair(rng, {CONTENT: 1.0})
    with pytest.raises(ValueError, match="filter must be given allow, deny or where"):
        engine.filter()
    with pytest.raises(ValueError, match=r"where must name columns .* got 'colour'"):
        engine.filter(where=rec.where(colour="red"))
    with pytest.raises(TypeError, match="allow must be integers, as the engine's ids are"):
        engine.filter(allow=["a"])
    with pytest.raises(TypeError, match=r"where must be made by recengine\.where, got dict"):
        engine.filter(where={"price": 3})
    kept = engine.filter(where=CHEAP)
    with pytest.raises(ValueError, match="must come from the engine that is asked, got another's"):
        other.recommend(100, filter=kept)
    flat = rec.FlatIndex(np.eye(3, dtype=np.float32)).filter(allow=[1])
    for call in (engine.recommend, engine.recommend_for, engine.similar_items):
        with pytest.raises(TypeError, match="must be an ItemFilter of this engine, got Filter"):
            call([], filter=flat)
