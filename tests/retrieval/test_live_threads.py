"""Searches beside a writer and a compacting thread: nothing torn, late or piled up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import recengine as rec
from recengine.retrieval import _delta, _live

N = 400


def test_no_torn_read_and_deleted_ids_are_gone(monkeypatch):
    """A vector is (version, −version, item) thrice: a mixture of two would give itself away."""
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 50)
    monkeypatch.setattr(_delta, "LEAST_CODED", 7)
    made = np.arange(N, dtype=np.float32)
    start = np.stack([np.ones(N), -np.ones(N), made], axis=1)
    index = rec.FlatIndex(start, metric="dot")
    newest, gone, stop = np.ones(N), np.zeros(N, bool), threading.Event()
    asked = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)

    def read():
        count = 0
        while not stop.is_set():
            oldest, lost = newest.copy(), gone.copy()
            found = index.search(asked, N)
            seen = [
                dict(zip(ids[ids >= 0].tolist(), scores[ids >= 0].tolist(), strict=True))
                for ids, scores in zip(found.ids, found.scores, strict=True)
            ]
            count += 1
            assert seen[0].keys() == seen[1].keys() == seen[2].keys()
            for item, version in seen[0].items():
                assert seen[1][item] == 0
                assert seen[2][item] == item
                assert version >= oldest[item]
                # what was gone before the search began may only be back with a later version
                assert not lost[item] or version > oldest[item]
        return count

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        rng, began, bases, version = np.random.default_rng(0), time.monotonic(), {}, 1.0
        # On a loaded machine compactions, which take what is left, may need longer.
        while not any(each.done() for each in readers) and (
            (took := time.monotonic() - began) < 3 or (len(bases) <= 3 and took < 60)
        ):
            version += 1
            item = int(rng.integers(N))
            if rng.random() < 0.3 and item in index:
                index.delete([item])
                gone[item] = True
                assert item not in index.search(asked[2], N).ids
            else:
                index.upsert([item], [[version, -version, item]])
                gone[item], newest[item] = False, version  # readers look at them the other way
            bases[id(index._live.generation.base)] = index._live.generation.base  # kept alive
        stop.set()
        assert min(each.result(30) for each in readers) > 10
    assert len(bases) > 3  # compactions took place meanwhile


def test_the_delta_stays_below_its_limit_whatever_the_writer_does(monkeypatch):
    """Even if the thread never gets to run, a writer folds the delta itself."""
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 20)
    monkeypatch.setattr(_live.Live, "_start_if_due", lambda self: None)
    index = rec.FlatIndex(np.eye(4), metric="dot")
    largest = 0
    for number in range(500):
        index.upsert([number % 9], np.full((1, 4), number))
        largest = max(largest, index._live.generation.delta.n_rows)
    assert largest == _live.FORCED * 20
    assert index.search(np.ones(4), 1).scores.tolist() == [4 * 499]


def test_a_writer_does_not_wait_for_a_compaction_that_does_not_get_to_run(monkeypatch):
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 10)
    monkeypatch.setattr(_live, "PATIENCE", 0.05)
    held, go = threading.Event(), threading.Event()
    compacted = _live.compacted

    def starved(start):
        if threading.current_thread().name == "recengine-rebuild" and not held.is_set():
            held.set()
            assert go.wait(30)
        return compacted(start)

    monkeypatch.setattr(_live, "compacted", starved)
    index = rec.FlatIndex(np.eye(4), metric="dot")
    for number in range(100):
        index.upsert([number], np.full((1, 4), number))
        assert index._live.generation.delta.n_rows <= _live.FORCED * 10
    assert held.is_set()
    go.set()
    index._live.join()
    found = index.search(np.ones(4), 100)
    assert found.ids.tolist() == list(range(99, -1, -1))
    assert found.scores.tolist() == [4 * number for number in range(99, -1, -1)]
    assert index._live.generation.delta.n_rows < 10


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads share one priority")
def test_a_base_is_rebuilt_where_cpus_are_idle_and_published_by_another_thread(monkeypatch):
    policies, mine = {}, os.sched_getscheduler(0)
    for name in ("compacted", "rebased"):
        step = getattr(_live, name)

        def looked_at(*states, step=step, name=name):
            policies[name] = os.sched_getscheduler(0)
            return step(*states)

        monkeypatch.setattr(_live, name, looked_at)
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 10)
    index = rec.FlatIndex(np.eye(4))
    index.upsert(np.arange(10), np.ones((10, 4)))
    index._live.join()
    assert policies == {"compacted": os.SCHED_IDLE, "rebased": mine}
    index.upsert([1], np.ones((1, 4)))
    index.compact()
    assert policies == {"compacted": mine, "rebased": mine}  # who asks for it waits for it


def test_a_base_is_rebuilt_where_a_sandbox_refuses_to_lower_a_priority(monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 10)
    index = rec.FlatIndex(np.eye(4))
    index.upsert(np.arange(10), np.ones((10, 4)))
    index._live.join()
    assert index._live.generation.is_clean


def test_compaction_runs_in_two_daemon_threads_that_end(monkeypatch):
    monkeypatch.setattr(_live, "SMALLEST_DELTA", 10)
    index = rec.FlatIndex(np.eye(4))
    before = threading.active_count()
    index.upsert(np.arange(9), np.ones((9, 4)))
    assert index._live._thread is None
    index.upsert([9], np.ones((1, 4)))
    for number in range(10, 60):
        index.upsert([number], np.ones((1, 4)))
        assert threading.active_count() <= before + 2
    thread = index._live._thread
    assert thread is None or thread.daemon
    index._live.join()
    assert index._live._thread is None
    assert index._live.generation.delta.n_rows < 10


def test_a_writer_that_was_cut_off_leaves_the_index_as_it_was(monkeypatch):
    index = rec.FlatIndex(np.eye(3), ids=["a", "b", "c"], metric="dot")
    index.upsert(["d"], [[1, 1, 1]])

    def cut(*_):
        raise KeyboardInterrupt

    log = index._live.generation.log
    with monkeypatch.context() as patch:
        patch.setattr(type(log), "segment", cut)
        with pytest.raises(KeyboardInterrupt):
            index.upsert(["a", "e"], [[9, 9, 9], [8, 8, 8]])
    assert index.ids.tolist() == ["a", "b", "c", "d"]
    assert "e" not in index
    assert index["a"].tolist() == [1, 0, 0]
    index.upsert(["f", "d"], [[5, 5, 5], [2, 2, 2]])
    found = index.search([1, 1, 1], 9)
    assert found.ids.tolist() == ["f", "d", "a", "b", "c", None, None, None, None]
    assert index.ordinals(["f", "e"]).tolist() == [4, -1]
    index.compact()
    assert index.search([1, 1, 1], 9).ids.tolist() == found.ids.tolist()


def run(program):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_fork_at_any_moment_of_updates():
    run("""
        import os, threading
        import numpy as np
        import recengine as rec
        from recengine.retrieval import _delta, _live
        _live.SMALLEST_DELTA = 30
        index, stop = rec.FlatIndex(np.ones((200, 4)), metric="dot"), threading.Event()

        def write():
            version = 1
            while not stop.is_set():
                version += 1
                index.upsert([version % 97, 200 + version % 301], np.full((2, 4), version))

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(40):
            child = os.fork()
            if child == 0:
                before = dict(zip(*(part.tolist() for part in index.search(np.ones(4), 501))))
                for number in range(100):
                    index.upsert([number, 1000 + number], np.full((2, 4), -number))
                index.compact()
                after = dict(zip(*(part.tolist() for part in index.search(np.ones(4), 700))))
                want = {item: score for item, score in before.items() if item >= 0}
                want |= {i + s: -4.0 * i for i in range(100) for s in (0, 1000)}
                os._exit(after != want | {-1: -np.inf})
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        writer.join()
    """)


def test_leaving_the_interpreter_while_a_compaction_runs():
    run("""
        import numpy as np
        import recengine as rec
        index = rec.FlatIndex(np.random.default_rng(0).standard_normal((60_000, 64)))
        index.upsert(np.arange(4000), np.ones((4000, 64)))
        assert index._live._thread is not None
    """)
