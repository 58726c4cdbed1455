"""A damaged log is cut where nobody was told of more, or a LogError; never another event."""

import logging
import os
import shutil

import numpy as np
import pytest

import recengine as rec
from recengine.storage import EventLog, event_payload, log_opening, log_writer
from recengine.storage.log_segments import FRAME, HEADER_BYTES, framed, read_header

EVENTS = [(7, "é", 1.0, None), (-(2**63), "", 2.5, 12), (9, "x" * 20, -1.0, -5), (1, "b", 3.0, 0)]
WANTED = [(number, *event) for number, event in enumerate(EVENTS, 1)]
NAME = f"{1:020}.log"


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Spare the disk: what it would hold is written here by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_writer, "flush", lambda _: None)
        patch.setattr(log_opening, "flush", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


def written(path, sync):
    with EventLog(path, sync=sync) as log:
        for event in EVENTS:
            log.append(*event)
    return path / NAME


@pytest.fixture(params=["always", "never"])
def segment(request, tmp_path):
    """Return the one segment of a small log."""
    return written(tmp_path / "log", request.param)


def ends(segment):
    """Return the offset at which each record ends, with the end of the header first."""
    data, found = segment.read_bytes(), [HEADER_BYTES]
    while found[-1] < len(data):
        found.append(found[-1] + FRAME.size + FRAME.unpack_from(data, found[-1])[1])
    return found


def opened(segment, **options):
    """Open a log, append to it, and return what it held and what it holds."""
    with EventLog(segment.parent, sync="never", **options) as log:
        held = [tuple(event) for event in log.replay()]
        assert log.append(5, "new") == len(held) + 1
        assert [tuple(event) for event in log.replay()] == [
            *held,
            (len(held) + 1, 5, "new", 1.0, None),
        ]
        return held, log.n_torn


def test_truncation_at_every_length_is_cut_or_refused(segment, caplog):
    intact, borders = segment.read_bytes(), ends(segment)
    assert len(borders) == len(EVENTS) + 1
    for length in range(len(intact)):
        segment.write_bytes(intact[:length])
        if length < HEADER_BYTES:
            with pytest.raises(rec.LogError, match=NAME) as caught:
                EventLog(segment.parent)
            assert caught.value.path == segment
            continue
        whole = max(number for number, border in enumerate(borders) if border <= length)
        caplog.clear()
        assert opened(segment) == (WANTED[:whole], length - borders[whole])
        if length > borders[whole]:
            assert f"cut {length - borders[whole]} bytes behind record {whole}" in caplog.text


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_flip_of_every_byte_is_refused_or_cuts_the_last_record(segment, flip):
    intact, borders = segment.read_bytes(), ends(segment)
    for place in range(len(intact)):
        segment.write_bytes(intact[:place] + bytes([intact[place] ^ flip]) + intact[place + 1 :])
        if place >= borders[-2]:
            assert list(map(tuple, EventLog.tail(segment.parent))) == WANTED[:-1]
            assert opened(segment) == (WANTED[:-1], borders[-1] - borders[-2])
            continue
        number = sum(border <= place for border in borders[1:])
        with pytest.raises(rec.LogError, match=NAME) as caught:
            EventLog(segment.parent)
        assert caught.value.path == segment
        assert caught.value.offset == (0 if place < HEADER_BYTES else borders[number])
        seen = []
        with pytest.raises(rec.LogError):
            seen.extend(tuple(event) for event in EventLog.tail(segment.parent))
        if place >= HEADER_BYTES:
            with EventLog(segment.parent, on_damage="cut") as log:
                assert [tuple(event) for event in log.replay()] == WANTED[:number]
                assert log.n_torn == borders[-1] - borders[number]


def test_a_record_that_is_gone_or_twice_there_is_refused(segment):
    intact, borders = segment.read_bytes(), ends(segment)
    for number in range(len(EVENTS) - 1):
        a, b = borders[number], borders[number + 1]
        for damaged in (intact[:a] + intact[b:], intact[:b] + intact[a:]):
            segment.write_bytes(damaged)
            with pytest.raises(rec.LogError, match=r"record \d at byte \d+ is not what"):
                EventLog(segment.parent)


def test_what_power_left_of_unacknowledged_records_is_cut(tmp_path):
    """Sectors reach the disk in any order: records may be whole where an earlier one is not."""
    segment = written(tmp_path / "log", "always")
    seed, intact, wide = read_header(segment).seed, segment.read_bytes(), "w" * 600
    late = [framed(event_payload(n, wide, 1.0, None), n, 4, seed) for n in (5, 6, 7)]
    whole = intact + b"".join(late)
    hole = whole[:512] + bytes(512) + whole[1024:]
    assert len(intact) < 512 < len(intact) + len(late[0]) < 1024 < len(whole) - len(late[2])
    segment.write_bytes(hole)
    assert list(map(tuple, EventLog.tail(segment.parent))) == WANTED
    assert opened(segment) == (WANTED, len(whole) - len(intact))
    flipped = whole[:700] + b"?" + whole[701:]  # no failure of power does that
    known = hole + framed(event_payload(8, "x", 1.0, None), 8, 5, seed)  # 5 was on the disk
    for damaged in (flipped, known):
        segment.write_bytes(damaged)
        with pytest.raises(rec.LogError, match=f"record 5 at byte {len(intact)} is not what"):
            EventLog(segment.parent)
        with pytest.raises(rec.LogError, match=f"record 5 at byte {len(intact)} is not what"):
            list(EventLog.tail(segment.parent))


@pytest.mark.parametrize("garbage", [bytes(1), bytes(5000), b"\xff" * 700, b"recengine" * 99])
def test_garbage_behind_the_end_is_cut(segment, garbage, caplog):
    with segment.open("ab") as stream:
        stream.write(garbage)
    assert list(map(tuple, EventLog.tail(segment.parent))) == WANTED
    with caplog.at_level(logging.WARNING, "recengine"):
        assert opened(segment) == (WANTED, len(garbage))
    assert "which are no whole record" in caplog.text


def test_records_of_another_log_are_none_of_this_one(tmp_path):
    one, other = written(tmp_path / "one", "never"), written(tmp_path / "other", "never")
    assert ends(one) == ends(other)
    data, borders = other.read_bytes(), ends(other)
    with one.open("r+b") as stream:
        stream.seek(borders[1])
        stream.write(data[borders[1] :])
    assert list(map(tuple, EventLog.tail(one.parent))) == WANTED[:1]


def test_numbers_that_look_like_records_are_none(tmp_path):
    """Ids as small as the numbers of records, at every alignment: nothing but CRCs decides."""
    path = tmp_path / "log"
    with EventLog(path, sync="never") as log:
        log.append_many(np.arange(3000) % 90, np.arange(3000) % 91)
    data = (path / NAME).read_bytes()
    (path / NAME).write_bytes(data[:-3])
    with EventLog(path, sync="never") as log:
        assert log.sequence == 2999
    (path / NAME).write_bytes(data[:200] + b"?" + data[201:])
    with pytest.raises(rec.LogError, match="record 4 at byte 199 "):
        EventLog(path)


# --- several segments -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "log"
    with EventLog(path, sync="never", segment_bytes=4096) as log:
        log.append_many(range(100), range(100))
        log.append_many(range(100), range(100))
        log.append_many(range(100), range(100))
    assert len(list(path.glob("*.log"))) == 3
    return path


@pytest.fixture
def copy(long, tmp_path):
    """Return (a log, its three segments)."""
    shutil.copytree(long, tmp_path / "log")
    return tmp_path / "log", sorted((tmp_path / "log").glob("*.log"))


def test_a_segment_before_the_last_may_not_be_short(copy):
    path, segments = copy
    for size in (HEADER_BYTES, segments[0].stat().st_size - 1):
        os.truncate(segments[0], size)
        with EventLog(path) as log:  # the last segment is whole: the log can grow
            assert log.sequence == 300
            assert len(list(log.replay(100))) == 200
            with pytest.raises(rec.LogError, match=f"{segments[0].name} is damaged") as caught:
                list(log.replay())
            assert caught.value.path == segments[0]


def test_a_segment_that_is_missing_is_noticed(copy):
    path, segments = copy
    segments[1].unlink()
    with EventLog(path) as log, pytest.raises(rec.LogError, match="record 101 at byte"):
        list(log.replay())


def test_a_segment_of_another_place_or_log_is_noticed(copy, tmp_path):
    path, segments = copy
    segments[2].rename(path / f"{999:020}.log")
    with pytest.raises(rec.LogError, match=r"its header is that of 0+201\.log"):
        EventLog(path)
    with EventLog(tmp_path / "other", sync="never", segment_bytes=4096) as log:
        for _ in range(3):
            log.append_many(range(100), range(100))
    shutil.copy(tmp_path / "other" / segments[2].name, path)
    (path / f"{999:020}.log").unlink()
    with pytest.raises(rec.LogError, match="must be of log"):
        list(EventLog.tail(path))


def test_foreign_and_newer_files_are_refused(segment):
    intact = segment.read_bytes()
    for content, message in (
        (b"", "is not a segment of an event log"),
        (b"\x00" * 200, "is not a segment of an event log"),
        (intact[:8] + b"\x02" + intact[9:], "its header fails its CRC"),
    ):
        segment.write_bytes(content)
        with pytest.raises(rec.LogError, match=message):
            EventLog(segment.parent)


def test_a_payload_that_nobody_writes_is_refused(segment):
    seed, intact = read_header(segment).seed, segment.read_bytes()
    for payload in (
        b"\x09",
        b"\x00" * 9,
        b"\x03" + bytes(8) + b"\xff\xff\xff\x7fx",
        b"\x08",
        b"\x80",
    ):
        segment.write_bytes(intact + framed(payload, 5, 4, seed))
        with pytest.raises(rec.LogError, match=f"record 5 at byte {len(intact)} is not what"):
            list(EventLog.tail(segment.parent))
