"""An engine with a log whose items learn: nothing observed is lost to either."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import oracles
import pytest

import recengine as rec
from recengine.storage import log_writer

sys.path.append(str(Path(__file__).parent))
from brute_force import make_inter, make_model


@pytest.fixture
def parts(rng):
    inter = make_inter(rng)
    return inter, make_model(rng, inter), inter.users.ids.tolist(), inter.items.ids.tolist()


def factors(engine):
    return engine._state.model.item_factors_


def test_what_was_published_and_saved_has_its_bits_after_a_restart(parts, tmp_path):
    inter, model, users, items = parts
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, model, log=log, publish_every=3)
        for number in range(8):
            engine.observe(users[number % 4], items[number], number + 1.0)
        engine.add_items([900])
        engine.observe(10**9, 900)
        assert not np.array_equal(factors(engine), model.item_factors_)
        assert engine.save(tmp_path / "shop.rec") == 10
        engine.observe(10**9, items[0])
        want = engine.recommend([*users, 10**9], 20)
    with rec.EventLog(tmp_path / "log") as log:
        again = rec.Engine.load(tmp_path / "shop.rec", log=log)
        oracles.assert_same_topk(again.recommend([*users, 10**9], 20), want)


def test_events_that_are_replayed_are_learned_by_the_next_publication(parts, tmp_path):
    inter, model, users, items = parts
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, model, log=log)
        for number in range(5):
            engine.observe(users[number], items[number + 2], 2.0)
        assert engine.publish_items() == 5
        again = rec.Engine.build(inter, model, log=log)  # the publication itself is not logged
        np.testing.assert_array_equal(factors(again), model.item_factors_)
        assert again.publish_items() == 5
        np.testing.assert_array_equal(factors(again), factors(engine))
        again = rec.Engine.build(inter, model, log=log, publish_every=6)
        again.observe(users[0], items[0])
        assert not np.array_equal(factors(again), model.item_factors_)


def test_a_publication_is_not_undone_by_an_event_that_becomes_safe_later(
    parts, tmp_path, monkeypatch
):
    inter, model, users, items = parts
    with rec.EventLog(tmp_path / "log") as log:
        engine = rec.Engine.build(inter, model, log=log)
        engine.observe(users[0], items[0])
        go, real = threading.Event(), log.writer.wait

        def slow(number):
            if threading.current_thread().name == "late":
                assert go.wait(30)
            real(number)

        monkeypatch.setattr(log.writer, "wait", slow)
        late = threading.Thread(target=engine.observe, args=(users[1], items[1]), name="late")
        late.start()
        while log.sequence < 2:
            time.sleep(0.001)
        assert engine.publish_items() == 2  # of what the log has, and it made that safe
        published = factors(engine)
        assert items[1] in engine.history(users[1])[0].tolist()
        go.set()
        late.join()
        assert factors(engine) is published
        engine.observe(users[2], items[2])
        assert factors(engine) is published


def test_a_publication_whose_log_fails_changes_nothing(parts, tmp_path, monkeypatch):
    inter, model, users, items = parts
    log = rec.EventLog(tmp_path / "log", sync="always")
    engine = rec.Engine.build(inter, model, log=log)
    engine.observe(users[0], items[0])
    state = engine._state

    def broken(_):
        raise OSError(5, "i/o error")

    monkeypatch.setattr(log_writer, "flush", broken)
    for change in (lambda: engine.observe(users[1], items[1]), engine.publish_items):
        with pytest.raises(OSError, match="i/o error"):
            change()
    assert engine._state is state
    log.close()
