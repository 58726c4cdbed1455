"""The map between the caller's ids and row numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np

from recengine._types import IdArray, Int64Array
from recengine._validation import as_choice, as_ids, refuse_set
from recengine.data._id_tables import IntTable, StrTable

_INT64 = np.iinfo(np.int64)


class IdMap:
    """Give each id its row number; immutable, safe to share between threads.

    Parameters
    ----------
    ids : array-like (n,), integers or str
        Unique; any int64 but −1, or any str. Row i belongs to ``ids[i]``. A read-only int64 or
        object array is borrowed, anything else is copied.

    Raises
    ------
    ValueError
        If an id occurs twice, is −1 or does not fit int64.
    TypeError
        If the ids are neither all integers nor all str.

    Notes
    -----
    Integer ids cost O(n log n) to build and O(log n) to look up, or O(1) when they are
    consecutive; beyond `ids` they hold 16 bytes each, or nothing when they are consecutive or
    ascending. Strings are held in one dict: O(n) to build, O(1) to look up.
    """

    __slots__ = ("_ids", "_table")

    def __init__(self, ids: Any) -> None:
        array = as_ids("ids", ids)
        if array.flags.writeable:
            array = array.copy() if array is ids or array.base is not None else array
            array.flags.writeable = False
        self._ids: IdArray = array
        self._table: IntTable | StrTable = (
            StrTable(array) if array.dtype == object else IntTable(array)
        )

    @property
    def ids(self) -> IdArray:
        """The ids by row number: (n,) int64, or object holding str; read-only."""
        return self._ids

    @property
    def is_str(self) -> bool:
        """Whether the ids are str; False for an empty map."""
        return self._ids.dtype == object

    @property
    def digest(self) -> str:
        """SHA-256 over the ids in their order, hexadecimal: equal maps have equal ones. O(n)."""
        return ids_digest(self._ids)

    def index(self, item_id: Any) -> int:
        """Return the row number of one id, −1 where it is not here (or of another kind).

        Parameters
        ----------
        item_id : int or str
        """
        return self._table.find_one(item_id)

    def indices(self, ids: Any, missing: Literal["raise", "mark"] = "raise") -> Int64Array:
        """Return the row numbers of ids, in their order.

        Parameters
        ----------
        ids : array-like (m,), integers or str
            May repeat. The padding −1 (or None among str) is an id that is not here.
        missing : {"raise", "mark"}
            What to do about ids that are not here: raise, or give −1.

        Returns
        -------
        ndarray (m,), int64

        Raises
        ------
        LookupError
            If an id is not here and `missing` is "raise".
        TypeError
            If the ids are not of this map's kind.
        """
        as_choice("missing", missing, ("raise", "mark"))
        query = _as_query(ids, wants_str=self.is_str if len(self) else None)
        if len(self) == 0 or len(query) == 0:
            rows = np.full(len(query), -1, np.int64)
        else:
            rows = self._table.find(query)
        if missing == "raise" and len(rows) and rows.min() < 0:
            lost = np.flatnonzero(rows < 0)
            example = query[lost[:1]].tolist()[0]
            raise LookupError(
                f"ids must all be in the map, got {example!r} at {lost[0]} "
                f"({len(lost)} of {len(rows)} are not)"
            )
        return rows

    def extended(self, new_ids: Any) -> IdMap:
        """Return a map with `new_ids` behind these ids; the old row numbers stay. O(n + m log m).

        Parameters
        ----------
        new_ids : array-like (m,), integers or str

        Raises
        ------
        ValueError
            If a new id is already here, or occurs twice.
        TypeError
            If the new ids are not of this map's kind.
        """
        fresh = as_ids("new_ids", new_ids)
        if len(fresh) == 0:
            return self
        if len(self) == 0:
            return IdMap(fresh)
        if (fresh.dtype == object) != self.is_str:
            kind = "str" if self.is_str else "integers"
            raise TypeError(f"new_ids must be {kind} as in the map, got {fresh.tolist()[0]!r}")
        known = self.indices(fresh, missing="mark") >= 0
        if known.any():
            example = fresh[known].tolist()[0]
            raise ValueError(f"new_ids must be new, got {example!r}, which is in the map")
        result = IdMap.__new__(IdMap)
        result._ids = np.concatenate([self._ids, fresh])
        result._ids.flags.writeable = False
        result._table = self._table.extended(result._ids, len(self))
        return result

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return self.index(item_id) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        same_kind = self._ids.dtype == other._ids.dtype
        return self is other or (same_kind and bool(np.array_equal(self._ids, other._ids)))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[IdMap], tuple[IdArray]]:
        return IdMap, (self._ids,)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} {'str' if self.is_str else 'int'} ids)"


def ids_digest(ids: IdArray) -> str:
    """Return the SHA-256 over ids in their order, hexadecimal.

    Parameters
    ----------
    ids : ndarray (n,), int64 or object holding str
        As of `IdMap.ids`, or the first of them.
    """
    if ids.dtype == object:
        return hashlib.sha256(b"str" + json.dumps(ids.tolist()).encode()).hexdigest()
    return hashlib.sha256(b"int" + ids.astype("<i8").tobytes()).hexdigest()


def _as_query(ids: Any, *, wants_str: bool | None) -> IdArray:
    """Return ids to look up, padding allowed, as int64 or object; `wants_str` None takes either."""
    refuse_set("ids", ids)
    array = ids if isinstance(ids, np.ndarray) else np.array(list(ids), dtype=object)
    if array.ndim != 1:
        raise ValueError(f"ids must be 1-D, got shape {array.shape}")
    if array.dtype.kind in "UT":
        array = array.astype(object)
    if len(array) == 0:
        return array
    if array.dtype.kind in "iu":
        kinds: set[type] = {int}
    elif array.dtype == object:
        kinds = {kind for kind in set(map(type, array.tolist())) if kind is not type(None)}
    else:
        raise TypeError(f"ids must be integers or strings, got dtype {array.dtype}")
    if all(issubclass(kind, str) for kind in kinds) and wants_str is not False:
        return array
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        if wants_str:
            raise TypeError("ids must be str as in the map, got int")
        return _as_int64_query(array)
    wanted = {True: "str as in the map", False: "integers as in the map", None: "ints or str"}
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"ids must be {wanted[wants_str]}, got {names}")


def _as_int64_query(array: IdArray) -> Int64Array:
    if array.dtype == np.uint64:
        return np.where(array > np.uint64(_INT64.max), -1, array.astype(np.int64))
    if array.dtype == object:
        fits = [
            entry if entry is not None and _INT64.min <= entry <= _INT64.max else -1
            for entry in array.tolist()
        ]
        return np.array(fits, np.int64)
    return array.astype(np.int64, copy=False)
