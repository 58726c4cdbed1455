"""Runs aside: what they give, what they raise, who waits; what is learnt of their times."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from recengine.runtime._aside import Pace, aside


def flag() -> Any:
    return SimpleNamespace(terminate=False)


def test_result_and_error_of_a_run_reach_the_caller() -> None:
    options = flag()
    given, name = aside(lambda each: (each, threading.current_thread().name), options, 60.0)
    assert given is options
    assert name.startswith("recengine-run")
    with pytest.raises(KeyError, match="x"):
        aside(lambda _: {}["x"], options, 60.0)
    assert not options.terminate


def test_late_run_is_told_to_end_and_left_behind() -> None:
    options, left, ended = flag(), threading.Event(), threading.Event()

    def run(given: Any) -> None:
        left.wait(60)
        assert given.terminate
        ended.set()

    start = time.monotonic()
    with pytest.raises(TimeoutError):
        aside(run, options, 0.01)
    assert time.monotonic() - start < 30
    assert options.terminate
    left.set()
    assert ended.wait(60)


def test_pace_remembers_the_slowest_and_forgets_it() -> None:
    pace = Pace()
    assert pace.expected(1) == float("inf")
    pace.took(100, 1.0)
    assert pace.expected(50) == pytest.approx(0.5)
    pace.took(100, 3.0)
    assert pace.expected(100) == pytest.approx(3.0)
    for _ in range(60):
        pace.took(100, 1.0)
    assert pace.expected(100) == pytest.approx(1.0)
    assert pace.expected(0) == pytest.approx(0.01)
