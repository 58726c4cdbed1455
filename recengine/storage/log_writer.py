"""The one writer of an event log: records in order, flushes shared, files that come and go."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from io import FileIO
from itertools import pairwise
from pathlib import Path

from recengine.storage.file_lock import flush, flush_folder, hold
from recengine.storage.log_opening import Written, begun, opened
from recengine.storage.log_records import CHANGE, KINDS
from recengine.storage.log_segments import FRAME, HEADER_BYTES, framed, listed, name_of

_log = logging.getLogger("recengine")
_writers: weakref.WeakSet[LogWriter]
_ROLES = ("user_id", "item_id")


class LogWriter:
    """Write records to the folder of a log; thread-safe.

    Parameters
    ----------
    folder : Path
    interval : float
        Seconds between flushes; 0: `wait` flushes; infinite: only `flush`, a full segment and
        `close` do.
    segment_bytes : int
        A segment that would grow beyond this is followed by another.
    cut : bool
        Whether damage at the end may be cut like a torn record.

    Notes
    -----
    `_lock` is held to write, `_flushing` to flush; who needs both takes `_lock` first. A flush
    makes durable what others have written meanwhile, and they find it done.
    """

    def __init__(self, folder: Path, interval: float, segment_bytes: int, *, cut: bool) -> None:
        self.folder, self._interval, self._segment_bytes = folder, interval, segment_bytes
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = ""
        self._failure: OSError | None = None
        self._dirty = False
        if not folder.is_dir():
            folder.mkdir()
            flush_folder(folder.parent)
        self._guard = hold(folder / "lock")
        try:
            self._written, self._kinds, self.n_torn = opened(folder, cut=cut)
        except BaseException:
            self._guard.close()
            raise
        self._durable = self._written.sequence
        _writers.add(self)

    @property
    def log(self) -> str:
        """The id of the log, hexadecimal."""
        return self._written.segment.log

    @property
    def sequence(self) -> int:
        """The number of the last record; 0 in a log without any."""
        return self._written.sequence

    # --- writing --------------------------------------------------------------------------------

    def write(self, payloads: Sequence[bytes], after: int | None = None) -> int:
        """Hand records to the system, where the end of the process does not lose them.

        Parameters
        ----------
        payloads : sequence of bytes
            At least one.
        after : int, optional
            What must be the number of the last record so far.

        Returns
        -------
        int
            The number of the last of them; `wait` for it before telling anybody.
        """
        with self._lock:
            self._check()
            if self._dirty:
                self._undo()
            if after is not None and after != self.sequence:
                raise ValueError(
                    f"the log must be written by one engine alone: its last record is "
                    f"{self.sequence}, not {after}"
                )
            kinds = self._kinds_of(payloads)
            n_bytes = sum(map(len, payloads)) + FRAME.size * len(payloads)
            held = self._written.end
            if held > HEADER_BYTES and held + n_bytes > self._segment_bytes:
                self._rotate()
            segment, file, end, sequence = self._written
            known = sequence if self._interval else self._durable
            data = b"".join(
                framed(payload, number, known, segment.seed)
                for number, payload in enumerate(payloads, sequence + 1)
            )
            if 0 < self._interval < float("inf") and self._timer is None:
                self._start_timer()
            self._dirty = True
            try:
                _write_all(file, data)
                last = sequence + len(payloads)
                self._written = Written(segment, file, end + len(data), last)
                self._kinds = kinds
                self._dirty = False
            except BaseException:
                self._undo()
                raise
        return last

    def _undo(self) -> None:
        """Cut what an interrupted write, or a full disk, left half done."""
        self._written.file.truncate(self._written.end)
        self._dirty = False

    def _kinds_of(self, payloads: Sequence[bytes]) -> int | None:
        kinds = self._kinds
        for payload in payloads:
            if payload[0] < CHANGE:
                mine = payload[0] & KINDS
                kinds = mine if kinds is None else kinds
                if mine != kinds:
                    bit = 0 if (mine ^ kinds) & 1 else 1
                    want, got = ("a str", "an integer")[:: 1 if kinds >> bit & 1 else -1]
                    raise TypeError(
                        f"{_ROLES[bit]} must be {want}, as the log's ids are, got {got}"
                    )
        return kinds

    def _rotate(self) -> None:
        with self._flushing:
            self._flush()
            segment, file, _, sequence = self._written
            path = self.folder / name_of(sequence + 1)
            try:
                new = begun(self.folder, segment.log, sequence + 1, self._kinds)
                self._written = Written(new, FileIO(path, "a"), HEADER_BYTES, sequence)
            except BaseException:
                self._failure = OSError(errno.EIO, "a segment could not be begun", str(path))
                path.unlink(missing_ok=True)  # or records would go on before it
                flush_folder(self.folder)
                self._failure = None
                raise
            file.close()

    def truncate(self, before: int) -> None:
        """Delete the segments that hold nothing but records before a number."""
        with self._lock:
            self._check()
            paths = listed(self.folder)
            for path, follower in pairwise(paths):
                if int(follower.stem) > before:
                    break
                try:
                    path.unlink()
                except PermissionError:
                    if sys.platform != "win32":
                        raise
                    break  # somebody reads it: it goes the next time
            flush_folder(self.folder)

    # --- the disk -------------------------------------------------------------------------------

    def wait(self, sequence: int) -> None:
        """Return when the record is as safe as the log promises."""
        if self._interval == 0:
            self.flush(sequence)

    def flush(self, sequence: int | None = None) -> None:
        """Return when a record (all of them when omitted) and those before it are on the disk."""
        wanted = self.sequence if sequence is None else sequence
        if self._durable >= wanted:
            return
        with self._flushing:
            if self._durable < wanted:
                self._check()
                self._flush()

    def _flush(self) -> None:
        """Flush the last segment; `_flushing` is held. After a failure nothing is tried again."""
        written = self._written
        try:
            flush(written.file.fileno())
        except OSError as error:
            self._failure = OSError(error.errno, error.strerror, str(written.segment.path))
            raise self._failure from error
        self._durable = written.sequence

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._interval, self._flush_in_time)
        self._timer.daemon = True
        self._timer.start()

    def _flush_in_time(self) -> None:
        with self._lock:  # not before the write that started it has ended
            self._timer = None
        with self._flushing:
            if not self._closed and self._failure is None:
                try:
                    self._flush()
                except OSError as error:  # and every later write raises it
                    _log.error("the log could not be flushed: %s", error)

    def _check(self) -> None:
        if self._closed:
            raise ValueError(f"the log {str(self.folder)!r} must be open, but it {self._closed}")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Flush, and let another writer in; a second call does nothing."""
        with self._lock, self._flushing:
            if self._closed:
                return
            try:
                if self._dirty:
                    self._undo()
                if self._failure is None:
                    self._flush()
            finally:
                self._closed = "was closed"
                if self._timer is not None:
                    self._timer.cancel()
                self._written.file.close()
                self._guard.close()

    def leave_to_parent(self) -> None:
        """Close a forked child's copies of the files; the parent's lock and files stay."""
        if not self._closed:
            self._closed = "belongs to the process that forked this one: open it here"
            self._lock, self._flushing = threading.Lock(), threading.Lock()
            self._written.file.close()
            self._guard.close()


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


_writers = weakref.WeakSet()


def _leave_to_parent() -> None:
    for writer in list(_writers):
        writer.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
