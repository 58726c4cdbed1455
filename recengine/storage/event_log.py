"""EventLog: what happened, in order, on the disk before anybody is told that it is known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recengine._types import ItemId
from recengine._validation import as_count, as_id, as_ids, as_real
from recengine.storage.log_arguments import INT64_MAX, as_interval, as_time, as_times, as_weights
from recengine.storage.log_reader import LogReader
from recengine.storage.log_records import Event, event_payload
from recengine.storage.log_writer import LogWriter

_AT_ONCE = 4096  # events that `append_many` hands over together


class EventLog:
    """An append-only log of events that survives the end of the process, and of power.

    Parameters
    ----------
    path : path-like
        A folder, made if it is not there (its parent must be). It holds the segments of the log
        and the file ``lock``.
    sync : "always", "never" or float
        What an append that has returned is safe against. In every case the end of the process,
        ``kill -9`` too: the system has the event. A failure of the machine or its power loses

        - "always": nothing. Each append waits for the disk; threads that append at once share
          that wait.
        - a number of seconds, > 0: at most the events of that time.
        - "never": what the system had not written yet, often the last half minute.
    segment_bytes : int
        Size at which a segment ends and another begins, >= 4,096; `truncate` deletes whole ones.
    on_damage : {"raise", "cut"}
        What to do on open where an acknowledged event of the last segment is bad: raise, or cut it
        off with all that follow. After a power failure under another `sync` than "always" that can
        be what is left.

    Attributes
    ----------
    n_torn : int
        How many bytes opening cut from the end: a record whose append never returned. A warning of
        the logger ``recengine`` names file and record.

    Raises
    ------
    BlockingIOError
        It is open for writing already, here or in another process.
    LogError
        The last segment is damaged or of another format.
    OSError
        From the system.

    Notes
    -----
    Thread-safe. Ids are int64 or str, one kind throughout for users and one for items. Each record
    has a CRC-32, which tells any one damaged byte and all but one of 2^32 other damages. After a
    failed flush the system does not say what it still holds, so every later append raises; what
    was acknowledged before is on the disk, and opening anew goes on from there.

    A forked child shares nothing: its copy of the log refuses to write, and the parent's goes on.
    Nothing in a log is ever executed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: str | float = "always",
        segment_bytes: int = 16 << 20,
        on_damage: str = "raise",
    ) -> None:
        if on_damage not in ("raise", "cut"):
            raise ValueError(f"on_damage must be 'raise' or 'cut', got {on_damage!r}")
        self.writer = LogWriter(
            Path(path).absolute(),
            as_interval(sync),
            as_count("segment_bytes", segment_bytes, minimum=4096),
            cut=on_damage == "cut",
        )

    @property
    def path(self) -> Path:
        """The folder."""
        return self.writer.folder

    @property
    def id(self) -> str:
        """What tells this log from every other, hexadecimal; it is given once, when it is made."""
        return self.writer.log

    @property
    def sequence(self) -> int:
        """The number of the last record; 0 in a log without any."""
        return self.writer.sequence

    @property
    def n_torn(self) -> int:
        """How many bytes opening cut from the end."""
        return self.writer.n_torn

    def append(
        self, user_id: ItemId, item_id: ItemId, weight: float = 1.0, timestamp: int | None = None
    ) -> int:
        """Write one event; when this returns it is as safe as `sync` says.

        Parameters
        ----------
        user_id, item_id : int or str
        weight : float
            Finite.
        timestamp : int, optional
            Seconds since 1970 (UTC).

        Returns
        -------
        int
            The event's number: 1 for the first record, one more for each.

        Raises
        ------
        ValueError, TypeError
            Wrong arguments, or a log that is closed; nothing was written then.
        OSError
            From the system, a full disk for example: nothing was written then. Where it is the
            flush that failed, the event may be there or not, as after a failure of power.
        """
        payload = event_payload(
            as_id("user_id", user_id),
            as_id("item_id", item_id),
            as_real("weight", weight),
            None if timestamp is None else as_time("timestamp", timestamp),
        )
        sequence = self.writer.write([payload])
        self.writer.wait(sequence)
        return sequence

    def append_many(
        self, user_ids: Any, item_ids: Any, weights: Any = None, timestamps: Any = None
    ) -> int:
        """Write many events for the price of one wait; when this returns all are safe.

        Parameters
        ----------
        user_ids, item_ids : array-like (n,), integers or str
        weights : array-like (n,), finite numbers, optional
            1 when omitted.
        timestamps : array-like (n,), integers, optional
            Seconds since 1970 (UTC).

        Returns
        -------
        int
            The number of the last record; that of the log when there are no events.

        Raises
        ------
        ValueError, TypeError, OSError
            As for `append`. A process that is killed in between leaves the first so many.

        Notes
        -----
        Their numbers ascend; beyond 4,096 events those of other threads may stand between.
        """
        users, items = as_ids("user_ids", user_ids), as_ids("item_ids", item_ids)
        numbers = np.ones(len(users)) if weights is None else as_weights(weights)
        times = [None] * len(users) if timestamps is None else as_times(timestamps)
        for name, column in (("item_ids", items), ("weights", numbers), ("timestamps", times)):
            if len(column) != len(users):
                raise ValueError(
                    f"{name} must have one entry per user id ({len(users)}), got {len(column)}"
                )
        payloads = map(event_payload, users.tolist(), items.tolist(), numbers.tolist(), times)
        sequence = self.sequence
        while chunk := list(islice(payloads, _AT_ONCE)):
            sequence = self.writer.write(chunk)
        self.writer.wait(sequence)
        return sequence

    def replay(self, after: int | None = None) -> Iterator[Event]:
        """Iterate over the events in order, each once, up to the last there is.

        Parameters
        ----------
        after : int, optional
            Begin behind the record of this number; with the first there is when omitted.

        Returns
        -------
        iterator of Event
            ``(sequence, user_id, item_id, weight, timestamp)``.

        Raises
        ------
        LogError
            A record is damaged: file and offset are named, nothing is skipped. Or `truncate` has
            deleted some of those after `after`.
        """
        return iter(self.tail(self.path, after))

    @staticmethod
    def tail(path: str | os.PathLike[str], after: int | None = None) -> LogReader:
        """Open a log for reading, also while another process writes it.

        Parameters
        ----------
        path : path-like
            The folder of the log.
        after : int, optional
            As of `replay`.

        Returns
        -------
        LogReader
            Loop over it for the events there are, and again for those that came since.
        """
        return LogReader(
            Path(path).absolute(),
            None if after is None else as_count("after", after, maximum=INT64_MAX),
        )

    def sync(self) -> None:
        """Return when everything that was appended is on the disk, whatever the policy."""
        self.writer.flush()

    def truncate(self, before: int) -> None:
        """Delete segments in which every event comes before a number; the last one stays.

        Parameters
        ----------
        before : int
            ``log.truncate(before=engine.save(path))`` keeps what the saved engine lacks.

        Raises
        ------
        ValueError
            `before` is beyond the last record.
        """
        number = as_count("before", before, maximum=INT64_MAX)
        if number > self.sequence + 1:
            raise ValueError(f"before must be <= {self.sequence + 1}, got {number}")
        self.writer.truncate(number)

    def close(self) -> None:
        """Bring everything to the disk and end; a second call does nothing."""
        self.writer.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EventLog({str(self.path)!r}, sequence={self.sequence})"
