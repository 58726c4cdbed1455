"""Attribute columns as they are given, frames or arrays, become typed cells with a presence mask.

A column holds int, float, bool or str; None and NaN are missing. Text becomes numbers of a
`Vocabulary`, which only grows, so a number once given keeps its meaning in every generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float64Array, Int64Array
from recengine._validation import check_text, refuse_masked, refuse_set

# What a column may hold, and how it is stored: the first is that of an empty column.
DTYPES: dict[str, tuple[type[np.generic], ...]] = {
    "int": (np.int64,),
    "float": (np.float64, np.float32),
    "bool": (np.bool_,),
    "str": (np.int32,),
}
KINDS = tuple(DTYPES)
NO_TEXT = -1  # the code of a missing text; -2 stands for a text that the vocabulary lacks
UNKNOWN_TEXT = -2


@dataclass(frozen=True, slots=True)
class Cells:
    """Values of one column.

    Attributes
    ----------
    kind : {"int", "float", "bool", "str"}
    values : ndarray (n,)
        int64, float32 or float64, bool, or object (str). Anything where `present` is False.
    present : ndarray (n,), bool
    """

    kind: str
    values: NDArray[Any]
    present: NDArray[np.bool_]


class Vocabulary:
    """Distinct texts and their numbers. Only grows; any number of threads may read and add."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self._codes = {text: code for code, text in enumerate(texts or ())}
        self._next = count(len(self._codes))

    def code(self, text: str) -> int:
        """Return the number of a text, `UNKNOWN_TEXT` if it has none."""
        return self._codes.get(text, UNKNOWN_TEXT)

    def codes(self, texts: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the number of each text, giving numbers to new ones; `NO_TEXT` where absent."""
        known, result = self._codes, np.full(len(texts), NO_TEXT, np.int32)
        given: list[str] = texts[present].tolist()
        for text in set(given).difference(known):
            known.setdefault(text, next(self._next))  # two writers may race: the first one wins
        result[present] = [known[text] for text in given]
        return result

    def numbers(self) -> dict[str, int]:
        """Return text -> number of all that are there; a copy."""
        return self._codes.copy()


def read_columns(name: str, columns: Any, n_rows: int) -> dict[str, Cells]:
    """Return the cells of a frame or a mapping of arrays, one row per item.

    Parameters
    ----------
    name : str
        The argument, for messages.
    columns : pandas, polars or Arrow frame, or mapping of str to array_like (n_rows,)
    n_rows : int
    """
    cells = {}
    if isinstance(columns, Mapping):
        for label, values in columns.items():
            if not isinstance(label, str):
                raise TypeError(f"{name} must be named by str, got {label!r}")
            cells[label] = _from_array(f"{name}[{label!r}]", values)
    else:
        cells = _from_frame(name, columns)
    for label, column in cells.items():
        if len(column.values) != n_rows:
            raise ValueError(
                f"{name}[{label!r}] must have one row per item ({n_rows}), got {len(column.values)}"
            )
    return cells


def as_kind(label: str, cells: Cells, kind: str) -> Cells:
    """Return cells as those of a column that holds `kind`; whole numbers change freely."""
    if cells.kind == kind:
        return cells
    if not cells.present.any():
        return Cells(kind, np.zeros(len(cells.present), np.float64), cells.present)
    if {cells.kind, kind} != {"int", "float"}:
        raise TypeError(f"column {label!r} holds {kind}, got {cells.kind}")
    dtype = np.int64 if kind == "int" else np.float64
    values = np.where(cells.present, cells.values, 0)
    if kind == "int" and (np.abs(values) >= 2.0**63).any():
        raise ValueError(f"column {label!r} holds int64, got {values[np.abs(values).argmax()]}")
    converted = values.astype(dtype)
    lost = converted.astype(values.dtype) != values
    if lost.any():
        raise ValueError(f"column {label!r} holds {kind}, got {values[lost][0]}")
    return Cells(kind, converted, cells.present)


def _from_frame(name: str, frame: Any) -> dict[str, Cells]:
    import narwhals as nw

    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{name} must be a pandas, polars or Arrow frame or a mapping of columns, "
            f"got {type(frame).__name__}"
        ) from None
    return {label: _from_series(f"{name}[{label!r}]", table[label]) for label in table.columns}


def _from_series(label: str, series: Any) -> Cells:
    present = ~series.is_null().to_numpy().astype(bool)
    kept = series.drop_nulls()
    held = kept.to_numpy()
    if held.dtype.kind not in "biufmM":
        held = _objects(kept.to_list())
    cells = _typed(label, held)
    values = np.zeros(len(present), cells.values.dtype)
    values[present] = cells.values
    present[present] = cells.present  # a NaN is no null in every frame
    return Cells(cells.kind, values, present)


def _from_array(label: str, values: Any) -> Cells:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TypeError(f"{label} must be an array, got {type(values).__name__}")
    refuse_masked(label, values)
    refuse_set(label, values)
    array = np.asarray(values) if isinstance(values, np.ndarray) else _objects(list(values))
    if array.ndim != 1:
        raise ValueError(f"{label} must be 1-D, got shape {array.shape}")
    return _typed(label, array)


def _objects(entries: list[Any]) -> NDArray[Any]:
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def _typed(label: str, array: NDArray[Any]) -> Cells:
    """Return an array of any dtype as cells of one kind."""
    everything = np.ones(len(array), bool)
    if array.dtype.kind in "UT":
        check_text(label, array)
        return Cells("str", array.astype(object), everything)
    if array.dtype.kind == "O":
        return _from_objects(label, array)
    if array.dtype.kind == "b":
        return Cells("bool", array.copy(), everything)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and len(array) and array.max() >= 2**63:
            raise ValueError(f"{label} must fit int64, got {array.max()}")
        return Cells("int", array.astype(np.int64), everything)
    if array.dtype.kind == "f":
        wide = np.float32 if array.dtype.itemsize <= 4 else np.float64
        return Cells("float", array.astype(wide), ~np.isnan(array))
    raise TypeError(f"{label} must hold numbers, bool or str, got dtype {array.dtype}")


def _from_objects(label: str, array: NDArray[Any]) -> Cells:
    missing = [entry is None or (isinstance(entry, float) and np.isnan(entry)) for entry in array]
    present = ~np.array(missing, bool)
    held = array[present].tolist()
    kinds = {_kind_of(entry) for entry in held}
    if kinds <= {"str"}:
        check_text(label, held)
        return Cells("str", array, present)
    if kinds == {"bool"}:
        return Cells("bool", _scattered(np.array(held, bool), present), present)
    if kinds == {"int"}:
        return Cells("int", _scattered(_int64(label, held), present), present)
    if kinds <= {"int", "float"}:
        numbers: Float64Array = np.array(held, np.float64)
        return Cells("float", _scattered(numbers, present), present)
    found = ", ".join(sorted({type(entry).__name__ for entry in held}))
    raise TypeError(f"{label} must hold numbers, bool or str, got {found}")


def _kind_of(entry: Any) -> str:
    if isinstance(entry, bool | np.bool_):
        return "bool"
    if isinstance(entry, int | np.integer):
        return "int"
    if isinstance(entry, float | np.floating):
        return "float"
    return "str" if isinstance(entry, str) else ""


def _int64(label: str, entries: list[int]) -> Int64Array:
    if min(entries) < -(2**63) or max(entries) >= 2**63:
        raise ValueError(f"{label} must fit int64, got {max(entries, key=abs)}")
    return np.array(entries, np.int64)


def _scattered(held: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[Any]:
    values = np.zeros(len(present), held.dtype)
    values[present] = held
    return values
