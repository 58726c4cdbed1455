"""Items learn from events, and readers see them all old or all new."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import oracles
import pytest
from scipy.sparse import csr_array

import recengine as rec
from recengine.engine.sources import ModelSource

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MODEL, POPULARITY, assert_agree, make_inter, make_model, make_pair

WEIGHTS = [{MODEL: 1.0}, {MODEL: 1.0, CONTENT: 0.5, POPULARITY: 0.01}]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def known_items(engine, twin):
    """Let the twin take the engine's item factors, which `expected` has checked."""
    twin.model, twin.n_modelled = engine._state.model, engine._state.profiles.n_modelled


def expected(twin, touched):
    """Return the item factors of a twin after publication: everybody's factors of now decide."""
    model = copy.copy(twin.model)
    users = list(twin.users)
    dim = model.item_factors_.shape[1]
    table = np.zeros((len(users), dim), np.float32)
    for row, user in enumerate(users):
        if twin.factors.get(user) is not None:
            table[row] = twin.factors[user]
    arrays, meta = model.state()
    model = rec.ALS.from_state(arrays | {"user_factors": table}, meta)
    numbers = sorted(twin.items.index(item) for item in touched)
    numbers = sorted({*numbers, *range(twin.n_modelled, max([*numbers, -1]) + 1)})
    columns = np.zeros((len(users), len(numbers)), np.float32)
    for row, user in enumerate(users):
        for place, number in enumerate(numbers):
            columns[row, place] = twin.users[user].get(twin.items[number], 0.0)
    return model.partial_fit_items(numbers, csr_array(columns)).item_factors_


def observe(engine, twin, events):
    for user, item in events:
        engine.observe(user, item)
        twin.observe(user, item)


def publish(engine, twin, touched, users):
    want = expected(twin, touched)
    engine.publish_items()
    np.testing.assert_allclose(engine._state.model.item_factors_, want, **CLOSE)
    known_items(engine, twin)
    for user in users:
        twin.factors[user] = twin._folded(twin.users[user])


@pytest.mark.parametrize("weights", WEIGHTS, ids=["model", "all"])
@pytest.mark.parametrize("strings", [False, True])
def test_published_items_are_solved_against_everybody(rng, weights, strings):
    engine, twin = make_pair(rng, weights, strings=strings, n_items=30, n_events=150)
    users = list(twin.users)
    nobody = ["nobody", "noone"] if strings else [10**9, 10**9 + 1]
    for round_ in range(3):
        items = [twin.items[n] for n in rng.choice(len(twin.items), 4, replace=False)]
        events = [(users[0], items[0]), (nobody[0], items[1]), (nobody[round_ % 2], items[2])]
        events += [(users[3], items[0]), (users[3], items[3])]
        observe(engine, twin, events)
        before = engine._state.model.item_factors_
        publish(engine, twin, set(items), {user for user, _ in events})
        assert_agree(engine, twin, k=40)
        rest = [n for n, item in enumerate(twin.items) if item not in items]
        np.testing.assert_array_equal(engine._state.model.item_factors_[rest], before[rest])


