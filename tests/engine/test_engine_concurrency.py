"""Readers beside a writer, forked children, deadlines: never a torn answer, never a hang."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path

import numpy as np
import oracles
import pytest

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MIXTURES, MODEL, POPULARITY, make_pair

N_READERS = 3


def script(items, vectors):
    """Return changes, each a function of an engine, that a writer makes one after the other."""
    steps = []
    for number in range(30):
        user, item = 10**6 + number % 4, items[number % len(items)]
        new = 5000 + number
        steps += [
            lambda e, u=user, i=item: e.observe(u, i),
            lambda e, n=new, v=vectors[number : number + 1]: e.add_items([n], vectors=v),
            lambda e, u=user, n=new: e.observe(u, n, 2.0),
            lambda e, n=new: e.remove_items([n]),
        ]
    return steps


def ask(engine, users):
    """Return one answer about many users as bytes: ids and scores come from one state or not."""
    got = engine.recommend(users, 12, exclude_seen=False)
    return got.ids.tobytes() + got.scores.tobytes()


@pytest.mark.parametrize("weights", [MIXTURES[1], MIXTURES[4]], ids=["content", "all"])
def test_readers_beside_a_writer_see_states_of_the_serial_order(rng, tmp_path, weights):
    engine, twin = make_pair(rng, weights)
    engine.save(tmp_path / "start.rec")
    steps = script(twin.items, rng.standard_normal((30, 6)).astype(np.float32))
    users = [*list(twin.users)[:3], *range(10**6, 10**6 + 4)]
    serial = rec.Engine.load(tmp_path / "start.rec")
    expected = [ask(serial, users)]
    for step in steps:
        step(serial)
        expected.append(ask(serial, users))
    start = threading.Barrier(N_READERS + 1)
    done, answers, failures = threading.Event(), [[] for _ in range(N_READERS)], []

    def read(mine):
        try:
            start.wait()
            while not done.is_set():
                mine.append(ask(engine, users))
            mine.append(ask(engine, users))
        except BaseException as error:  # what a thread raises would be lost
            failures.append(error)

    threads = [threading.Thread(target=read, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    start.wait()
    for step in steps:
        step(engine)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    for mine in answers:
        position = 0
        for answer in mine:  # each reader sees the states in their order, and none that never was
            position = expected.index(answer, position)
        assert mine[-1] == expected[-1]


def test_writers_wait_for_each_other(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    start, failures = threading.Barrier(4), []
    items = twin.items[:10]

    def write(number):
        try:
            start.wait()
            for item in items:
                engine.observe(10**6 + number, item)
                engine.observe(10**7, item)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for number in range(4):
        assert sorted(engine.history(10**6 + number)[0].tolist()) == sorted(items)
    assert engine.history(10**7)[1].tolist() == [4.0] * len(items)


def test_an_answer_stays_as_it_was_given(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    users = list(twin.users)
    answer = engine.recommend(users, 8)
    ids, scores = answer.ids.copy(), answer.scores.copy()
    for item in twin.items[:5]:
        engine.observe(users[0], item)
    engine.remove_items(twin.items[:5])
    assert (answer.ids == ids).all()
    oracles.assert_same_bits(answer.scores, scores)
    answer.ids[:], answer.scores[:] = -7, 0
    assert -7 not in engine.recommend(users, 8).ids
    history, weights = engine.history(users[0])
    history[:], weights[:] = -7, -7
    assert -7 not in engine.history(users[0])[0]


def _child(engine, users, item, queue):
    engine.observe(10**8, item)
    engine.remove_items([item])
    engine.add_items([31337], vectors=np.ones((1, 6), np.float32))
    queue.put((engine.recommend(users, 5).ids.tolist(), 31337 in engine))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_and_changes_its_own_copy(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    users = list(twin.users)
    before = engine.recommend(users, 5)
    held = threading.Event()
    release = threading.Event()

    def hold():
        with engine._writer:  # a writer in the middle of a change when the fork happens
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(engine, users, twin.items[0], queue))
    try:
        child.start()
        ids, added = queue.get(timeout=20)
        child.join(20)
    finally:
        release.set()
        holder.join()
        child.kill()
    assert child.exitcode == 0
    assert added
    assert all(twin.items[0] not in row for row in ids)
    assert 31337 not in engine
    oracles.assert_same_topk(engine.recommend(users, 5), before)


@pytest.fixture(scope="module")
def large():
    """Return an engine whose search takes some milliseconds."""
    rng = np.random.default_rng(1)
    items = np.arange(60_000)
    inter = rec.Interactions.from_arrays(items % 50, items)
    content = rng.standard_normal((len(items), 64)).astype(np.float32)
    return rec.Engine.build(inter, content=content)


def test_a_timeout_gives_a_partial_answer(large):
    users = np.arange(50)
    whole = large.recommend(users, 5)
    assert whole.partial is False
    cut = large.recommend(users, 5, timeout=1e-6)
    assert cut.partial is True
    assert cut.ids.shape == (50, 5)
    found = cut.ids >= 0
    assert (cut.scores[~found] == -np.inf).all()
    for row, user in enumerate(users):
        seen = set(large.history(user)[0].tolist())
        assert not seen & set(cut.ids[row].tolist())
    unhurried = large.recommend(users, 5, timeout=600)
    assert unhurried.partial is False
    oracles.assert_same_topk(unhurried, whole)


def test_a_timeout_cuts_fusion_short(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5}, n_items=300, n_events=900)
    users = list(twin.users)
    cut = engine.recommend(users, 5, timeout=1e-9)
    assert cut.partial is True
    assert set(cut.ids.ravel().tolist()) <= {-1, *twin.items}
    oracles.assert_same_topk(engine.recommend(users, 5, timeout=600), engine.recommend(users, 5))


def test_a_stage_without_partial_answers_raises(large):
    with pytest.raises(rec.DeadlineError, match="timeout ran out before ranking"):
        large.rank(1, np.arange(1000), timeout=1e-9)
    assert large.rank(1, np.arange(10), timeout=600).partial is False


def test_the_trace_counts_every_stage(rng):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    user = next(iter(twin.users))
    assert engine.recommend(user).trace is None
    trace = engine.recommend([user, 10**9], 5, trace=True).trace
    stages = {stage["stage"]: stage for stage in trace["stages"]}
    assert list(stages) == ["users", MODEL, CONTENT, "fuse", POPULARITY]
    assert (stages["users"]["users"], stages["users"]["known"]) == (2, 1)
    assert stages[MODEL]["items"] == len(twin.items)
    assert stages[MODEL]["excluded"] == len(twin.users[user])
    assert stages[POPULARITY]["found"] == 5
    assert 0 < sum(stage["ms"] for stage in trace["stages"]) <= trace["ms"]
    names = [
        stage["stage"] for stage in engine.recommend_for(twin.items[:2], trace=True).trace["stages"]
    ]
    assert names == ["fold_in", "users", MODEL, CONTENT, "fuse"]
    names = [stage["stage"] for stage in engine.rank(user, twin.items, trace=True).trace["stages"]]
    assert names == ["users", "rank"]
    names = [stage["stage"] for stage in engine.similar_items(1, trace=True).trace["stages"]]
    assert names == [MODEL]
