"""A run with a deadline ends soon after it, alone, and leaves the session as it was."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from graphs import port, save
from onnx import TensorProto, helper

from recengine import DeadlineError
from recengine.runtime import Session, open_session
from recengine.runtime._watch import Watch

DIM = 128


@pytest.fixture
def long(tmp_path: Path) -> Session:
    """Return a graph of 2,000 products: seconds for 4,000 rows, a millisecond or so a node."""
    names = ["x", *(f"h{i}" for i in range(1999)), "y"]
    weight = np.roll(np.eye(DIM, dtype=np.float32), 1, axis=1)
    nodes = [
        helper.make_node("MatMul", [before, "w"], [after])
        for before, after in itertools.pairwise(names)
    ]
    ports = [port(name, TensorProto.FLOAT, ["n", DIM]) for name in "xy"]
    path = save(tmp_path / "long.onnx", nodes, ports[:1], ports[1:], {"w": weight})
    return open_session(path, num_threads=1)


X = np.random.default_rng(3).standard_normal((4000, DIM)).astype(np.float32)
EXPECTED = np.roll(X, 2000 % DIM, axis=1)


def test_deadline_of_a_millisecond_ends_a_long_run_within_50(long: Session) -> None:
    long.run({"x": X[:1]}, timeout=60.0)  # the thread that watches is there
    late = []
    for _ in range(5):
        start = time.monotonic()
        with pytest.raises(DeadlineError, match=r"timeout of 0\.001 s ran out while the graph ran"):
            long.run({"x": X}, timeout=0.001)
        late.append(time.monotonic() - start - 0.001)
    assert min(late) < 0.05, late
    assert sorted(late)[2] < 0.5, "far from the seconds of a whole run, on a busy machine too"
    np.testing.assert_array_equal(long.run({"x": X[:9]})[0], EXPECTED[:9])


def test_deadline_ends_no_other_run(long: Session) -> None:
    barrier = threading.Barrier(4)

    def work(timeout: float | None) -> Any:
        barrier.wait()
        try:
            return long.run({"x": X[:200]}, timeout=timeout)[0]
        except DeadlineError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, [0.001, None, 600.0, 0.002]))
    assert isinstance(found[0], DeadlineError)
    assert isinstance(found[3], DeadlineError)
    np.testing.assert_array_equal(found[1], EXPECTED[:200])
    np.testing.assert_array_equal(found[2], EXPECTED[:200])


def test_deadlines_share_one_thread(long: Session, monkeypatch: Any) -> None:
    monkeypatch.setattr("recengine.runtime._calls.SHORT", float("inf"))  # none goes aside
    for _ in range(20):
        long.run({"x": X[:1]}, timeout=60.0)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("recengine-watch") == 1


def test_forked_child_keeps_deadlines(long: Session) -> None:
    long.run({"x": X[:1]}, timeout=60.0)
    code = 1
    pid = os.fork()
    if pid == 0:
        try:
            long.run({"x": X}, timeout=0.001)
        except DeadlineError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("timeout", "error", "message"),
    [
        (0.0, ValueError, "timeout must be > 0, got 0"),
        (-1, ValueError, "timeout must be > 0, got -1"),
        (float("nan"), ValueError, "timeout must be finite"),
        ("1", TypeError, "timeout must be a number, got str"),
    ],
)
def test_bad_timeout_is_refused(
    long: Session, timeout: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        long.run({"x": X[:1]}, timeout=timeout)


def test_feeds_are_checked_under_a_deadline_too(long: Session) -> None:
    with pytest.raises(ValueError, match=r"missing \['x'\]"):
        long.run({}, timeout=1.0)


# --- the watch alone ------------------------------------------------------------------------------


def flag() -> Any:
    return SimpleNamespace(terminate=False)


def test_watch_raises_each_flag_at_its_own_time() -> None:
    watch, late, soon = Watch(), flag(), flag()
    with watch.over(late, 30.0) as first, watch.over(soon, 0.01) as second:
        deadline = time.monotonic() + 10
        while not soon.terminate and time.monotonic() < deadline:
            time.sleep(0.001)
        assert (second.expired, soon.terminate) == (True, True)
        assert (first.expired, late.terminate) == (False, False)


def test_watch_forgets_a_run_that_ended() -> None:
    watch, options = Watch(), flag()
    with watch.over(options, 0.02):
        pass
    assert not watch._runs
    time.sleep(0.05)
    assert not options.terminate


def test_short_runs_stay_on_the_calling_thread(long: Session, monkeypatch: Any) -> None:
    """Where nothing is known a run goes aside; after a short one, small ones do not."""
    names: list[str] = []
    calls, run = long._calls, long._calls._run

    def named(arrays: Any, options: Any) -> Any:
        names.append(threading.current_thread().name)
        return run(arrays, options)

    monkeypatch.setattr(calls, "_run", named)
    long.run({"x": X[:1]}, timeout=60.0)
    calls._pace.took(X[:1].nbytes, 0.0)
    for _ in range(100):
        calls._pace.took(X[:1].nbytes, 0.0)  # as if it had taken no time
    long.run({"x": X[:1]}, timeout=60.0)
    assert names[0].startswith("recengine-run")
    assert names[1] == threading.current_thread().name
