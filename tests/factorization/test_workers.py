"""Ranges on several threads: each once, results in order, an error ends all."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from recengine.factorization._workers import workers


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("n_ranges", [0, 1, 2, 200])
def test_each_range_is_done_once_and_in_order(num_threads: int, n_ranges: int) -> None:
    done: list[int] = []
    with workers(num_threads) as team:
        for _ in range(3):
            done.clear()
            bounds = np.arange(n_ranges + 1) * 3

            def work(start: int, stop: int) -> tuple[int, int]:
                done.append(start)
                return start, stop

            found = team.run(work, bounds)
            assert found == [(3 * n, 3 * n + 3) for n in range(n_ranges)]
            assert sorted(done) == [start for start, _ in found]


def test_threads_take_part_and_end() -> None:
    num_threads = 3
    names = set()
    gate = threading.Barrier(num_threads)

    def work(start: int, stop: int) -> None:
        gate.wait(10)
        names.add(threading.current_thread().name)

    with workers(num_threads) as team:
        team.run(work, np.arange(num_threads + 1))
    assert len(names) == num_threads
    assert threading.current_thread().name in names
    assert not [one for one in threading.enumerate() if one.name.startswith("recengine-fit")]


@pytest.mark.parametrize("num_threads", [1, 2, 4])
@pytest.mark.parametrize("error", [ValueError, IndexError, KeyboardInterrupt])
def test_an_error_ends_all_and_is_raised(num_threads: int, error: type[BaseException]) -> None:
    begun: list[int] = []

    def work(start: int, stop: int) -> None:
        begun.append(start)
        if start == 5:
            raise error("this one")
        time.sleep(0.002)

    with workers(num_threads) as team:
        with pytest.raises(error, match="this one"):
            team.run(work, np.arange(1001))
        assert len(begun) < 900
        assert team.run(lambda start, stop: start, np.arange(4)) == [0, 1, 2]
