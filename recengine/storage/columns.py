"""Text, ids and attribute columns as plain arrays, so that a bundle can hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._types import IdArray, Int64Array
from recengine._validation import as_ids

_NONE = b"\xff"  # no UTF-8 text contains this byte


def pack_strings(
    strings: Iterable[str | None],
) -> tuple[Int64Array, NDArray[np.uint8]]:
    """Return strings as offsets and UTF-8 bytes.

    Parameters
    ----------
    strings : iterable of str or None
        Text that UTF-8 can hold (no lone surrogates).

    Returns
    -------
    offsets : ndarray (n + 1,), int64
        String i is ``data[offsets[i]:offsets[i + 1]]``.
    data : ndarray (offsets[-1],), uint8
        The text; None is the single byte 0xFF, which UTF-8 never uses.
    """
    encoded: list[bytes] = []
    for number, text in enumerate(strings):
        if text is None:
            encoded.append(_NONE)
        elif isinstance(text, str):
            try:
                encoded.append(text.encode())
            except UnicodeEncodeError:
                raise ValueError(
                    f"strings must be encodable as UTF-8, got {text!r} at {number}"
                ) from None
        else:
            raise TypeError(f"strings must hold str or None, got {type(text).__name__} at {number}")
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return offsets, np.frombuffer(b"".join(encoded), np.uint8)


def unpack_strings(offsets: NDArray[Any], data: NDArray[Any]) -> NDArray[np.object_]:
    """Return the strings of `pack_strings`.

    Parameters
    ----------
    offsets, data : ndarray (n + 1,) int64, ndarray (m,) uint8

    Returns
    -------
    ndarray (n,), object
        str and None.

    Raises
    ------
    BundleError
        Where the two arrays are not what `pack_strings` returns.
    """
    if offsets.ndim != 1 or offsets.dtype != np.int64 or data.ndim != 1 or data.dtype != np.uint8:
        raise BundleError(
            f"packed strings must be int64 offsets and uint8 data, "
            f"got {offsets.dtype}{offsets.shape} and {data.dtype}{data.shape}"
        )
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data):
        raise BundleError("packed strings are damaged: the offsets do not span the data")
    if (offsets[1:] < offsets[:-1]).any():
        raise BundleError("packed strings are damaged: the offsets decrease")
    bounds = offsets.tolist()
    raw = data.tobytes()
    strings = np.empty(len(bounds) - 1, dtype=object)
    if raw.isascii():
        text = raw.decode()
        strings[:] = [text[a:b] for a, b in pairwise(bounds)]
        return strings
    pieces = (raw[a:b] for a, b in pairwise(bounds))
    try:
        strings[:] = [None if piece == _NONE else piece.decode() for piece in pieces]
    except UnicodeDecodeError as error:
        raise BundleError("packed strings are damaged: not UTF-8") from error
    return strings


def pack_ids(name: str, ids: IdArray | Sequence[int] | Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return ids as arrays of a bundle.

    Parameters
    ----------
    name : str
        What they are called in the bundle.
    ids : array-like (n,), integers or str

    Returns
    -------
    dict of str to ndarray
        `name` for int64; ``name/offsets`` and ``name/utf8`` for str.
    """
    checked = as_ids(name, ids)
    if checked.dtype == np.int64:
        return {name: checked}
    offsets, data = pack_strings(checked)
    return {f"{name}/offsets": offsets, f"{name}/utf8": data}


def unpack_ids(name: str, arrays: Mapping[str, NDArray[Any]]) -> IdArray:
    """Return the ids that `pack_ids` stored.

    Parameters
    ----------
    name : str
        The name they were stored under.
    arrays : mapping of str to ndarray
        Of a bundle.

    Returns
    -------
    ndarray (n,), int64 or object holding str
        int64 ids are the bundle's own read-only memory.

    Raises
    ------
    BundleError
        Where `arrays` does not hold ids of that name.
    """
    if name in arrays:
        ids = arrays[name]
        if ids.dtype != np.int64 or ids.ndim != 1 or (ids == -1).any():
            raise BundleError(f"array {name!r} does not hold ids")
        return ids
    strings = _unpack_text(name, arrays)
    if any(text is None for text in strings):
        raise BundleError(f"array {name!r} does not hold ids")
    return strings


def pack_columns(prefix: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return attribute columns as arrays of a bundle.

    Parameters
    ----------
    prefix : str
        The first part of the arrays' names; the columns themselves are numbered, because their
        own names may be any text.
    columns : mapping of str to ndarray (n,)
        Numbers or bool, or str (None allowed) as an object or str array; all of one length.

    Returns
    -------
    dict of str to ndarray
        For `write_bundle`.
    """
    offsets, data = pack_strings(columns)
    packed: dict[str, NDArray[Any]] = {
        f"{prefix}/names/offsets": offsets,
        f"{prefix}/names/utf8": data,
    }
    lengths = {np.shape(column) for column in columns.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise ValueError(f"columns of {prefix!r} must be 1-D of one length, got {sorted(lengths)}")
    for number, (name, column) in enumerate(columns.items()):
        values = np.asarray(column)
        if values.dtype.kind in "biuf":
            packed[f"{prefix}/{number}"] = values
        elif values.dtype.kind in "OUT":
            offsets, data = _pack_column(name, values)
            packed[f"{prefix}/{number}/offsets"] = offsets
            packed[f"{prefix}/{number}/utf8"] = data
        else:
            raise TypeError(f"column {name!r} must hold numbers or str, got {values.dtype}")
    return packed


def unpack_columns(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns that `pack_columns` stored, in their order.

    Parameters
    ----------
    prefix : str
        The prefix they were stored under.
    arrays : mapping of str to ndarray
        Of a bundle.

    Returns
    -------
    dict of str to ndarray (n,)
        Numbers and bool are the bundle's own read-only memory; text is object.

    Raises
    ------
    BundleError
        Where `arrays` does not hold them.
    """
    columns: dict[str, NDArray[Any]] = {}
    for number, name in enumerate(_unpack_text(f"{prefix}/names", arrays)):
        if not isinstance(name, str) or name in columns:
            raise BundleError(f"columns of {prefix!r} are damaged: name {name!r}")
        stored = f"{prefix}/{number}"
        columns[name] = arrays[stored] if stored in arrays else _unpack_text(stored, arrays)
    if len({column.shape for column in columns.values()}) > 1:
        raise BundleError(f"columns of {prefix!r} are damaged: their lengths differ")
    return columns


def _pack_column(name: str, values: NDArray[Any]) -> tuple[Int64Array, NDArray[np.uint8]]:
    try:
        return pack_strings(values.tolist())
    except (TypeError, ValueError) as error:
        raise type(error)(f"column {name!r}: {error}") from None


def _unpack_text(name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.object_]:
    try:
        return unpack_strings(arrays[f"{name}/offsets"], arrays[f"{name}/utf8"])
    except KeyError as error:
        raise BundleError(f"there is no array {error.args[0]!r}") from None
