"""Turn one raw column of anybody's making into NumPy values and masks of what is wrong in it.

Nothing is dropped here: `cleaning` decides what a missing or invalid entry costs. A column of a
kind that cannot be meant (fractions for ids, text for weights) is refused as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._validation import check_text, refuse_set

Mask: TypeAlias = NDArray[np.bool_]
INT64_MAX = np.iinfo(np.int64).max
EXACT_FLOAT = 2.0**53  # beyond this a float64 no longer names one integer


@dataclass(frozen=True)
class Column:
    """One column: `values`, with placeholders where `missing` or `invalid` is set; all (n,)."""

    values: NDArray[Any]
    missing: Mask
    invalid: Mask

    def __len__(self) -> int:
        return len(self.values)


def id_column(name: str, raw: Any, null: Mask | None = None) -> Column:
    """Return ids as int64 or object holding str; invalid are those that no int64 id can be.

    Parameters
    ----------
    name : str
        What messages call the column.
    raw : array-like (n,)
        Integers, str, or floats that hold whole numbers (how pandas keeps integers with gaps).
    null : ndarray (n,), bool, optional
        Entries known to be missing; their values are placeholders.
    """
    array, missing = _start(name, raw, null)
    kind = array.dtype.kind
    if kind in "UT":
        check_text(name, array)
        return Column(array.astype(object), missing, np.zeros(len(array), bool))
    if kind == "O":
        return _object_ids(name, array, missing)
    if kind == "u":
        invalid = array > INT64_MAX
        return Column(np.where(invalid, 0, array).astype(np.int64), missing, invalid)
    if kind == "i":
        values = array.astype(np.int64, copy=False)
        return Column(values, missing, (values == -1) & ~missing)
    if kind == "f":
        missing = missing | np.isnan(array)
        whole = np.where(missing, 0.0, array.astype(np.float64))
        fraction = np.isfinite(whole) & (whole != np.floor(whole))
        if fraction.any():
            raise TypeError(f"{name} must be integers or strings, got {whole[fraction][0]}")
        invalid = (np.abs(whole) > EXACT_FLOAT) | (whole == -1)
        return Column(np.where(invalid, 0.0, whole).astype(np.int64), missing, invalid)
    raise TypeError(f"{name} must be integers or strings, got dtype {array.dtype}")


def weight_column(name: str, raw: Any, null: Mask | None = None) -> Column:
    """Return weights as float32; invalid are those that are not finite as float32."""
    array, missing = _start(name, raw, null)
    if array.dtype.kind == "O":
        array, missing = _object_numbers(name, array, missing, _number)
    elif array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float32)
    return Column(values, missing, ~np.isfinite(values) & ~missing)


def time_column(name: str, raw: Any, null: Mask | None = None) -> Column:
    """Return whole seconds since 1970 (UTC) as int64; fractions are cut off downwards.

    Numbers are seconds already; datetimes without a zone are taken as UTC.
    """
    array, missing = _start(name, raw, null)
    kind = array.dtype.kind
    if kind == "O":
        array, missing = _object_numbers(name, array, missing, _seconds)
        kind = "f" if array.dtype.kind == "f" else "i"
    if kind == "M":
        missing = missing | np.isnat(array)
        epoch = np.where(missing, np.datetime64(0, "s"), array.astype("datetime64[s]"))
        return Column(epoch.astype(np.int64), missing, np.zeros(len(array), bool))
    if kind == "i":
        return Column(array.astype(np.int64, copy=False), missing, np.zeros(len(array), bool))
    if kind == "u":
        invalid = array > INT64_MAX
        return Column(np.where(invalid, 0, array).astype(np.int64), missing, invalid)
    if kind == "f":
        invalid = ~(np.abs(array) < 2.0**63) & ~missing
        seconds = np.floor(np.where(invalid | missing, 0.0, array))
        return Column(seconds.astype(np.int64), missing, invalid)
    raise TypeError(f"{name} must be datetimes or seconds since 1970, got dtype {array.dtype}")


def _start(name: str, raw: Any, null: Mask | None) -> tuple[NDArray[Any], Mask]:
    if isinstance(raw, np.ma.MaskedArray):  # masked is missing
        hidden = np.ma.getmaskarray(raw)
        null = hidden if null is None else null | hidden
        raw = raw.data
    array = raw if isinstance(raw, np.ndarray) else _as_array(name, raw)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    return array, np.zeros(len(array), bool) if null is None else null


def _as_array(name: str, raw: Any) -> NDArray[Any]:
    if hasattr(raw, "__array__"):
        return np.asarray(raw)
    if isinstance(raw, str | bytes) or not isinstance(raw, Iterable):
        raise TypeError(f"{name} must be an array or a list, got {type(raw).__name__}")
    refuse_set(name, raw)
    entries = list(raw)
    return np.fromiter(entries, dtype=object, count=len(entries))


def _object_ids(name: str, array: NDArray[Any], missing: Mask) -> Column:
    entries = array.tolist()
    kinds = set(map(type, entries))
    if any(_is_gap(kind) for kind in kinds):
        gaps = [_is_gap(type(entry)) and _is_missing(entry) for entry in entries]
        missing = missing | np.array(gaps, bool)
        kinds = {type(entry) for entry, gone in zip(entries, missing, strict=True) if not gone}
    no_flaw = np.zeros(len(array), bool)
    if not kinds:
        return Column(np.zeros(len(array), np.int64), missing, no_flaw)
    if all(issubclass(kind, str) for kind in kinds):
        values = array.copy()
        values[missing] = ""
        check_text(name, values)
        return Column(values, missing, no_flaw)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        numbers = [0 if gone else entry for entry, gone in zip(entries, missing, strict=True)]
        fits = [-(2**63) <= number < 2**63 and number != -1 for number in numbers]
        whole = [number if fit else 0 for number, fit in zip(numbers, fits, strict=True)]
        return Column(np.array(whole, np.int64), missing, ~np.array(fits, bool))
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"{name} must be all integers or all strings, got {names}")


def _object_numbers(
    name: str, array: NDArray[Any], missing: Mask, convert: Callable[[str, Any], float | int]
) -> tuple[NDArray[Any], Mask]:
    gone = [bool(null) or _is_null(entry) for entry, null in zip(array, missing, strict=True)]
    numbers = [0 if skip else convert(name, entry) for entry, skip in zip(array, gone, strict=True)]
    fits = all(isinstance(number, int) and -(2**63) <= number < 2**63 for number in numbers)
    if fits:
        return np.array(numbers, np.int64), np.array(gone, bool)
    return np.array([_as_float(number) for number in numbers]), np.array(gone, bool)


def _as_float(number: float | int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _number(name: str, entry: Any) -> float | int:
    if not isinstance(entry, Real | Decimal):
        raise TypeError(f"{name} must be numbers, got {type(entry).__name__}")
    return int(entry) if isinstance(entry, int) else float(entry)


def _seconds(name: str, entry: Any) -> float | int:
    if isinstance(entry, datetime):
        zoned = entry if entry.tzinfo else entry.replace(tzinfo=UTC)
        return math.floor(zoned.timestamp())
    if isinstance(entry, date):
        return int(datetime(entry.year, entry.month, entry.day, tzinfo=UTC).timestamp())
    if isinstance(entry, bool) or not isinstance(entry, Real):
        raise TypeError(
            f"{name} must be datetimes or seconds since 1970, got {type(entry).__name__}"
        )
    return int(entry) if isinstance(entry, int) else float(entry)


def _is_gap(kind: type) -> bool:
    return kind in (type(None), float) or kind.__name__ in ("NAType", "NaTType", "float64")


def _is_null(entry: Any) -> bool:
    return entry is None or type(entry).__name__ in ("NAType", "NaTType")


def _is_missing(entry: Any) -> bool:
    return _is_null(entry) or (isinstance(entry, float) and math.isnan(entry))
