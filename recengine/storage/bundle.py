"""One file of named arrays and a JSON manifest: written aside, checked whole, mapped read-only."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._validation import as_count
from recengine.storage.atomic import replacing
from recengine.storage.layout import (
    FORMAT,
    HEADER,
    MAGIC,
    MAX_MANIFEST_BYTES,
    Entry,
    aligned,
    as_storable,
    layout_of,
    parsed,
    read_manifest,
)
from recengine.storage.pieces import Pieces, digest_of


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Read-only, C-contiguous, 64-byte aligned; their memory is the mapped file.
    meta : dict
        What the writer put into the manifest.
    digests : dict of str to str
        sha256 of each array's bytes, hexadecimal.
    digest : str
        sha256 of the manifest, hexadecimal: it names the content of the whole bundle.
    version : str
        The version of recengine that wrote the file.
    """

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]
    digests: dict[str, str]
    digest: str
    version: str


def write_bundle(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any] | Pieces],
    meta: Mapping[str, Any],
    *,
    kind: str,
    schema: int,
) -> None:
    """Write arrays and JSON as one file that appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The file to make or to replace; its folder must exist.
    arrays : mapping of str to ndarray or Pieces
        bool, int8…int64, uint8…uint64, float16…float64, any shape, byte order and strides.
        Names are letters, digits and ``_ . -``, in parts that "/" separates.
    meta : mapping
        JSON: str keys; None, bool, int, finite float, str, lists and mappings. At most 64 MiB.
    kind : str
        What the file is, ``"engine"`` for example; a reader asks for it.
    schema : int
        The version of that kind's layout, >= 0; a reader asks for it.

    Raises
    ------
    TypeError, ValueError
        For what a bundle cannot hold.
    OSError
        From the system, a full disk for example; `path` is then as it was.

    Notes
    -----
    Cost: one pass for the digests (sha256) and one to write; no memory beside copies of arrays
    that are not contiguous little-endian. See `replacing` for what a killed process leaves.
    """
    from recengine import __version__

    if not isinstance(kind, str) or not kind:
        raise ValueError(f"kind must be a non-empty str, got {kind!r}")
    as_count("schema", schema)
    plain = {name: _storable(name, array) for name, array in arrays.items()}
    entries: list[Entry] = []
    offset = 0
    for name, array in plain.items():
        digest = digest_of(_chunks(array), array.nbytes)
        entries.append(Entry(name, array.dtype, array.shape, offset, array.nbytes, digest))
        offset = aligned(offset + array.nbytes)
    manifest = json.dumps(
        {
            "kind": kind,
            "schema": int(schema),
            "version": __version__,
            "meta": dict(meta),
            "arrays": [entry.as_json() for entry in entries],
        },
        allow_nan=False,
    ).encode()
    _check_keys("meta", meta)
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ValueError(f"meta must fit {MAX_MANIFEST_BYTES} bytes of JSON, got {len(manifest)}")
    start = aligned(HEADER.size + len(manifest))
    digest_of_manifest = hashlib.sha256(manifest).digest()
    with replacing(path) as stream:
        stream.write(HEADER.pack(MAGIC, FORMAT, len(manifest), start + offset, digest_of_manifest))
        _write_padded(stream, manifest, start - HEADER.size)
        for array, entry in zip(plain.values(), entries, strict=True):
            if isinstance(array, Pieces):
                if digest_of(_written(stream, array.chunks()), array.nbytes) != entry.sha256:
                    raise ValueError(f"the pieces of {entry.name!r} must be the same when written")
                stream.write(bytes(aligned(array.nbytes) - array.nbytes))
            else:
                _write_padded(stream, _raw(array), aligned(array.nbytes))


