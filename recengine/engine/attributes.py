"""Attribute columns of items and users: read from any frame, aligned to rows, kept as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import IdArray, Int64Array
from recengine._validation import check_text, refuse_masked, refuse_set
from recengine.data import IdMap
from recengine.engine.identity import as_id_list

Columns = dict[str, NDArray[Any]]
_EXACT = 2**53


def read_columns(name: str, frame: Any, key: str, ids: IdArray) -> Columns:
    """Return the columns of a frame in the order of `ids`, missing where an id has no row.

    Parameters
    ----------
    name : str
        The argument, for messages.
    frame : pandas, polars or Arrow frame, or mapping of str to array
        One row per id.
    key : str
        The column of ids, ``"item_id"`` or ``"user_id"``; it is not returned.
    ids : ndarray (n,)
        Rows of other ids are left out.
    """
    columns = _as_mapping(name, frame)
    if key not in columns:
        raise ValueError(f"{name} must have a column {key!r}, got {list(columns)}")
    is_str = bool(ids.dtype == object) if len(ids) else None
    keys = as_id_list(f"{name}[{key!r}]", columns[key], is_str)
    if len(set(keys.tolist())) != len(keys):
        raise ValueError(f"{name}[{key!r}] must not repeat an id")
    kept: Columns = {}
    for label, values in columns.items():
        if label != key:
            kept[label] = _as_column(f"{name}[{label!r}]", values, len(keys))
    return align(kept, IdMap(keys).indices(ids, missing="mark"))


def align(columns: Columns, positions: Int64Array) -> Columns:
    """Return columns whose row i is row ``positions[i]``, or missing where that is −1.

    Missing is None in a column of strings and NaN in one of numbers; a column of integers or
    booleans becomes float64 where something is missing.
    """
    return {label: _aligned(label, values, positions) for label, values in columns.items()}


def updated(columns: Columns, n_rows: int, places: Int64Array, new: Columns) -> Columns:
    """Return `n_rows` rows: the old ones, and those of `new` at `places`.

    A column that only one side has is missing on the other side.
    """
    labels = {**columns, **new}
    n_old = next((len(values) for values in columns.values()), 0)
    keep = np.full(n_rows, -1, np.int64)
    keep[:n_old] = np.arange(n_old)
    merged: Columns = {}
    for label in labels:
        old, rows = columns.get(label), new.get(label)
        if rows is None and old is not None:
            merged[label] = _aligned(label, old, keep)
        elif old is None and rows is not None:
            spread = np.full(n_rows, -1, np.int64)
            spread[places] = np.arange(len(places))
            merged[label] = _aligned(label, rows, spread)
        elif old is not None and rows is not None:
            both = _concatenated(label, old, rows)
            joint = keep.copy()
            joint[places] = len(old) + np.arange(len(places))
            merged[label] = _aligned(label, both, joint)
    return merged


def _as_mapping(name: str, frame: Any) -> Mapping[str, Any]:
    if isinstance(frame, Mapping):
        return frame
    import narwhals as nw

    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{name} must be a pandas, polars or Arrow frame or a mapping of columns, "
            f"got {type(frame).__name__}"
        ) from None
    return {label: _from_series(table[label]) for label in table.columns}


def _from_series(series: Any) -> NDArray[Any]:
    """Return a frame's column as an array; text with its missing values as None."""
    values: NDArray[Any] = series.to_numpy()
    if values.dtype.kind in "biuf":
        return values
    column = np.empty(len(series), dtype=object)
    column[:] = [None if _is_missing(entry) else entry for entry in series.to_list()]
    return column


def _as_column(label: str, values: Any, n_rows: int) -> NDArray[Any]:
    refuse_masked(label, values)
    refuse_set(label, values)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{label} must be an array or a list, got {type(values).__name__}")
    column = np.asarray(values) if isinstance(values, np.ndarray) else _from_list(values)
    if column.shape != (n_rows,):
        raise ValueError(f"{label} must be 1-D with {n_rows} rows, got shape {column.shape}")
    if column.dtype.kind in "biuf":
        return column.copy()
    if column.dtype.kind in "UTO":
        column = column.astype(object)
        for entry in column:
            if entry is not None and not isinstance(entry, str):
                raise TypeError(f"{label} must hold numbers or str, got {type(entry).__name__}")
        check_text(label, (entry for entry in column if entry is not None))
        return column
    raise TypeError(f"{label} must hold numbers or str, got dtype {column.dtype}")


def _from_list(values: Any) -> NDArray[Any]:
    entries = list(values)
    if any(entry is None or isinstance(entry, str) for entry in entries):
        column = np.empty(len(entries), dtype=object)
        column[:] = entries
        return column
    return np.asarray(entries)


def _is_missing(entry: Any) -> bool:
    return entry is None or (isinstance(entry, float) and np.isnan(entry))


def _aligned(label: str, values: NDArray[Any], positions: Int64Array) -> NDArray[Any]:
    present = positions >= 0
    if present.all():
        return values[positions]
    if values.dtype == object:
        aligned = np.empty(len(positions), dtype=object)
    else:
        values = _with_missing(label, values)
        aligned = np.full(len(positions), np.nan, values.dtype)
    aligned[present] = values[positions[present]]
    return aligned


def _with_missing(label: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in a type that can say NaN."""
    if values.dtype.kind == "f":
        return values
    if values.dtype.itemsize == 8 and len(values) and np.abs(values.astype(float)).max() > _EXACT:
        raise ValueError(
            f"column {label!r} must fit 2^53 where rows are missing, got larger integers: "
            "give them as str"
        )
    return values.astype(np.float64)


def _concatenated(label: str, old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    if (old.dtype == object) != (new.dtype == object):
        expected = "strings" if old.dtype == object else "numbers"
        raise TypeError(f"column {label!r} must hold {expected}, as it did, got {new.dtype}")
    return np.concatenate((old, new))
