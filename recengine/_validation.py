"""What arguments mean: every check names the argument, the rule and the value it met."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from recengine._types import PADDING_ID, Float32Array, IdArray, Int64Array, ItemId

_MOST = 2**31 - 1  # what a C int holds
MOST_PADDING = 2**20  # entries of an answer beyond the items there are
_FLOAT32 = np.dtype(np.float32)
_PLAIN = 0x101  # NumPy's flags of an array that is C-contiguous and aligned
_SMALL = 1024  # numbers that BLAS adds on the calling thread


def as_count(name: str, value: Any, *, minimum: int = 0, maximum: int | None = _MOST) -> int:
    """Return `value` as an int in [`minimum`, `maximum`]; None for no maximum."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got bool")
    if count < minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {count}")
    if maximum is not None and count > maximum:
        raise ValueError(f"{name} must be <= {maximum}, got {count}")
    return count


def as_k(value: Any, n_items: int) -> int:
    """Return k as an int in [0, `n_items` + `MOST_PADDING`].

    An answer has k entries, padding included: a caller who does not know how many items there are
    may ask for more, but 2³¹ − 1 of them would be 40 GB of padding.
    """
    k = as_count("k", value)
    if k > n_items + MOST_PADDING:
        raise ValueError(
            f"k must be <= {n_items + MOST_PADDING} ({n_items} items and {MOST_PADDING} of "
            f"padding), got {k}"
        )
    return k


def as_real(name: str, value: Any, *, minimum: float = -np.inf, exclusive: bool = False) -> float:
    """Return `value` as a finite float >= `minimum` (> where `exclusive`)."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if number < minimum or (exclusive and number == minimum):
        raise ValueError(f"{name} must be {'>' if exclusive else '>='} {minimum:g}, got {number:g}")
    return number


def as_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return str(value)


def as_matrix(
    name: str, value: Any, *, dim: int | None = None, n_rows: int | None = None
) -> Float32Array:
    """Return `value` as a finite, C-contiguous float32 matrix; the same memory where it can be."""
    matrix = _as_float32(name, value)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be 2-D (rows, dim), got shape {matrix.shape}")
    if dim is not None and matrix.shape[1] != dim:
        raise ValueError(f"{name} must have {dim} columns, got {matrix.shape[1]}")
    if n_rows is not None and matrix.shape[0] != n_rows:
        raise ValueError(f"{name} must have {n_rows} rows, got {matrix.shape[0]}")
    return check_finite(name, matrix)


def as_vector(name: str, value: Any, n_entries: int) -> Float32Array:
    """Return `value` as finite float32 (`n_entries`,); the same memory where it can be."""
    array = _as_float32(name, value)
    if array.shape != (n_entries,):
        raise ValueError(f"{name} must be 1-D of {n_entries} entries, got shape {array.shape}")
    return check_finite(name, array)


def as_queries(name: str, value: Any, *, dim: int) -> tuple[Float32Array, bool]:
    """Return (queries (n, dim), whether one bare vector was given)."""
    array = _as_float32(name, value)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be (dim,) or (n, dim), got shape {array.shape}")
    if array.shape[-1] != dim:
        raise ValueError(f"{name} must have dim {dim}, got shape {array.shape}")
    check_finite(name, array)
    return (array[None, :], True) if array.ndim == 1 else (array, False)


def check_finite(name: str, array: Float32Array) -> Float32Array:
    """Return `array`, refusing NaN and infinity and saying where the first one stands."""
    # A sum is finite only if all its terms are (or overflowed): one cheap pass for the usual case.
    if array.size <= _SMALL and math.isfinite(np.vdot(array, array)):
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64)
    if not np.isfinite(total):
        where = np.argwhere(~np.isfinite(array))
        if len(where):
            place = tuple(int(i) for i in where[0])
            at = place[0] if len(place) == 1 else place
            raise ValueError(f"{name} must be finite, got {array[place]} at {at}")
    return array


def _as_float32(name: str, value: Any) -> Float32Array:
    if type(value) is np.ndarray and value.dtype is _FLOAT32 and value.flags.num & _PLAIN == _PLAIN:
        return value  # the usual case costs next to nothing
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths") from None
    refuse_masked(name, value)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        if array.size == 0 and array.dtype.kind in "fO":
            array = array.astype(np.float32)
        else:
            raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.dtype == np.float32:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
        return np.require(array, np.float32, ["C", "A"])
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32)
    lost = np.isinf(converted) & np.isfinite(array) if array.dtype.kind == "f" else None
    if lost is not None and lost.any():
        raise ValueError(f"{name} must fit float32, got {array[lost].flat[0]}")
    return np.ascontiguousarray(converted)


def refuse_masked(name: str, value: Any) -> None:
    """Refuse entries that a masked array hides: they would be read as if they were there."""
    if isinstance(value, np.ma.MaskedArray) and np.any(value.mask):
        raise ValueError(f"{name} must not be masked, got {np.sum(value.mask)} masked entries")


def refuse_set(name: str, value: Any) -> None:
    """Refuse a set where entry i belongs to something else's entry i: it has no order."""
    if isinstance(value, set | frozenset):
        raise TypeError(f"{name} must be in order, got a {type(value).__name__}, which has none")


