"""How the writer of an event log comes to its last segment: found, cut where torn, or begun."""

from __future__ import annotations

import logging
import secrets
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from recengine.storage.atomic import replacing
from recengine.storage.file_lock import flush
from recengine.storage.log_segments import (
    HEADER_BYTES,
    Segment,
    header_bytes,
    listed,
    name_of,
    read_header,
    recover,
)

_log = logging.getLogger("recengine")


class Written(NamedTuple):
    """All that changes with a write, replaced as one: where the next record goes."""

    segment: Segment
    file: FileIO
    end: int
    sequence: int


def begun(folder: Path, log: str, first: int, kinds: int | None) -> Segment:
    """Make a segment without records; it is there whole or not at all."""
    path = folder / name_of(first)
    with replacing(path) as stream:
        stream.write(header_bytes(log, first, kinds))
    return read_header(path)


def opened(folder: Path, *, cut: bool) -> tuple[Written, int | None, int]:
    """Return (the end of a log, the kinds of its ids, how many bytes were cut there).

    A log that is not there is begun. What is there is on the disk when this returns.
    """
    paths = listed(folder)
    if not paths:
        segment = begun(folder, secrets.token_hex(16), 1, None)
        return Written(segment, FileIO(segment.path, "a"), HEADER_BYTES, 0), None, 0
    found = recover(paths[-1], cut=cut)
    file = FileIO(paths[-1], "a")
    try:
        if found.n_torn:
            _log.warning(
                "%s: cut %d bytes behind record %d, which are no whole record",
                paths[-1],
                found.n_torn,
                found.sequence,
            )
            file.truncate(found.end)
        flush(file.fileno())
    except BaseException:
        file.close()
        raise
    return Written(found.segment, file, found.end, found.sequence), found.kinds, found.n_torn