def test_the_number_of_solved_items_is_returned(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    assert engine.publish_items() == 0
    state = engine._state
    assert engine.publish_items() == 0
    assert engine._state is state
    for item in (*twin.items[:3], twin.items[0]):
        engine.observe(10**9, item)
    assert engine.publish_items() == 3
    assert engine.publish_items() == 0


def test_new_items_get_factors_once_they_were_observed(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    vectors = rng.standard_normal((3, 6)).astype(np.float32)
    engine.add_items([901, 902, 903], vectors=vectors)
    twin.add([901, 902, 903], vectors)
    users = list(twin.users)
    observe(engine, twin, [(users[0], 903), (users[1], 903), (10**9, 903)])
    with pytest.raises(rec.UnknownItemError, match="must have a vector in model, got 903"):
        engine.similar_items(903, source=MODEL)
    publish(engine, twin, {903}, {users[0], users[1], 10**9})
    assert_agree(engine, twin, k=40)
    assert 903 not in engine.similar_items(903, 5, source=MODEL).ids
    for other in (901, 902):  # nobody had them: still nothing is known
        with pytest.raises(rec.UnknownItemError, match="must have a vector in model"):
            engine.similar_items(other, source=MODEL)
    observe(engine, twin, [(users[2], 901)])
    publish(engine, twin, {901}, {users[2]})
    assert_agree(engine, twin, k=40)
    assert 901 in engine.similar_items(903, 40, source=MODEL).ids


def test_ties_stay_in_the_order_of_ordinals_whatever_came_first(rng):
    inter = make_inter(rng)
    engine = rec.Engine.build(inter, make_model(rng, inter), weights={MODEL: 1.0})
    users = inter.users.ids
    engine.add_items([901, 902, 903])
    for item in (903, 901):  # equal histories: equal factors
        engine.observe(users[0], item)
        engine.publish_items()
    found = engine.recommend(users[1], 40, exclude_seen=False)
    factors = engine._state.model.item_factors_
    scores = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
    want = oracles.scores("dot", engine._state.profiles.get(int(users[1])).factors[None], factors)
    for number, item in enumerate([*inter.items.ids.tolist(), 901, 902, 903]):
        if item != 902:
            assert scores[item] == want[0, number]
    assert 902 not in scores
    order = sorted((-score, n) for n, score in enumerate(want[0].tolist()) if factors[n].any())
    assert found.ordinals[: len(order)].tolist() == [n for _, n in order]


def test_removed_items_stay_removed_and_return_with_their_new_factors(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0}, n_items=30, n_events=150)
    users = list(twin.users)
    item = twin.items[3]
    observe(engine, twin, [(users[0], item), (users[1], item)])
    engine.remove_items([item])
    twin.remove([item])
    publish(engine, twin, {item}, users[:2])
    assert_agree(engine, twin, k=40)
    engine.add_items([item])
    twin.add([item], [None])
    assert_agree(engine, twin, k=40)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["model", "all"])
def test_a_published_engine_is_saved_and_opened_with_the_same_answers(rng, tmp_path, weights):
    engine, twin = make_pair(rng, weights)
    vectors = None if len(weights) == 1 else rng.standard_normal((2, 6)).astype(np.float32)
    engine.add_items([901, 902], vectors=vectors)
    for user, item in [(10**9, 902), (10**9, twin.items[2]), (10**9 + 1, 901)]:
        engine.observe(user, item)
    engine.publish_items()
    engine.save(tmp_path / "engine.rec")
    again = rec.Engine.load(tmp_path / "engine.rec")
    users = [*twin.users, 10**9, 10**9 + 1]
    oracles.assert_same_topk(again.recommend(users, 30), engine.recommend(users, 30))
    again.observe(10**9, twin.items[5])
    engine.observe(10**9, twin.items[5])
    oracles.assert_same_topk(again.recommend(users, 30), engine.recommend(users, 30))
    assert again.publish_items() == engine.publish_items()
    np.testing.assert_allclose(
        again._state.model.item_factors_, engine._state.model.item_factors_, **CLOSE
    )


def test_a_loaded_engine_still_solves_new_items_that_were_not_published(rng, tmp_path):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    engine.add_items([901])
    engine.observe(next(iter(twin.users)), 901)
    engine.save(tmp_path / "engine.rec")
    again = rec.Engine.load(tmp_path / "engine.rec")
    assert again.publish_items() == 1
    assert again.similar_items(901, 3, source=MODEL).ids[0] in twin.items


def test_publish_every_counts_events_and_is_pickled(rng, tmp_path):
    inter = make_inter(rng)
    engine = rec.Engine.build(inter, make_model(rng, inter), publish_every=3)
    items = inter.items.ids.tolist()
    engine.save(tmp_path / "engine.rec")
    for one in (
        engine,
        rec.Engine.load(tmp_path / "engine.rec", publish_every=3),
        pickle.loads(pickle.dumps(engine)),
    ):
        model = one._state.model
        one.observe(10**9, items[0])
        one.observe(10**9, items[0])
        assert one._state.model is model
        one.observe(10**9, items[1])
        moved = one._state.model.item_factors_ != model.item_factors_
        assert np.flatnonzero(moved.any(axis=1)).tolist() == [0, 1]
        assert one.publish_items() == 0


def test_publishing_refuses_what_cannot_learn(rng):
    inter = make_inter(rng)
    popular = rec.Engine.build(inter)
    with pytest.raises(ValueError, match="publish_items needs a model: build the engine with"):
        popular.publish_items()
    with pytest.raises(ValueError, match="publish_every needs a model"):
        rec.Engine.build(inter, publish_every=10)
    with pytest.raises(ValueError, match="publish_every must be >= 1, got 0"):
        rec.Engine.build(inter, make_model(rng, inter), publish_every=0)

    class Fixed:
        def __init__(self, model):
            self.user_factors_, self.item_factors_ = model.user_factors_, model.item_factors_
            self.fold_in, self.state = model.fold_in, model.state

    fixed = rec.Engine.build(inter, Fixed(make_model(rng, inter)))
    with pytest.raises(ValueError, match="solves items anew, such as ALS, got Fixed"):
        fixed.publish_items()