def read_bundle(
    path: str | os.PathLike[str], *, kind: str, schema: int, verify: bool = True
) -> Bundle:
    """Map a bundle and return its arrays, after checking that it is whole.

    Parameters
    ----------
    path : path-like
        A file that `write_bundle` wrote.
    kind, schema : str, int
        What the caller can read; anything else in the file is an error.
    verify : bool
        True reads every byte and compares every digest. False checks length, header, manifest and
        layout only, in time independent of the arrays: for a file that was verified before.

    Returns
    -------
    Bundle
        Its arrays are read-only views of the mapped file.

    Raises
    ------
    FileNotFoundError
        Where there is no file.
    BundleError
        Where the file is damaged, foreign, or of another kind or schema.

    Notes
    -----
    Nothing in the file is executed or imported. Replacing the file (`write_bundle` does) leaves
    open bundles as they are; a file cut short *in place* while mapped kills its readers, as with
    any mapping, so copy a bundle aside and rename it. Arrays may be read from any thread.
    """
    where = os.fspath(path)
    if not stat.S_ISREG(Path(where).stat().st_mode):
        raise BundleError(f"{where} is not a regular file")
    with Path(where).open("rb") as stream:
        text, size = read_manifest(where, stream)
        manifest = parsed(where, text)
        if manifest["kind"] != kind:
            raise BundleError(f"{where} must be of kind {kind!r}, got {manifest['kind']!r}")
        if manifest["schema"] != schema or isinstance(manifest["schema"], bool):
            raise BundleError(
                f"{where} must have schema {schema}, got {manifest['schema']!r}: "
                f"it was written by recengine {manifest['version']}"
            )
        start = aligned(HEADER.size + len(text))
        entries = layout_of(where, manifest["arrays"], size - start)
        mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    if verify:
        _verify(where, mapped, HEADER.size + len(text), start, entries)
    return Bundle(
        arrays={entry.name: _view(mapped, start, entry) for entry in entries},
        meta=manifest["meta"],
        digests={entry.name: entry.sha256 for entry in entries},
        digest=hashlib.sha256(text).hexdigest(),
        version=manifest["version"],
    )


def _check_keys(place: str, value: Any) -> None:
    """Refuse what `json` would change silently: keys that are no strings."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} must have str keys, got {key!r}")
            _check_keys(f"{place}[{key!r}]", entry)
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            _check_keys(f"{place}[{number}]", entry)


def _storable(name: str, array: Any) -> NDArray[Any] | Pieces:
    if isinstance(array, Pieces):
        as_storable(name, np.empty(0, array.dtype))  # its name and dtype
        return array
    return as_storable(name, array)


def _chunks(array: NDArray[Any] | Pieces) -> Iterable[memoryview]:
    if isinstance(array, Pieces):
        return array.chunks()
    return [_raw(array)]


def _raw(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _written(stream: BinaryIO, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
    for chunk in chunks:
        stream.write(chunk)
        yield chunk


def _write_padded(stream: BinaryIO, content: bytes | memoryview, size: int) -> None:
    stream.write(content)
    stream.write(bytes(size - len(content)))


def _verify(where: str, mapped: mmap.mmap, end: int, start: int, entries: list[Entry]) -> None:
    """Compare every digest; `end` and `start` enclose the padding behind the manifest."""
    content = np.frombuffer(mapped, np.uint8)
    if content[end:start].any():
        raise BundleError(f"{where} is damaged: its padding is not zero")
    for entry in entries:
        first, last = start + entry.offset, start + entry.offset + entry.n_bytes
        raw = content[first:last]
        if hashlib.sha256(raw.data).hexdigest() != entry.sha256:
            raise BundleError(f"{where} is damaged: array {entry.name!r} fails its digest")
        if entry.dtype == np.bool_ and raw.size and raw.max() > 1:
            raise BundleError(f"{where} is damaged: array {entry.name!r} is not bool")
        if content[last : aligned(last)].any():
            raise BundleError(f"{where} is damaged: its padding is not zero")


def _view(mapped: mmap.mmap, start: int, entry: Entry) -> NDArray[Any]:
    if entry.n_bytes == 0:
        empty = np.empty(entry.shape, entry.dtype)
        empty.flags.writeable = False
        return empty
    flat = np.frombuffer(
        mapped, entry.dtype, entry.n_bytes // entry.dtype.itemsize, start + entry.offset
    )
    return flat.reshape(entry.shape)
