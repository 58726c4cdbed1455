"""Reading an event log in order, each record once, also while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recengine._errors import LogError
from recengine.storage.log_records import Event, Record, record_of
from recengine.storage.log_segments import (
    FRAME,
    HEADER_BYTES,
    Frame,
    Segment,
    damaged,
    frames,
    is_damage,
    listed,
    name_of,
    read_header,
)


class LogReader:
    """What a log holds after a record, and what comes later; made by `EventLog.tail`.

    Each loop over it goes on where the last one ended, and ends with the last record there is::

        tail = rec.EventLog.tail("events", after=120)
        while True:
            for event in tail:
                ...
            time.sleep(0.1)

    Attributes
    ----------
    sequence : int
        The number of the last record that was read.

    Notes
    -----
    It takes no lock and may read in another process than the one that writes. It may see an event
    a moment before the event is durable. One thread at a time.
    """

    def __init__(self, folder: Path, after: int | None = None) -> None:
        self._folder = folder
        self._segment, self.sequence = _begin(folder, after)
        self._wanted = self.sequence if after is None else after
        self._offset = HEADER_BYTES

    def __iter__(self) -> Iterator[Event]:
        return (record for record in self.records() if isinstance(record, Event))

    def records(self) -> Iterator[Record]:
        """Yield events and what else an engine wrote between them."""
        suspect = -1
        while True:
            path = self._segment.path
            follower = next((name for name in listed(self._folder) if name.name > path.name), None)
            with path.open("rb") as stream:
                stream.seek(self._offset)
                data = memoryview(stream.read())
            base, end = self._offset, 0
            for frame in frames(data, self._segment, self.sequence + 1):
                end = frame.end
                self.sequence, self._offset = frame.sequence, base + end
                if frame.sequence > self._wanted:
                    yield _decoded(self._segment, base, frame, data)
            if follower is not None:  # and it was there before this segment was read
                if end < len(data) or follower.name != name_of(self.sequence + 1):
                    raise damaged(self._segment, self._offset, self.sequence + 1)
                self._go_on(follower)
            elif not is_damage(data[end:], self._offset, self._segment, self.sequence + 1):
                return
            elif suspect == self._offset:  # the same twice is no record that is being written
                raise damaged(self._segment, self._offset, self.sequence + 1)
            else:
                suspect = self._offset

    def _go_on(self, follower: Path) -> None:
        segment = read_header(follower)
        if segment.log != self._segment.log:
            raise LogError(f"{follower} must be of log {self._segment.log}", follower, 0)
        self._segment, self._offset = segment, HEADER_BYTES


def _begin(folder: Path, after: int | None) -> tuple[Segment, int]:
    """Return (the segment to begin with, the number before its first record)."""
    while True:
        paths = listed(folder)
        if not paths:
            raise FileNotFoundError(f"{folder} holds no event log")
        older = [path for path in paths if after is None or path.name <= name_of(after + 1)]
        if not older:
            raise LogError(
                f"{folder} must hold the records after {after}, got {int(paths[0].stem)} as its "
                "first: the others were truncated",
                paths[0],
            )
        try:
            segment = read_header(older[0] if after is None else older[-1])
        except FileNotFoundError:  # truncated just now
            continue
        return segment, segment.first - 1


def _decoded(segment: Segment, base: int, frame: Frame, data: memoryview) -> Record:
    try:
        return record_of(frame.sequence, data[frame.start : frame.end])
    except ValueError as error:
        start = base + frame.start - FRAME.size
        raise damaged(segment, start, frame.sequence) from error