def test_a_publication_that_fails_changes_nothing_and_loses_no_event(rng, monkeypatch):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    engine.observe(10**9, twin.items[0])
    state = engine._state

    def fail(self, item_indices, columns):
        engine.observe(10**9, twin.items[1])  # meanwhile
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(rec.ALS, "partial_fit_items", fail)
        with pytest.raises(ValueError, match="no"):
            engine.publish_items()
    assert engine._state.model is state.model
    assert engine.publish_items() == 2


def test_what_happens_meanwhile_is_kept(rng, monkeypatch):
    engine, twin = make_pair(rng, {MODEL: 1.0}, n_items=30, n_events=150)
    users, items = list(twin.users), twin.items
    observe(engine, twin, [(users[0], items[0]), (users[1], items[1])])
    want, solve = expected(twin, {items[0], items[1]}), rec.ALS.partial_fit_items

    def meanwhile(self, item_indices, columns):
        observe(engine, twin, [(users[1], items[2]), (10**9, items[0])])
        engine.remove_items([items[7]])
        twin.remove([items[7]])
        return solve(self, item_indices, columns)

    with monkeypatch.context() as patch:
        patch.setattr(rec.ALS, "partial_fit_items", meanwhile)
        assert engine.publish_items() == 2
    np.testing.assert_allclose(engine._state.model.item_factors_, want, **CLOSE)
    known_items(engine, twin)
    for user in users[:2]:
        twin.factors[user] = twin._folded(twin.users[user])
    assert_agree(engine, twin, k=40)
    publish(engine, twin, {items[0], items[2]}, [users[1], 10**9])
    assert_agree(engine, twin, k=40)


def test_readers_see_all_items_old_or_all_new(rng, tmp_path):
    engine, twin = make_pair(rng, {MODEL: 1.0}, n_items=40, n_events=200)
    engine.save(tmp_path / "engine.rec")
    serial, users = rec.Engine.load(tmp_path / "engine.rec"), list(twin.users)
    rounds = [
        [(int(users[u]), twin.items[i]) for u, i in rng.integers(0, [len(users), 40], (8, 2))]
        for _ in range(12)
    ]

    def ask(one):
        got = one.recommend(users, 20, exclude_seen=False)
        return got.ids.tobytes() + got.scores.tobytes()

    moments = [ask(serial)]
    for events in rounds:
        for event in events:
            serial.observe(*event)
            moments.append(ask(serial))
        serial.publish_items()
        moments.append(ask(serial))
    start, done = threading.Barrier(3), threading.Event()
    seen, failures = [[], []], []

    def read(mine):
        try:
            start.wait()
            while not done.is_set():
                mine.append(ask(engine))
        except BaseException as error:  # what a thread raises would be lost
            failures.append(error)

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    start.wait()
    for events in rounds:
        for event in events:
            engine.observe(*event)
        engine.publish_items()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    for mine in seen:
        position = 0
        for answer in mine:  # the states in their order, and none that never was
            position = moments.index(answer, position)
    assert ask(engine) == moments[-1]


def test_many_changed_rows_give_the_source_of_all(rng):
    factors = rng.integers(-2, 3, (40, 4)).astype(np.float32)
    source = ModelSource.of(1.0, factors, np.array([5]))
    for n in (3, 30):
        changed = factors.copy()
        rows = np.sort(rng.choice(40, n, replace=False))
        changed[rows] = rng.integers(-2, 3, (n, 4))
        changed = np.concatenate((changed, [[0, 0, 0, 0], [1, 0, 2, 0]])).astype(np.float32)
        got = source.having(changed, np.concatenate((rows, [40, 41])), np.array([5]))
        want = ModelSource.of(1.0, changed, np.array([5]))
        assert got.n_rows == want.n_rows == 42
        for one, other in ((got.index, want.index), (got.similar, want.similar)):
            assert sorted(one.ids.tolist()) == sorted(other.ids.tolist())
            queries = rng.integers(-2, 3, (6, 4)).astype(np.float32)
            oracles.assert_same_topk(one.search(queries, 45), other.search(queries, 45))
        assert source.n_rows == 40
        assert len(source.index) == 39 - (~factors.any(axis=1)).sum()
