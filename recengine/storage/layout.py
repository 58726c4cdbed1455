"""The format of a bundle: header, manifest and the place of every array, read with suspicion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError

ALIGNMENT = 64
MAX_MANIFEST_BYTES = 64 << 20
MAGIC = b"RECBNDL\n"
FORMAT = 1
HEADER = struct.Struct("<8sQQQ32s")  # magic, format, manifest bytes, file bytes, manifest sha256
_DTYPES = {
    np.dtype(code).str: np.dtype(code)
    for code in ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
}
_NAME = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_MANIFEST_KEYS = {"kind", "schema", "version", "meta", "arrays"}
_ENTRY_KEYS = {"name", "dtype", "shape", "offset", "sha256"}


@dataclass(frozen=True)
class Entry:
    """Where one array lies, `offset` bytes after the start of the data."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return the row of the manifest."""
        return {
            "name": self.name,
            "dtype": self.dtype.str,
            "shape": list(self.shape),
            "offset": self.offset,
            "sha256": self.sha256,
        }


def as_storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` as a bundle stores it: C-contiguous and little-endian."""
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(
            "an array's name must be letters, digits, '_', '-' and '.' in parts separated by '/', "
            f"got {name!r}"
        )
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"array {name!r} must be a plain ndarray, got {type(array).__name__}")
    little = array.dtype.newbyteorder("<")
    if little.str not in _DTYPES:
        raise TypeError(f"array {name!r} must be bool, integer or float, got {array.dtype}")
    return np.asarray(array, dtype=little, order="C")


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not {".", ".."} & set(name.split("/"))


def aligned(size: int) -> int:
    """Return `size` rounded up to a multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def read_manifest(where: str, stream: BinaryIO) -> tuple[bytes, int]:
    """Return (the manifest's bytes, the length of the file) after checking header and digest."""
    size = os.fstat(stream.fileno()).st_size
    header = stream.read(HEADER.size)
    if not header.startswith(MAGIC):
        raise BundleError(f"{where} is not a recengine bundle")
    if len(header) < HEADER.size:
        raise BundleError(f"{where} is cut short: {size} bytes")
    _, version, n_bytes, expected, digest = HEADER.unpack(header)
    if version != FORMAT:
        raise BundleError(f"{where} must have bundle format {FORMAT}, got {version}")
    if size != expected:
        raise BundleError(f"{where} must be {expected} bytes long, got {size}")
    if n_bytes > min(MAX_MANIFEST_BYTES, size - HEADER.size):
        raise BundleError(f"{where} is damaged: a manifest of {n_bytes} bytes cannot be")
    text = stream.read(n_bytes)
    if hashlib.sha256(text).digest() != digest:
        raise BundleError(f"{where} is damaged: its manifest does not match its digest")
    return text, size


def parsed(where: str, text: bytes) -> dict[str, Any]:
    """Return the manifest as JSON with the right keys; kind and schema are the caller's."""
    try:
        manifest = json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is damaged: its manifest is not JSON") from error
    if not isinstance(manifest, dict) or manifest.keys() != _MANIFEST_KEYS:
        raise BundleError(f"{where} is damaged: its manifest has other keys")
    for key, kind in (("version", str), ("meta", dict), ("arrays", list)):
        if not isinstance(manifest[key], kind):
            raise BundleError(f"{where} is damaged: {key} in its manifest is no {kind.__name__}")
    return manifest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def layout_of(where: str, rows: list[Any], available: int) -> list[Entry]:
    """Return the layout, after checking that it fills exactly the `available` bytes."""
    entries: list[Entry] = []
    offset = 0
    for row in rows:
        entry = _entry(row, offset)
        if entry is None:
            raise BundleError(f"{where} is damaged: array {len(entries)} is not described right")
        offset = aligned(offset + entry.n_bytes)
        entries.append(entry)
    if len({entry.name for entry in entries}) != len(entries):
        raise BundleError(f"{where} is damaged: two arrays have one name")
    if offset != available:
        raise BundleError(f"{where} is damaged: its arrays need {offset} bytes, not {available}")
    return entries


def _entry(row: Any, offset: int) -> Entry | None:
    """Return one row of the manifest, or None where it is not what `write_bundle` writes."""
    if not isinstance(row, dict) or row.keys() != _ENTRY_KEYS:
        return None
    name, code, shape, digest = row["name"], row["dtype"], row["shape"], row["sha256"]
    if not (isinstance(name, str) and _is_name(name) and isinstance(digest, str)):
        return None
    if not (isinstance(code, str) and code in _DTYPES and isinstance(shape, list)):
        return None
    if len(shape) > 32 or not all(type(length) is int and length >= 0 for length in shape):
        return None
    dtype = _DTYPES[code]
    extent = dtype.itemsize  # NumPy refuses a shape by this product, even where a length is 0
    for length in shape:
        extent *= max(length, 1)
    if extent >= 2**63 or type(row["offset"]) is not int or row["offset"] != offset:
        return None
    return Entry(name, dtype, tuple(shape), offset, 0 if 0 in shape else extent, digest)
