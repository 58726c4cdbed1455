"""What a record of an event log says: an event in a few bytes, or a change that needs arrays."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._types import ItemId
from recengine.storage.layout import Entry, aligned, as_storable, layout_of

_USER_STR, _ITEM_STR, _TIMED = 1, 2, 4  # bits of the first byte of an event
KINDS = _USER_STR | _ITEM_STR
CHANGE = 8  # the first byte of anything else
_FRONT, _NUMBER, _LENGTH = struct.Struct("<Bd"), struct.Struct("<q"), struct.Struct("<I")
_PLAIN, _PLAIN_TIMED = struct.Struct("<Bdqq"), struct.Struct("<Bdqqq")


class Event(NamedTuple):
    """One event of a log.

    Attributes
    ----------
    sequence : int
        Its number: 1 for the first record of a log, one more for each that follows.
    user_id, item_id : int or str
    weight : float
    timestamp : int or None
        Seconds since 1970 (UTC), where one was given.
    """

    sequence: int
    user_id: ItemId
    item_id: ItemId
    weight: float
    timestamp: int | None


class Change(NamedTuple):
    """Something else that happened between events, as named arrays.

    Attributes
    ----------
    sequence : int
        Its number, counted together with those of events.
    kind : str
        What it is; its writer knows.
    arrays : dict of str to ndarray
        Read-only.
    """

    sequence: int
    kind: str
    arrays: dict[str, NDArray[Any]]


Record: TypeAlias = Event | Change


def event_payload(user_id: ItemId, item_id: ItemId, weight: float, timestamp: int | None) -> bytes:
    """Return an event as bytes; its ids are valid already."""
    timed = 0 if timestamp is None else _TIMED
    if not isinstance(user_id, str) and not isinstance(item_id, str):
        if timestamp is None:
            return _PLAIN.pack(0, weight, user_id, item_id)
        return _PLAIN_TIMED.pack(_TIMED, weight, timestamp, user_id, item_id)
    kinds = _USER_STR * isinstance(user_id, str) | _ITEM_STR * isinstance(item_id, str)
    time = b"" if timestamp is None else _NUMBER.pack(timestamp)
    return _FRONT.pack(kinds | timed, weight) + time + _id_bytes(user_id) + _id_bytes(item_id)


def change_payload(kind: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a change as bytes: JSON of kind and layout, then the arrays as in a bundle."""
    entries: list[Entry] = []
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        plain = as_storable(name, array)
        entries.append(Entry(name, plain.dtype, plain.shape, offset, plain.nbytes, ""))
        parts += [plain.tobytes(), bytes(aligned(plain.nbytes) - plain.nbytes)]
        offset = aligned(offset + plain.nbytes)
    told = json.dumps({"kind": kind, "arrays": [entry.as_json() for entry in entries]}).encode()
    return b"".join([bytes([CHANGE]), _LENGTH.pack(len(told)), told, *parts])


def record_of(sequence: int, payload: memoryview) -> Record:
    """Return the record that a payload says.

    Raises
    ------
    ValueError
        For what neither `event_payload` nor `change_payload` writes.
    """
    first = payload[0]
    try:
        if first == 0:
            _, weight, user, item = _PLAIN.unpack(payload)
            return Event(sequence, user, item, weight, None)
        if first == _TIMED:
            _, weight, time, user, item = _PLAIN_TIMED.unpack(payload)
            return Event(sequence, user, item, weight, time)
        if first == CHANGE:
            return _change(sequence, payload)
        if first < CHANGE:
            return _event(sequence, payload)
    except (struct.error, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"a record of kind {first} is not written so") from error
    raise ValueError(f"no record is of kind {first}")


def _event(sequence: int, payload: memoryview) -> Event:
    flags, weight = _FRONT.unpack_from(payload)
    place, time = _FRONT.size, None
    if flags & _TIMED:
        (time,) = _NUMBER.unpack_from(payload, place)
        place += _NUMBER.size
    user, place = _id_at(payload, place, flags & _USER_STR)
    item, place = _id_at(payload, place, flags & _ITEM_STR)
    if place != len(payload):
        raise ValueError(f"an event has {len(payload) - place} bytes too many")
    return Event(sequence, user, item, weight, time)


def _change(sequence: int, payload: memoryview) -> Change:
    (length,) = _LENGTH.unpack_from(payload, 1)
    start = 1 + _LENGTH.size + length
    told = json.loads(bytes(payload[1 + _LENGTH.size : start]))
    raw = payload[start:]
    arrays = {}
    for entry in layout_of("a change", told["arrays"], len(raw)):
        count = entry.n_bytes // entry.dtype.itemsize
        array = np.empty(entry.shape, entry.dtype)  # aligned, and of its own memory
        if count:
            array.reshape(-1)[:] = np.frombuffer(raw, entry.dtype, count, entry.offset)
        array.flags.writeable = False
        arrays[entry.name] = array
    return Change(sequence, str(told["kind"]), arrays)


def _id_bytes(value: ItemId) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return _LENGTH.pack(len(text)) + text
    return _NUMBER.pack(value)


def _id_at(payload: memoryview, place: int, is_str: int) -> tuple[ItemId, int]:
    if not is_str:
        return _NUMBER.unpack_from(payload, place)[0], place + _NUMBER.size
    start = place + _LENGTH.size
    end = start + _LENGTH.unpack_from(payload, place)[0]
    if end > len(payload):
        raise ValueError("an id ends behind its event")
    return str(payload[start:end], "utf-8"), end
