"""What an engine writes to its event log, and how a state follows a log.

An event is logged as it is; added items with the vectors and attributes that were worked out for
them, so that no encoder is asked again; removed items by their ids. `replayed` does with a record
what the engine did when it wrote it, so the state has the bits it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from recengine._errors import LogError, UnknownItemError
from recengine._types import Float32Array, IdArray, ItemId
from recengine._validation import as_count, as_real
from recengine.engine.attributes import Columns
from recengine.engine.state import State
from recengine.engine.update import new_vectors, observed, with_items, without_items
from recengine.storage import (
    Change,
    Event,
    EventLog,
    Record,
    change_payload,
    pack_columns,
    pack_ids,
    unpack_columns,
    unpack_ids,
)

_ADDED, _REMOVED = "items added", "items removed"
_LEAST, _MOST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
_AT_ONCE = 65536  # events whose users are solved anew together


def as_strength(name: str, weight: Any) -> float:
    """Return the weight of an event as a float > 0 that float32 can hold."""
    strength = as_real(name, weight, minimum=0, exclusive=True)
    if not _LEAST <= strength <= _MOST:
        raise ValueError(f"{name} must fit float32, got {strength:g}")
    return strength


def added(ids: IdArray, vectors: Float32Array | None, columns: Columns) -> bytes:
    """Return what the log says of added items."""
    arrays = pack_ids("ids", ids) | pack_columns("columns", columns)
    return change_payload(_ADDED, arrays if vectors is None else arrays | {"vectors": vectors})


def removed(ids: IdArray) -> bytes:
    """Return what the log says of removed items."""
    return change_payload(_REMOVED, pack_ids("ids", ids))


def start_of(state: State, log: EventLog, after: Any) -> int:
    """Return the number of the log's record up to which a state holds all, after checking it."""
    if not isinstance(log, EventLog):
        raise TypeError(f"log must be an EventLog, got {type(log).__name__}")
    if after is not None:
        return as_count("after", after, maximum=log.sequence)
    if state.log not in ("", log.id):
        raise ValueError(
            f"log must be {state.log}, whose events this engine holds, got {log.id}; `after` says "
            "how many of another one it holds"
        )
    if state.sequence > log.sequence:
        raise ValueError(
            f"log must reach record {state.sequence}, which this engine holds, got one of "
            f"{log.sequence}: records were lost"
        )
    return state.sequence


def replayed(
    state: State, records: Iterable[Record], log: str, note: Callable[[ItemId, int], object]
) -> State:
    """Return the state after some records of a log, in order; each user is solved once.

    `note` is told user and ordinal of each event.

    Raises
    ------
    UnknownItemError
        An event is about an item that is not in the catalogue then.
    LogError
        A record is none that an engine writes.
    """
    events: list[tuple[ItemId, int, float]] = []
    last = state.sequence
    for record in records:
        last = record.sequence
        if isinstance(record, Event):
            events.append(_event(state, record))
            note(*events[-1][:2])
        if events and (isinstance(record, Change) or len(events) == _AT_ONCE):
            state, events = observed(state, events), []
        if isinstance(record, Change):
            state = _changed(state, record)
    if events:
        state = observed(state, events)
    return replace(state, log=log, sequence=last) if (log, last) != state.position else state


def _event(state: State, event: Event) -> tuple[ItemId, int, float]:
    name = f"of record {event.sequence} of the log"
    try:
        ordinal = state.catalogue.ordinal(f"item_id {name}", event.item_id)
    except UnknownItemError as error:
        raise UnknownItemError(
            f"{error}: load the engine without its log, add the item, save, and load with the log"
        ) from None
    user = state.user(event.user_id)
    return user, ordinal, as_strength(f"weight {name}", event.weight)


def _changed(state: State, change: Change) -> State:
    if change.kind not in (_ADDED, _REMOVED):
        raise LogError(f"record {change.sequence} must be a change of items, got {change.kind!r}")
    ids = unpack_ids("ids", change.arrays)
    if change.kind == _REMOVED:
        return without_items(state, state.catalogue.known_ordinals("ids", ids))
    table = new_vectors(state, len(ids), None, change.arrays.get("vectors"))
    return with_items(state, ids, table, unpack_columns("columns", change.arrays))
