"""An event log gives back what was appended, in order, once; one writer, any readers."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import recengine as rec
from recengine.storage import Change, EventLog, LogReader, change_payload, log_opening, log_writer

INT_IDS = st.one_of(
    st.sampled_from([-(2**63), 2**63 - 1, 0, 1, -2]), st.integers(-(2**63), 2**63 - 1)
).filter(lambda number: number != -1)
STR_IDS = st.text(max_size=12)  # no lone surrogates
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.none() | st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Spare the disk; tests of flushes put their own in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_writer, "flush", lambda _: None)
        patch.setattr(log_opening, "flush", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


def reopened(path, **options):
    return EventLog(path, sync="never", **options)


@st.composite
def logs(draw):
    users, items = (
        draw(st.sampled_from([INT_IDS, STR_IDS])),
        draw(st.sampled_from([INT_IDS, STR_IDS])),
    )
    return draw(st.lists(st.tuples(users, items, WEIGHTS, TIMES), max_size=8))


@settings(max_examples=40)
@given(events=logs())
def test_what_was_appended_comes_back(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("log") / "events"
    with EventLog(path, sync="never") as log:
        numbers = [log.append(*event) for event in events]
        assert numbers == list(range(1, len(events) + 1))
        assert [tuple(event) for event in log.replay()] == [
            (number, *event) for number, event in enumerate(events, 1)
        ]
    with reopened(path) as log:
        assert (log.sequence, log.n_torn) == (len(events), 0)
        for after in (0, len(events) // 2, len(events)):
            assert [event.sequence for event in log.replay(after)] == numbers[after:]


@settings(max_examples=30)
@given(events=logs(), cut=st.integers(0, 8))
def test_append_many_is_append(tmp_path_factory, events, cut):
    base = tmp_path_factory.mktemp("logs")
    events = [(*event[:3], event[3] or 0) for event in events]
    with reopened(base / "one") as one, reopened(base / "many") as many:
        for event in events:
            one.append(*event)
        for part in (events[:cut], events[cut:]):
            columns = list(zip(*part, strict=True)) or [[], [], [], []]
            many.append_many(*columns)
        assert list(one.replay()) == list(many.replay())
        assert one.sequence == many.sequence


def test_append_many_takes_arrays_and_leaves_out_what_is_optional(tmp_path):
    with reopened(tmp_path / "log") as log:
        n = 10_000  # more than are handed over at once
        users, items = np.arange(n), np.array([f"i{number}" for number in range(n)])
        assert log.append_many(users, items) == n
        assert log.append_many(users[:2], items[:2], np.float32([2, 3]), np.int32([7, 8])) == n + 2
        assert log.append_many([], []) == n + 2
        got = list(log.replay())
    assert [event[1:] for event in got[:2]] == [(0, "i0", 1.0, None), (1, "i1", 1.0, None)]
    assert [tuple(event) for event in got[n:]] == [
        (n + 1, 0, "i0", 2.0, 7),
        (n + 2, 1, "i1", 3.0, 8),
    ]
    assert [event.sequence for event in got] == list(range(1, n + 3))
    assert type(got[0].user_id) is int


class LogMachine(RuleBasedStateMachine):
    """Appends, reopenings, segments that end, truncations and a reader behind, in any order."""

    def __init__(self):
        super().__init__()
        self.folder = os.path.join(os.getcwd(), f"machine-{time.monotonic_ns()}")  # noqa: PTH109, PTH118
        self.log = EventLog(self.folder, sync="never", segment_bytes=4096)
        self.log.append("u", 0)
        self.events, self.first, self.seen = [(1, "u", 0, 1.0, None)], 1, []
        self.tail = EventLog.tail(self.folder)

    @rule(user=STR_IDS, item=INT_IDS, weight=WEIGHTS, timestamp=TIMES)
    def append(self, user, item, weight, timestamp):
        sequence = self.log.append(user, item, weight, timestamp)
        self.events.append((sequence, user, item, weight, timestamp))

    @rule(n=st.integers(0, 120))
    def append_many(self, n):
        first = self.log.sequence + 1
        self.log.append_many(["ü"] * n, range(n))
        self.events += [(first + i, "ü", i, 1.0, None) for i in range(n)]

    @rule()
    def reopen(self):
        self.log.close()
        self.log = EventLog(self.folder, sync="never", segment_bytes=4096)
        assert self.log.n_torn == 0

    @rule()
    def follow(self):
        self.seen += [tuple(event) for event in self.tail]
        assert self.seen == self.events

    @precondition(lambda self: self.seen == self.events)
    @rule(data=st.data())
    def truncate(self, data):
        before = data.draw(st.integers(0, self.log.sequence + 1))
        self.log.truncate(before)
        held = list(self.log.replay())
        first = held[0].sequence if held else self.log.sequence + 1
        assert self.first <= first <= max(before, self.first)
        self.first = first

    @invariant()
    def holds_everything_after_what_was_truncated(self):
        assert self.log.sequence == len(self.events)
        after = max(self.first - 1, len(self.events) - 5)
        assert [tuple(event) for event in self.log.replay(after)] == self.events[after:]

    def teardown(self):
        self.log.close()


LogMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
test_any_history_of_a_log = LogMachine.TestCase


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda log: log.append(-1, "a"), ValueError, "user_id must not be -1, the padding id"),
        (lambda log: log.append(2**63, "a"), ValueError, "user_id must fit int64, got 9223"),
        (lambda log: log.append(True, "a"), TypeError, "user_id must be an integer or a str, got"),
        (lambda log: log.append(1, b"a"), TypeError, "item_id must be an integer or a str, got"),
        (lambda log: log.append(1, "\ud800"), ValueError, "item_id must be text that UTF-8 can"),
        (lambda log: log.append("1", "a"), TypeError, "user_id must be an integer, as the log's"),
        (lambda log: log.append(1, 2), TypeError, "item_id must be a str, as the log's ids are"),
        (lambda log: log.append(1, "a", np.nan), ValueError, "weight must be finite, got nan"),
        (lambda log: log.append(1, "a", "1"), TypeError, "weight must be a number, got str"),
        (lambda log: log.append(1, "a", 1, 0.5), TypeError, "timestamp must be an integer"),
        (lambda log: log.append(1, "a", 1, 2**63), ValueError, "timestamp must be <= 9223"),
        (lambda log: log.append_many([1, 2], ["a"]), ValueError, "item_ids must have one entry"),
        (lambda log: log.append_many([1], ["a"], [1, 2]), ValueError, "weights must have one"),
        (lambda log: log.append_many([1], ["a"], [np.inf]), ValueError, "weights must be finite"),
        (lambda log: log.append_many([1], ["a"], ["1"]), TypeError, "weights must be 1-D numbers"),
        (lambda log: log.append_many([1], ["a"], None, [0.5]), TypeError, r"timestamps\[0\] must"),
        (lambda log: log.append_many([1], {"a"}), TypeError, "item_ids must be in order"),
        (lambda log: log.append_many([1], [2]), TypeError, "item_id must be a str, as the log's"),
        (lambda log: log.truncate(3), ValueError, "before must be <= 2, got 3"),
        (lambda log: log.truncate(-1), ValueError, "before must be >= 0, got -1"),
        (lambda log: log.replay(after=-1), ValueError, "after must be >= 0, got -1"),
    ],
)
def test_a_refused_call_writes_nothing(tmp_path, call, error, message):
    with reopened(tmp_path / "log") as log:
        log.append(1, "a")
        with pytest.raises(error, match=message):
            call(log)
        assert [tuple(event) for event in log.replay()] == [(1, 1, "a", 1.0, None)]
    with reopened(tmp_path / "log") as log:  # the kinds are known of old, too
        with pytest.raises((ValueError, TypeError)):
            call(log)
        assert log.append(1, "a") == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sync": "often"}, ValueError, "sync must be 'always', 'never' or seconds, got 'often'"),
        ({"sync": 0}, ValueError, "sync must be > 0, got 0"),
        ({"sync": None}, TypeError, "sync must be a number, got NoneType"),
        ({"segment_bytes": 100}, ValueError, "segment_bytes must be >= 4096, got 100"),
        ({"on_damage": "skip"}, ValueError, "on_damage must be 'raise' or 'cut', got 'skip'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        EventLog(tmp_path / "log", **options)
    assert not (tmp_path / "log").exists()


def test_a_folder_that_cannot_be_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        EventLog(tmp_path / "none" / "log")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        EventLog(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        EventLog.tail(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no event log"):
        EventLog.tail(tmp_path / "empty")


# --- one writer -----------------------------------------------------------------------------------


def test_a_second_writer_is_refused_here_and_elsewhere(tmp_path):
    path = tmp_path / "log"
    code = f"import recengine as rec; rec.EventLog({str(path)!r})"
    with reopened(path) as log:
        with pytest.raises(BlockingIOError, match="is open for writing already") as caught:
            reopened(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EAGAIN, str(path / "lock"))
        list(EventLog.tail(path))  # opens and closes files of the log: the lock stays
        command = [sys.executable, "-c", code]
        package = os.path.dirname(os.path.dirname(rec.__file__))  # noqa: PTH120
        env = {**os.environ, "PYTHONPATH": package}
        other = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert "BlockingIOError" in other.stderr
        assert log.append(1, 1) == 1
    reopened(path).close()


def test_a_closed_log_is_read_but_not_written(tmp_path):
    log = reopened(tmp_path / "log")
    log.append(1, 2)
    log.close()
    log.close()
    for call in (lambda: log.append(1, 2), lambda: log.truncate(0)):
        with pytest.raises(ValueError, match=r"log '.*' must be open, but it was closed"):
            call()
    log.sync()  # everything is on the disk
    assert [event.item_id for event in log.replay()] == [2]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # the timer is one
def test_a_forked_child_shares_nothing(tmp_path):
    path = tmp_path / "log"
    log = EventLog(path, sync=60.0)
    log.append(1, 1)
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            with pytest.raises(ValueError, match="belongs to the process that forked this one"):
                log.append(2, 2)
            with pytest.raises(BlockingIOError):
                reopened(path)
            log.close()
            verdict = 0
        finally:
            os._exit(verdict)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.append(3, 3) == 2
    with pytest.raises(BlockingIOError):  # what the child closed was its own
        reopened(path)
    log.close()
    assert [event.user_id for event in log.replay()] == [1, 3]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_the_lock_of_a_killed_parent_is_not_kept_by_its_child(tmp_path):
    ready, told = os.pipe()
    waiting, alive = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(alive)
        log = reopened(tmp_path / "log")
        log.append(1, 1)
        if os.fork() == 0:
            os.write(told, b"x")
            os.read(waiting, 1)  # it lives on, with what it inherited, until this test ends
            os._exit(0)
        time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    with reopened(tmp_path / "log") as log:
        assert log.append(2, 2) == 2
    for descriptor in (ready, told, waiting, alive):
        os.close(descriptor)


# --- segments -------------------------------------------------------------------------------------


def grown(path, n=600):
    """Return a log of several small segments."""
    log = EventLog(path, sync="never", segment_bytes=4096)
    for number in range(1, n + 1):
        log.append(number, "i")
    return log


def firsts(path):
    return sorted(int(name.stem) for name in path.glob("*.log"))


def test_segments_end_and_are_deleted_whole(tmp_path):
    path = tmp_path / "log"
    with grown(path) as log:
        assert len(firsts(path)) > 3
        assert all(name.stat().st_size <= 4096 for name in path.glob("*.log"))
        second, third, last = firsts(path)[1], firsts(path)[2], firsts(path)[-1]
        log.truncate(before=second - 1)
        assert firsts(path)[0] == 1
        log.truncate(before=third)
        assert firsts(path)[0] == third
        assert [event.sequence for event in log.replay()] == list(range(third, 601))
        assert [event.sequence for event in log.replay(third - 1)][:1] == [third]
        with pytest.raises(rec.LogError, match=f"must hold the records after {third - 2}, got"):
            log.replay(third - 2)
        log.truncate(before=601)
        assert firsts(path) == [last]
        assert log.append(0, "i") == 601
    with reopened(path) as log:
        assert log.sequence == 601
        with pytest.raises(TypeError, match="item_id must be a str, as the log's ids are"):
            log.append(0, 0)


def test_a_log_stays_where_it_is_when_the_process_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with EventLog("log", sync="never", segment_bytes=4096) as log:
        tail = EventLog.tail("log")
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        for _ in range(3):
            log.append_many(range(100), range(100))
        assert len(list(tail)) == len(list(log.replay())) == 300
    assert len(firsts(tmp_path / "log")) == 3


def test_the_log_keeps_its_id_and_another_has_another(tmp_path):
    with grown(tmp_path / "a") as log, reopened(tmp_path / "b") as other:
        name = log.id
        assert len(name) == 32
        assert other.id != name
        log.truncate(before=601)
    with reopened(tmp_path / "a") as log:
        assert log.id == name


def test_a_reader_goes_on_over_new_segments_while_a_writer_writes(tmp_path):
    path, total = tmp_path / "log", 4000
    log = EventLog(path, sync="never", segment_bytes=4096)
    tail, seen, done = EventLog.tail(path), [], threading.Event()
    assert isinstance(tail, LogReader)

    def follow():
        while True:
            last = done.is_set()
            seen.extend(event.user_id for event in tail)
            if last:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    for number in range(total):
        log.append(number, 1)
    done.set()
    reader.join()
    log.close()
    assert seen == list(range(total))


def test_a_loop_that_is_left_goes_on_behind_what_it_saw(tmp_path):
    with grown(tmp_path / "log", 300) as log:
        tail, seen = log.tail(log.path, 10), []
        while tail.sequence < 300:
            for event in tail:
                seen.append(event.sequence)
                if event.sequence % 7 == 0:
                    break
        assert seen == list(range(11, 301))


def test_changes_stand_between_events_but_are_none(tmp_path):
    arrays = {
        "ids": np.array([3, -(2**63)]),
        "empty": np.empty((0, 3), np.float32),
        "table": np.arange(6, dtype=">f4").reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    with reopened(tmp_path / "log") as log:
        log.append(1, 1)
        log.writer.write([change_payload("added", arrays)])
        log.append(2, 2)
        assert [event.sequence for event in log.replay()] == [1, 3]
        records = list(log.tail(log.path).records())
    change = records[1]
    assert isinstance(change, Change)
    assert (change.sequence, change.kind) == (2, "added")
    assert list(change.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(change.arrays[name], array)
        assert change.arrays[name].dtype == array.dtype.newbyteorder("<")
        assert not change.arrays[name].flags.writeable
