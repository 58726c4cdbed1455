"""How an id finds its row number: the two tables behind `IdMap`, and the numbering of events."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import IdArray, Int64Array

INT64 = np.iinfo(np.int64)


class IntTable:
    """Row numbers of int64 ids: arithmetic where they are consecutive, else a sorted search."""

    __slots__ = ("_order", "_size", "_sorted", "_start")

    def __init__(self, ids: Int64Array) -> None:
        self._size = len(ids)
        self._start = int(ids[0]) if len(ids) and _is_consecutive(ids) else None
        self._order: Int64Array | None = None
        self._sorted = ids
        if self._start is None and len(ids) and not (ids[1:] > ids[:-1]).all():
            self._order = np.argsort(ids, kind="stable")
            self._sorted = ids[self._order]
            _refuse_twins(self._sorted)

    def find(self, query: Int64Array) -> Int64Array:
        if self._start is not None:
            # Wrapping is harmless: an offset in [0, n) names an id only by being that id.
            offset = query - np.int64(self._start)
            offset[(offset < 0) | (offset >= self._size)] = -1
            return offset
        place = np.searchsorted(self._sorted, query)
        place[place == self._size] = 0
        rows = place if self._order is None else self._order[place]
        return np.where(self._sorted[place] == query, rows, -1)

    def find_one(self, item_id: Any) -> int:
        if not isinstance(item_id, int | np.integer) or isinstance(item_id, bool):
            return -1
        value = int(item_id)
        if self._start is not None:
            row = value - self._start
            return row if 0 <= row < self._size else -1
        if not INT64.min <= value <= INT64.max or self._size == 0:
            return -1
        place = int(self._sorted.searchsorted(value))
        if place == self._size or self._sorted[place] != value:
            return -1
        return place if self._order is None else int(self._order[place])

    def extended(self, ids: Int64Array, n_old: int) -> IntTable:
        fresh = ids[n_old:]
        if self._start is not None and _is_consecutive(ids[n_old - 1 :]):
            return IntTable(ids)
        rank = np.argsort(fresh, kind="stable")
        _refuse_twins(fresh[rank], "new_ids")
        place = np.searchsorted(self._sorted, fresh[rank])
        order = np.arange(n_old) if self._order is None else self._order
        table = IntTable.__new__(IntTable)
        table._size, table._start = len(ids), None
        table._sorted = np.insert(self._sorted, place, fresh[rank])
        table._order = np.insert(order, place, rank + n_old)
        return table


class StrTable:
    """Row numbers of str ids: one dict."""

    __slots__ = ("_rows",)

    def __init__(self, ids: IdArray) -> None:
        entries = ids.tolist()
        self._rows: dict[str, int] = dict(zip(entries, range(len(entries)), strict=True))
        self._refuse_twins(ids, "ids")

    def _refuse_twins(self, ids: IdArray, name: str) -> None:
        if len(self._rows) != len(ids):
            twin = next(entry for row, entry in enumerate(ids) if self._rows[entry] != row)
            raise ValueError(f"{name} must be unique, got {twin!r} more than once")

    def find(self, query: IdArray) -> Int64Array:
        get = self._rows.get
        return np.array([get(entry, -1) for entry in query.tolist()], np.int64)

    def find_one(self, item_id: Any) -> int:
        return self._rows.get(item_id, -1) if isinstance(item_id, str) else -1

    def extended(self, ids: IdArray, n_old: int) -> StrTable:
        table = StrTable.__new__(StrTable)
        table._rows = self._rows | dict(
            zip(ids[n_old:].tolist(), range(n_old, len(ids)), strict=True)
        )
        table._refuse_twins(ids, "new_ids")
        return table


def factorize(ids: IdArray) -> tuple[IdArray, Int64Array]:
    """Return (the distinct ids ascending, the number of each entry's id among them).

    Parameters
    ----------
    ids : ndarray (n,), int64 or object holding str
    """
    if len(ids) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if ids.dtype == object:
        entries = ids.tolist()
        distinct = sorted(set(entries))
        number = dict(zip(distinct, range(len(distinct)), strict=True))
        unique = np.empty(len(distinct), object)
        unique[:] = distinct
        return unique, np.array([number[entry] for entry in entries], np.int64)
    low, span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
    if span <= 4 * len(ids) + 1024:  # dense: one table instead of a sort
        offset = ids - np.int64(low)
        present = np.zeros(span, bool)
        present[offset] = True
        return np.flatnonzero(present) + np.int64(low), (np.cumsum(present) - 1)[offset]
    values, codes = np.unique(ids, return_inverse=True)
    return values, codes.astype(np.int64, copy=False)


def _is_consecutive(ids: Int64Array) -> bool:
    if int(ids[-1]) - int(ids[0]) != len(ids) - 1:
        return False
    return bool((ids[1:] > ids[:-1]).all())


def _refuse_twins(ascending: Int64Array, name: str = "ids") -> None:
    twins = ascending[1:] == ascending[:-1]
    if twins.any():
        raise ValueError(f"{name} must be unique, got {ascending[1:][twins][0]} more than once")