def check_text(name: str, texts: Iterable[str]) -> None:
    """Refuse text that no file can hold: lone surrogates."""
    entries = texts.tolist() if isinstance(texts, np.ndarray) else list(texts)
    joined = "".join(entries)
    if joined.isascii():
        return
    try:
        joined.encode()
    except UnicodeEncodeError:
        lone = next(text for text in entries if not _is_utf8(text))
        raise ValueError(f"{name} must be text that UTF-8 can hold, got {lone!r}") from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_id(name: str, value: Any, is_str: bool | None = None) -> ItemId:
    """Return one id as int or str; of the kind the engine holds, where `is_str` says which."""
    if isinstance(value, str):
        if is_str is False:
            raise TypeError(f"{name} must be an integer, as the engine's ids are, got {value!r}")
        check_text(name, (value,))
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer or a str, got {type(value).__name__}")
    if is_str:
        raise TypeError(f"{name} must be a str, as the engine's ids are, got {value!r}")
    number = int(value)
    if number == PADDING_ID:
        raise ValueError(f"{name} must not be -1, the padding id")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} must fit int64, got {number}")
    return number


def as_ids(name: str, value: Any, *, ordered: bool = True) -> IdArray:
    """Return ids as a 1-D array: int64 without −1, or object holding str.

    A set is refused unless `ordered` is False.
    """
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of ids, got {type(value).__name__}")
    if ordered:
        refuse_set(name, value)
    is_array = isinstance(value, np.ndarray)
    array = np.asarray(value) if is_array else np.array(list(value), dtype=object)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    refuse_masked(name, value)
    if array.dtype == np.float64 and len(array) == 0:  # what np.array([]) is
        return np.empty(0, np.int64)
    if array.dtype.kind in "UT":
        check_text(name, array)
        return array.astype(object)
    if array.dtype.kind in "iu":
        return _as_int64_ids(name, array)
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be integers or strings, got dtype {array.dtype}")
    kinds = {type(entry) for entry in array}
    if all(issubclass(kind, str) for kind in kinds) and kinds:
        check_text(name, array)
        return array
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        if len(array) == 0:
            return np.empty(0, np.int64)
        low, high = min(array), max(array)
        if low < -(2**63) or high >= 2**63:
            raise ValueError(f"{name} must fit int64, got {low if low < -(2**63) else high}")
        return _as_int64_ids(name, array.astype(np.int64))
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"{name} must be all integers or all strings, got {names}")


def _as_int64_ids(name: str, array: Any) -> Int64Array:
    if array.dtype == np.uint64 and len(array) and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit int64, got {array.max()}")
    ids: Int64Array = np.ascontiguousarray(array, dtype=np.int64)
    if (ids == -1).any():
        raise ValueError(f"{name} must not contain -1, the padding id")
    return ids


def as_indices(name: str, value: Any, *, size: int) -> Int64Array:
    """Return row numbers as int64, each in [0, `size`)."""
    refuse_masked(name, value)
    array = np.asarray(value)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}")
    if array.min() < 0 or array.max() >= size:
        bad = array[(array < 0) | (array >= size)][0]
        raise ValueError(f"{name} must lie in [0, {size}), got {bad}")
    return array.astype(np.int64)


def as_generator(random_state: Any) -> np.random.Generator:
    """Return a NumPy Generator from an int seed, a Generator or None."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None:
        return np.random.default_rng()
    return np.random.default_rng(as_count("random_state", random_state, maximum=None))
