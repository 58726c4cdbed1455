"""Files that recengine saves: aligned arrays and a JSON manifest, nothing that is executed.

A bundle is one file: a 64-byte header, a JSON manifest, then raw little-endian arrays, each at a
multiple of 64 bytes, so that a reader maps the file and uses the arrays where they lie. The header
holds the length of the file and the digest of the manifest; the manifest holds kind, schema, the
version of recengine that wrote it, the caller's `meta`, and name, dtype, shape, offset and digest
of every array; the padding between is zero. Every byte is therefore covered by a check, and
whatever is wrong is a `BundleError`, never a crash and never another answer.

Writing happens aside and ends in one rename, so a path holds the old file or the new one
(`atomic`). Text goes through `columns`: strings become offsets and UTF-8 bytes.

An `EventLog` is a folder of segments that only grow at the end. `log_records` says what a record
holds, `log_segments` how it is framed and checked, `log_writer` is the one process and lock that
appends, flushes and begins segments, `log_reader` reads behind it. What was acknowledged is there
or a `LogError` names file and offset; only what nobody was told of may be cut.
"""

from recengine.storage.bundle import Bundle, read_bundle, write_bundle
from recengine.storage.columns import (
    pack_columns,
    pack_ids,
    pack_strings,
    unpack_columns,
    unpack_ids,
    unpack_strings,
)
from recengine.storage.event_log import EventLog
from recengine.storage.log_reader import LogReader
from recengine.storage.log_records import Change, Event, Record, change_payload, event_payload
from recengine.storage.pieces import Pieces

__all__ = [
    "Bundle",
    "Change",
    "Event",
    "EventLog",
    "LogReader",
    "Pieces",
    "Record",
    "change_payload",
    "event_payload",
    "pack_columns",
    "pack_ids",
    "pack_strings",
    "read_bundle",
    "unpack_columns",
    "unpack_ids",
    "unpack_strings",
    "write_bundle",
]
