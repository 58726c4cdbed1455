"""The files of an event log: their format, and reading them with suspicion.

A log is a folder of segments, each named by the number of its first record. A segment is a 64-byte
header (magic, format, kinds of ids, the log's own id, first number, CRC-32) and records: CRC-32,
length, number, and how far behind the number the last *acknowledged* record was when this one was
written. The CRC covers all of a record and begins with that of the header, so a record counts only
in its own segment.

What a killed process or a power failure leaves is at the end: part of a record, or records with
sectors that are zero. Nothing of it was acknowledged, so it may be cut. A bad record that a later
one knows as acknowledged, or that is bad in another way with whole ones behind it, is damage: a
`LogError`. All segments but the last were flushed before the next began; there nothing may be bad.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recengine._errors import LogError
from recengine.storage.log_records import CHANGE, KINDS

MAGIC, FORMAT = b"RECEVLOG", 1
HEADER = struct.Struct("<8sIB3x16sQ20x")  # magic, format, kinds of ids, log, first number
_CRC = struct.Struct("<I")
HEADER_BYTES = HEADER.size + _CRC.size
FRAME = struct.Struct("<IIQI")  # CRC, bytes of the payload, number, distance to the acknowledged
_BODY = struct.Struct("<IQI")
_NUMBER_AT = 8
_SECTOR = 512
_NAME = re.compile(r"\d{20}\.log")


@dataclass(frozen=True)
class Segment:
    """One file of a log.

    Attributes
    ----------
    path : Path
    first : int
        The number of its first record.
    log : str
        The id of the log, hexadecimal.
    kinds : int or None
        Bits that tell whose ids are str, as in an event; None: not known when it was begun.
    seed : int
        What the CRC of its records begins with.
    """

    path: Path
    first: int
    log: str
    kinds: int | None
    seed: int


class Frame(NamedTuple):
    """A whole record: its number, what it knows as acknowledged, and where its payload lies."""

    sequence: int
    acknowledged: int
    start: int
    end: int


def header_bytes(log: str, first: int, kinds: int | None) -> bytes:
    """Return the header of a segment."""
    told = 0 if kinds is None else kinds + 1
    front = HEADER.pack(MAGIC, FORMAT, told, bytes.fromhex(log), first)
    return front + _CRC.pack(zlib.crc32(front))


def read_header(path: Path) -> Segment:
    """Return what the header of a segment says, after checking it."""
    with path.open("rb") as stream:
        raw = stream.read(HEADER_BYTES)
    if not raw.startswith(MAGIC):
        raise LogError(f"{path} is not a segment of an event log", path, 0)
    if len(raw) < HEADER_BYTES:
        raise LogError(f"{path} is cut short: {len(raw)} bytes", path, len(raw))
    (seed,) = _CRC.unpack_from(raw, HEADER.size)
    _, version, told, log, first = HEADER.unpack_from(raw)
    if zlib.crc32(raw[: HEADER.size]) != seed:
        raise LogError(f"{path} is damaged: its header fails its CRC", path, 0)
    if version != FORMAT:
        raise LogError(f"{path} must have log format {FORMAT}, got {version}", path, 0)
    if path.name != name_of(first) or told > KINDS + 1:
        raise LogError(f"{path} is damaged: its header is that of {name_of(first)}", path, 0)
    return Segment(path, first, log.hex(), told - 1 if told else None, seed)


def name_of(first: int) -> str:
    """Return the file name of the segment that begins with this number."""
    return f"{first:020}.log"


def listed(folder: Path) -> list[Path]:
    """Return the segments in a folder, in order; `FileNotFoundError` where it is not there."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def framed(payload: bytes, sequence: int, acknowledged: int, seed: int) -> bytes:
    """Return the bytes of a record."""
    body = _BODY.pack(len(payload), sequence, sequence - acknowledged) + payload
    return _CRC.pack(zlib.crc32(body, seed)) + body


