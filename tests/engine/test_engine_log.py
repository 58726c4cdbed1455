"""An engine with a log: whatever returned is there after a restart, once, with the same bits."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.storage import log_opening, log_writer

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MIXTURES, MODEL, assert_agree, make_inter, make_model, make_pair


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Spare the disk: no power fails here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_writer, "flush", lambda _: None)
        patch.setattr(log_opening, "flush", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


def answers(engine, users):
    """Return everything that a change can change, as bytes and lists."""
    found = [engine.recommend(users, 30, exclude_seen=False), engine.recommend(users, 7)]
    histories = [
        [part.tolist() for part in engine.history(user)]
        for user in users
        if user in engine.user_ids.tolist()
    ]
    rankings = [(got.ids.tolist(), got.scores.tobytes(), got.ordinals.tolist()) for got in found]
    columns = engine.item_attributes(engine.item_ids) if engine.n_items else {}
    shown = {name: column.tolist() for name, column in columns.items()}
    return rankings, histories, engine.item_ids.tolist(), repr(shown)


def script(rng, twin, n=40, *, strings=False):
    """Return changes of every kind, each a function of an engine."""
    steps, items, gone, fresh = [], list(twin.items), [], 0
    users = [*list(twin.users)[:4], *(["w1", "w2"] if strings else [10**9, 10**9 + 1])]
    content = twin.content is not None
    for _ in range(n):
        kind = rng.choice(["observe"] * 6 + ["add", "renew", "remove", "revive"])
        if kind == "observe" or (kind == "revive" and not gone):
            user, item = users[rng.integers(len(users))], items[rng.integers(len(items))]
            weight = float(rng.random() * 10)
            steps.append(lambda e, u=user, i=item, w=weight: e.observe(u, i, w))
            continue
        if kind == "remove":
            gone.append(items.pop(rng.integers(len(items))))
            steps.append(lambda e, i=gone[-1]: e.remove_items([i, i]))
            continue
        if kind == "add":
            fresh += 1
            ids = [f"new{fresh}", f"é{fresh}"] if strings else [5000 + fresh, -5000 - fresh]
        else:
            ids = [gone.pop()] if kind == "revive" else [items[rng.integers(len(items))]]
        items = list(dict.fromkeys([*items, *ids]))
        options = {"vectors": rng.standard_normal((len(ids), 6))} if content else {}
        if rng.random() < 0.5:
            frame = {"item_id": ids, "year": rng.integers(1900, 2000, len(ids))}
            options["items"] = frame | {"title": [None, "ü"][: len(ids)]}
        steps.append(lambda e, i=ids, o=options: e.add_items(i, **o))
    return steps, users


@pytest.mark.parametrize("weights", MIXTURES, ids=["+".join(mixture) for mixture in MIXTURES])
@pytest.mark.parametrize("strings", [False, True])
def test_a_restart_makes_the_same_engine(rng, tmp_path, weights, strings):
    engine, twin = make_pair(rng, weights, strings=strings)
    steps, users = script(rng, twin, strings=strings)
    engine.save(tmp_path / "start.rec")
    plain = rec.Engine.load(tmp_path / "start.rec")
    for number, step in enumerate(steps):
        if number % 10 == 0:  # the process ends, and another begins
            if number == 20:
                assert logged.save(tmp_path / "start.rec") == 20  # noqa: F821
            if number:
                log.close()  # noqa: F821
            log = rec.EventLog(tmp_path / "log", segment_bytes=4096)
            logged = rec.Engine.load(tmp_path / "start.rec", log=log)
            assert answers(logged, users) == answers(plain, users)
        step(logged)
        step(plain)
        assert log.sequence == number + 1
    log.close()
    with rec.EventLog(tmp_path / "log") as log:
        again = rec.Engine.load(tmp_path / "start.rec", log=log)
        assert answers(again, users) == answers(plain, users)
        assert again.recommend(users, 30).ids.tolist() == plain.recommend(users, 30).ids.tolist()


@pytest.mark.parametrize("pooling", ["attention", "interests"])
def test_the_order_of_a_history_survives_a_restart(rng, tmp_path, pooling):
    inter = make_inter(rng)
    content = rng.standard_normal((len(inter.items), 6))
    users, items = inter.users.ids.tolist()[:3], inter.items.ids.tolist()
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, content=content, pooling=pooling, log=log)
        for number in range(12):
            if number == 5:
                engine.save(tmp_path / "shop.rec")
            engine.observe(users[number % 3], items[number * 5 % len(items)], number + 1.0)
        want = answers(engine, users)
        assert answers(rec.Engine.load(tmp_path / "shop.rec", log=log), users) == want
        again = rec.Engine.build(inter, content=content, pooling=pooling, log=log)
        assert answers(again, users) == want


def test_an_engine_that_was_never_saved_is_built_anew_with_its_log(rng, tmp_path):
    inter = make_inter(rng)
    model = make_model(rng, inter)
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, model, log=log)
        engine.observe(7, int(inter.items.ids[2]), 2.5)
        engine.observe(7, int(inter.items.ids[2]), 1.0)
        before = answers(engine, [7])
        events = list(log.replay())
    assert [event[:4] for event in events] == [
        (1, 7, inter.items.ids[2], 2.5),
        (2, 7, inter.items.ids[2], 1.0),
    ]
    assert all(event.timestamp > 1.7e9 for event in events)
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, model, log=log)
        assert answers(engine, [7]) == before
        assert engine.history(7)[1].tolist() == [3.5]


def test_training_on_logged_events_says_how_far(rng, tmp_path):
    with rec.EventLog(tmp_path / "log") as log:
        log.append_many([1, 1, 2], [10, 11, 10])
        log.append(2, 11, 4.0)
        known = [event for event in log.replay() if event.sequence <= 3]
        inter = rec.Interactions.from_arrays(
            [event.user_id for event in known], [event.item_id for event in known]
        )
        engine = rec.Engine.build(inter, log=log, after=3)
        assert engine.history(2)[1].tolist() == [1.0, 4.0]
        assert engine.history(1)[1].tolist() == [1.0, 1.0]
        engine.save(tmp_path / "shop.rec")
    with rec.EventLog(tmp_path / "log") as log:
        assert rec.Engine.load(tmp_path / "shop.rec", log=log).history(2)[1].tolist() == [1.0, 4.0]


def test_a_saved_engine_lets_go_of_its_log(rng, tmp_path):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    engine.save(tmp_path / "shop.rec")
    with rec.EventLog(tmp_path / "log", segment_bytes=4096) as log:
        engine = rec.Engine.load(tmp_path / "shop.rec", log=log)
        for number in range(300):
            engine.observe(number % 9, twin.items[number % 11])
            twin.observe(number % 9, twin.items[number % 11])
        shutil.copy(tmp_path / "shop.rec", tmp_path / "old.rec")
        saved = engine.save(tmp_path / "shop.rec")
        assert saved == 300
        log.truncate(before=saved)
        assert len(list((tmp_path / "log").glob("*.log"))) == 1
        engine.observe(10**9, twin.items[0])
        twin.observe(10**9, twin.items[0])
    with rec.EventLog(tmp_path / "log") as log:
        assert_agree(rec.Engine.load(tmp_path / "shop.rec", log=log), twin)
        with pytest.raises(rec.LogError, match="must hold the records after 0, got"):
            rec.Engine.load(tmp_path / "old.rec", log=log)


def test_another_log_or_a_shorter_one_is_refused(rng, tmp_path):
    inter = make_inter(rng)
    item = inter.items.ids[0]
    with rec.EventLog(tmp_path / "a") as log:
        shutil.copytree(tmp_path / "a", tmp_path / "early")
        engine = rec.Engine.build(inter, log=log)
        engine.observe(1, item)
        engine.save(tmp_path / "shop.rec")
        name = log.id
    load = rec.Engine.load
    with rec.EventLog(tmp_path / "b") as other:
        with pytest.raises(ValueError, match=f"log must be {name}, whose .*, got {other.id}"):
            load(tmp_path / "shop.rec", log=other)
        moved = load(tmp_path / "shop.rec", log=other, after=0)
        moved.observe(1, item)
        assert moved.save(tmp_path / "moved.rec") == 1
        assert load(tmp_path / "moved.rec", log=other).history(1)[1].tolist() == [2.0]
        for after, message in ((2, "after must be <= 1, got 2"), (-1, "after must be >= 0")):
            with pytest.raises(ValueError, match=message):
                load(tmp_path / "shop.rec", log=other, after=after)
    shorter = pytest.raises(ValueError, match="log must reach record 1, which this engine")
    with rec.EventLog(tmp_path / "early") as log, shorter:
        load(tmp_path / "shop.rec", log=log)
    with pytest.raises(ValueError, match="after must be None without a log, got 1"):
        load(tmp_path / "shop.rec", after=1)
    with pytest.raises(ValueError, match="after must be None without a log, got 0"):
        rec.Engine.build(inter, after=0)
    with pytest.raises(TypeError, match="log must be an EventLog, got PosixPath"):
        rec.Engine.build(inter, log=tmp_path / "a")


def test_an_event_of_an_unknown_item_stops_the_load_until_the_item_is_there(rng, tmp_path):
    inter = make_inter(rng)
    rec.Engine.build(inter).save(tmp_path / "shop.rec")
    with rec.EventLog(tmp_path / "log") as log:
        log.append(1, int(inter.items.ids[0]))
        log.append(1, 777)  # not by an engine: that would have refused it
        with pytest.raises(
            rec.UnknownItemError, match=r"record 2 of the log must be .+, got 777: l"
        ):
            rec.Engine.load(tmp_path / "shop.rec", log=log)
        engine = rec.Engine.load(tmp_path / "shop.rec")
        engine.add_items([777])
        engine.save(tmp_path / "shop.rec")
        engine = rec.Engine.load(tmp_path / "shop.rec", log=log)
        assert engine.history(1)[0].tolist() == [inter.items.ids[0], 777]
        log.append(1, 777, -1.0)
        with pytest.raises(ValueError, match="weight of record 3 of the log must be > 0, got -1"):
            rec.Engine.load(tmp_path / "shop.rec", log=log)


def test_a_change_that_no_engine_writes_is_refused(rng, tmp_path):
    from recengine.storage import change_payload

    with rec.EventLog(tmp_path / "log") as log:
        log.writer.write([change_payload("moon phase", {})])
        with pytest.raises(rec.LogError, match="record 1 must be a change of items, got 'moon ph"):
            rec.Engine.build(make_inter(rng), log=log)


def test_texts_are_logged_as_the_vectors_they_became(rng, tmp_path):
    class Words:
        """An encoder that counts how often it is asked."""

        dim, digest, reference = 2, "words", None
        n_asked = 0

        def encode(self, texts, *_args, **_options):
            self.n_asked += 1
            return np.array([[len(text), 1.0] for text in texts], np.float32)

        def encode_query(self, text, *_args, **_options):
            return self.encode([text])[0]

    inter = make_inter(rng)
    content = rng.standard_normal((len(inter.items), 2)).astype(np.float32)
    words = Words()
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, content=content, encoder=words, log=log)
        engine.add_items([900, 901], texts=["a", "long"])
        before = engine.recommend(inter.users.ids, 30, exclude_seen=False)
        again = rec.Engine.build(inter, content=content, encoder=words, log=log)
        oracles.assert_same_topk(again.recommend(inter.users.ids, 30, exclude_seen=False), before)
    assert words.n_asked == 1


# --- threads --------------------------------------------------------------------------------------


def test_the_order_of_the_log_is_the_order_applied(rng, tmp_path):
    engine, twin = make_pair(rng, {MODEL: 1.0, CONTENT: 0.5})
    engine.save(tmp_path / "start.rec")
    n_threads, n_each = 6, 40
    weights = rng.random((n_threads, n_each)) * 1e3  # sums in another order have other bits
    with rec.EventLog(tmp_path / "log", segment_bytes=4096) as log:
        engine = rec.Engine.load(tmp_path / "start.rec", log=log)
        start, failures = threading.Barrier(n_threads), []

        def write(number):
            try:
                start.wait()
                for turn in range(n_each):
                    item = twin.items[turn % 5]
                    engine.observe(5, item, weights[number, turn])
                    assert item in engine.history(5)[0].tolist()
                    if number == 0 and turn % 10 == 0:
                        engine.add_items([900 + turn], vectors=np.full((1, 6), turn + 1.0))
                    if number == 1 and turn % 10 == 5:
                        engine.save(tmp_path / "middle.rec")
            except BaseException as error:  # what a thread raises would be lost
                failures.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        events = list(log.replay())
        assert len(events) == n_threads * n_each
        serial = rec.Engine.load(tmp_path / "start.rec")
        for event in events:
            serial.observe(*event[1:4])
        assert engine.history(5)[1].tobytes() == serial.history(5)[1].tobytes()
        want = answers(engine, [5])
        for name in ("start.rec", "middle.rec"):
            assert answers(rec.Engine.load(tmp_path / name, log=log), [5]) == want


def test_a_change_is_seen_only_when_it_is_safe(rng, tmp_path, monkeypatch):
    engine, twin = make_pair(rng, {MODEL: 1.0})
    item, flushing, go = twin.items[0], threading.Event(), threading.Event()
    with rec.EventLog(tmp_path / "log") as log:
        engine._follow(log, None)

        def slow(_):
            flushing.set()
            assert go.wait(30)

        monkeypatch.setattr(log_writer, "flush", slow)
        thread = threading.Thread(target=engine.observe, args=(10**9, item))
        thread.start()
        assert flushing.wait(30)
        assert 10**9 not in engine.user_ids.tolist()
        go.set()
        thread.join()
        assert 10**9 in engine.user_ids.tolist()
        monkeypatch.undo()


def test_a_state_that_is_safe_later_does_not_undo_the_next(rng, tmp_path, monkeypatch):
    inter = make_inter(rng)
    item, go = inter.items.ids[0], threading.Event()
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, log=log)
        monkeypatch.setattr(log.writer, "wait", lambda number: number > 1 or go.wait(30))
        thread = threading.Thread(target=engine.observe, args=(1, item))
        thread.start()
        while log.sequence < 1:
            time.sleep(0.001)
        engine.observe(2, item)
        assert engine.history(1)[0].tolist() == engine.history(2)[0].tolist() == [item]
        go.set()
        thread.join()
        assert engine.history(2)[0].tolist() == [item]


def test_a_log_that_fails_changes_nothing(rng, tmp_path, monkeypatch):
    inter = make_inter(rng)
    item = int(inter.items.ids[0])
    log = rec.EventLog(tmp_path / "log")
    engine = rec.Engine.build(inter, log=log)
    engine.observe(1, item)
    state = engine._state

    def full(file, data):
        file.write(data[:5])
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_writer, "_write_all", full)
        for change in (
            lambda: engine.observe(2, item),
            lambda: engine.add_items([900]),
            lambda: engine.remove_items([item]),
        ):
            with pytest.raises(OSError, match="no space left"):
                change()
    assert engine._state is state
    engine.observe(3, item)  # there is room again
    assert [event.user_id for event in log.replay()] == [1, 3]
    state = engine._state

    def broken(_):
        raise OSError(errno.EIO, "i/o error")

    with monkeypatch.context() as patch:
        patch.setattr(log_writer, "flush", broken)
        with pytest.raises(OSError, match="i/o error"):
            engine.observe(4, item)
    with pytest.raises(OSError, match="i/o error"):
        engine.observe(5, item)
    assert engine._state is state
    assert engine.recommend(3, 2).ids.shape == (2,)
    assert engine.save(tmp_path / "shop.rec") == 2
    log.close()
    with rec.EventLog(tmp_path / "log") as log:
        again = rec.Engine.load(tmp_path / "shop.rec", log=log)
        assert {1, 3} <= set(again.user_ids.tolist()) <= {1, 3, 4, *inter.users.ids.tolist()}


def test_what_was_written_but_not_applied_is_caught_up(rng, tmp_path):
    """An interrupt may come between the two; the next change brings both."""
    inter = make_inter(rng)
    items = inter.items.ids.tolist()
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, log=log)
        engine.observe(1, items[0])
        log.append(1, items[1])
        engine.observe(1, items[2])
        assert engine.history(1)[0].tolist() == items[:3]
        assert rec.Engine.build(inter, log=log).history(1)[0].tolist() == items[:3]


def test_a_closed_log_leaves_an_engine_that_answers(rng, tmp_path):
    inter = make_inter(rng)
    with rec.EventLog(tmp_path / "log", sync="never") as log:
        engine = rec.Engine.build(inter, log=log)
        engine.observe(1, inter.items.ids[0])
    before = answers(engine, [1])
    for change in (lambda: engine.observe(1, inter.items.ids[0]), lambda: engine.add_items([900])):
        with pytest.raises(ValueError, match="must be open, but it was closed"):
            change()
    assert answers(engine, [1]) == before
    assert engine.save(tmp_path / "shop.rec") == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_may_only_read(rng, tmp_path):
    inter = make_inter(rng)
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, log=log)
        engine.observe(1, inter.items.ids[0])
        before = answers(engine, [1])
        child = os.fork()
        if child == 0:
            verdict = 1
            try:
                assert answers(engine, [1]) == before
                with pytest.raises(ValueError, match="belongs to the process that forked"):
                    engine.observe(1, inter.items.ids[0])
                verdict = 0
            finally:
                os._exit(verdict)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        engine.observe(1, inter.items.ids[0])
        assert engine.history(1)[1].tolist() == [2.0]
        assert log.sequence == 2


def test_an_engine_with_a_log_is_pickled_as_its_file(rng, tmp_path):
    engine, twin = make_pair(rng, {CONTENT: 1.0})
    with rec.EventLog(tmp_path / "log") as log:
        engine._follow(log, None)
        engine.observe(10**9, twin.items[0])
        twin.observe(10**9, twin.items[0])
        engine.save(tmp_path / "shop.rec")
        for one in (engine, rec.Engine.load(tmp_path / "shop.rec", log=log)):
            copy = pickle.loads(pickle.dumps(one))
            assert_agree(copy, twin)
            copy.observe(1, twin.items[0])  # its own
        assert log.sequence == 1
        engine.observe(1, twin.items[0])
        with pytest.raises(TypeError, match="save it first"):
            pickle.dumps(engine)


@settings(max_examples=15)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0.001, 1e4)), max_size=12
    ),
    cut=st.integers(0, 12),
)
def test_events_together_are_events_one_by_one(tmp_path_factory, events, cut):
    """Replay solves each user once; the bits are those of solving at each event."""
    base = tmp_path_factory.mktemp("engine")
    rng = np.random.default_rng(3)
    inter = make_inter(rng, n_users=3, n_items=4, n_events=9)
    model = make_model(rng, inter, factors=3)
    users, items = [*inter.users.ids.tolist(), 1, 2, 3, 4][:4], inter.items.ids.tolist()
    plain = rec.Engine.build(inter, model)
    with rec.EventLog(base / "log", sync="never") as log:
        logged = rec.Engine.build(inter, model, log=log)
        for number, (user, item, weight) in enumerate(events):
            if number == cut:
                logged.save(base / "cut.rec")
            for engine in (plain, logged):
                engine.observe(users[user], items[item % len(items)], weight)
        want = answers(plain, users)
        assert answers(rec.Engine.build(inter, model, log=log), users) == want
        if cut < len(events):
            assert answers(rec.Engine.load(base / "cut.rec", log=log), users) == want
