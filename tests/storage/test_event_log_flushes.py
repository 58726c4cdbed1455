"""Flushes of an event log: when, how many, shared by whom, and what follows one that fails."""

import errno
import threading
import time
from itertools import chain

import pytest

from recengine.storage import EventLog, log_opening, log_writer
from recengine.storage.file_lock import flush


@pytest.fixture
def flushes(monkeypatch):
    """Return a list that grows with each flush of a segment."""
    calls = []

    def counted(descriptor):
        time.sleep(0.01)
        calls.append(descriptor)
        flush(descriptor)

    monkeypatch.setattr(log_writer, "flush", counted)
    return calls


def test_always_flushes_before_it_returns(tmp_path, flushes):
    with EventLog(tmp_path / "log") as log:
        before = len(flushes)
        log.append(1, 1)
        assert len(flushes) == before + 1
        log.append_many(range(5), range(5))
        assert len(flushes) == before + 2
        log.sync()  # nothing is left to do
        assert len(flushes) == before + 2


def test_threads_share_a_flush(tmp_path, flushes):
    n_threads, n_each = 8, 10
    with EventLog(tmp_path / "log") as log:
        before, start = len(flushes), threading.Barrier(n_threads)
        got = [[] for _ in range(n_threads)]

        def write(number):
            start.wait()
            for turn in range(n_each):
                got[number].append(log.append(number, turn))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(flushes) - before <= n_threads * n_each / 2
        events = list(log.replay())
    assert sorted(chain(*got)) == list(range(1, n_threads * n_each + 1))
    for number, mine in enumerate(got):
        assert [(e.sequence, e.item_id) for e in events if e.user_id == number] == list(
            zip(mine, range(n_each), strict=True)
        )


def test_an_interval_flushes_in_time_and_never_does_not(tmp_path, flushes):
    with (
        EventLog(tmp_path / "seconds", sync=0.05) as log,
        EventLog(tmp_path / "never", sync="never"),
    ):
        before = len(flushes)
        for item in range(20):
            log.append(1, item)
        assert len(flushes) < before + 20
        deadline = time.monotonic() + 10
        while log.writer._durable < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert log.writer._durable == 20
        log.append(1, 20)  # and again
        while log.writer._durable < 21 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert log.writer._durable == 21
    with EventLog(tmp_path / "never", sync="never") as log:
        before = len(flushes)
        log.append(1, 1)
        assert len(flushes) == before
        log.sync()
        assert len(flushes) == before + 1


def test_after_a_failed_flush_nothing_is_acknowledged(tmp_path, monkeypatch):
    log = EventLog(tmp_path / "log")
    log.append(1, 1)

    def fail(_):
        raise OSError(errno.EIO, "i/o error")

    monkeypatch.setattr(log_writer, "flush", fail)
    with pytest.raises(OSError, match="i/o error") as caught:
        log.append(2, 2)
    assert caught.value.filename == str(tmp_path / "log" / f"{1:020}.log")
    monkeypatch.undo()
    for call in (lambda: log.append(3, 3), log.sync, lambda: log.truncate(0)):
        with pytest.raises(OSError, match="i/o error"):
            call()
    log.close()
    with EventLog(tmp_path / "log", sync="never") as again:
        assert [event.user_id for event in again.replay()][:1] == [1]
        assert 3 not in [event.user_id for event in again.replay()]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [0, 7, 30, None])
def test_an_append_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, error, written):
    with EventLog(tmp_path / "log", sync="never") as log:
        log.append(1, 1)

        def half(file, data):
            file.write(data[:written])
            raise error

        monkeypatch.setattr(log_writer, "_write_all", half)
        with pytest.raises(type(error)):
            log.append_many([2, 3], [2, 3])
        monkeypatch.undo()
        assert [event.user_id for event in log.replay()] == [1]
        assert log.append(4, 4) == 2
        assert [event.user_id for event in log.replay()] == [1, 4]


def test_a_segment_that_cannot_be_begun_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    with EventLog(tmp_path / "log", sync="never", segment_bytes=4096) as log:
        log.append_many(range(70), range(70))

        def fail(path, *_):
            path.touch()
            raise OSError(errno.ENOSPC, "no space", str(path))

        monkeypatch.setattr(log_opening, "read_header", fail)
        with pytest.raises(OSError, match="no space"):
            log.append_many(range(70), range(70))
        monkeypatch.undo()
        assert len(list((tmp_path / "log").glob("*.log"))) == 1
        assert log.append_many(range(70), range(70)) == 140
        assert [event.sequence for event in log.replay()] == list(range(1, 141))