def frame_at(data: memoryview, offset: int, seed: int) -> Frame | None:
    """Return the whole record that begins at an offset; None where there is none."""
    start = offset + FRAME.size
    if start >= len(data):
        return None
    crc, length, sequence, distance = FRAME.unpack_from(data, offset)
    end = start + length
    if length == 0 or end > len(data):
        return None
    if zlib.crc32(data[offset + _CRC.size : end], seed) != crc:
        return None
    return Frame(sequence, sequence - distance, start, end)


def frames(data: memoryview, segment: Segment, sequence: int) -> Iterator[Frame]:
    """Yield the records that follow each other from the start of `data`, numbered in order."""
    offset = 0
    while (frame := frame_at(data, offset, segment.seed)) and frame.sequence == sequence:
        yield frame
        offset, sequence = frame.end, sequence + 1


def is_damage(rest: memoryview, base: int, segment: Segment, sequence: int) -> bool:
    """Tell whether bytes that are not record `sequence` once were, and were acknowledged.

    The proof is a whole record behind it: one that knows it as acknowledged, or one that a
    failure of power does not explain, which loses sectors and leaves zeros. O(bytes).

    Parameters
    ----------
    rest : memoryview
        The segment from byte `base` to its end.
    """
    most = sequence + len(rest) // FRAME.size
    first = 0
    for offset in reversed(_places(rest, sequence, most)):  # the last one knows most
        frame = frame_at(rest, offset, segment.seed)
        if frame is not None:
            if frame.acknowledged >= sequence or offset == 0:
                return True
            first = offset
    return first > 0 and not _has_hole(rest[:first], base)


def _has_hole(data: memoryview, base: int) -> bool:
    """Tell whether the end, or all, of a sector of the disk is zero in `data`."""
    start = 0
    while start < len(data):
        end = start + _SECTOR - (base + start) % _SECTOR
        if end <= len(data) and not any(data[start:end]):
            return True
        start = end
    return False


def _places(data: memoryview, least: int, most: int) -> list[int]:
    """Return the offsets at which a record with a number in [`least`, `most`] could begin."""
    found = []
    for shift in range(8):
        count = (len(data) - _NUMBER_AT - shift) // 8
        if count > 0:
            numbers = np.frombuffer(data, "<u8", count, _NUMBER_AT + shift)
            found.append(np.flatnonzero((numbers >= least) & (numbers <= most)) * 8 + shift)
    places: list[int] = np.sort(np.concatenate(found)).tolist() if found else []
    return places


def damaged(segment: Segment, offset: int, sequence: int) -> LogError:
    """Return the error of a bad record."""
    return LogError(
        f"{segment.path} is damaged: record {sequence} at byte {offset} is not what was written",
        segment.path,
        offset,
    )


@dataclass(frozen=True)
class Recovered:
    """What the last segment of a log holds: records up to `end`, then `n_torn` bytes of none."""

    segment: Segment
    end: int
    sequence: int
    kinds: int | None
    n_torn: int


def recover(path: Path, *, cut: bool) -> Recovered:
    """Read the last segment of a log that nobody writes.

    Raises
    ------
    LogError
        Where an acknowledged record is bad, unless `cut` says that it may be lost.
    """
    segment = read_header(path)
    data = memoryview(path.read_bytes())[HEADER_BYTES:]
    end, sequence, kinds = 0, segment.first - 1, segment.kinds
    for frame in frames(data, segment, segment.first):
        end, sequence = frame.end, frame.sequence
        if kinds is None and data[frame.start] < CHANGE:
            kinds = data[frame.start] & KINDS
    if (
        end < len(data)
        and not cut
        and is_damage(data[end:], HEADER_BYTES + end, segment, sequence + 1)
    ):
        raise damaged(segment, HEADER_BYTES + end, sequence + 1)
    return Recovered(segment, HEADER_BYTES + end, sequence, kinds, len(data) - end)
