"""The finished parts of a catalogue that is being encoded, and their union."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._types import Float32Array, IdArray, Int64Array
from recengine.storage import (
    Pieces,
    pack_ids,
    pack_strings,
    read_bundle,
    unpack_ids,
    unpack_strings,
    write_bundle,
)
from recengine.storage.atomic import replacing

PART, PART_SCHEMA = "catalogue-part", 1
WHOLE, SCHEMA = "catalogue", 1
SETTINGS, CACHE = "run.json", "cache"


@dataclass(frozen=True)
class SkippedRow:
    """A row of a source that has no vector.

    Attributes
    ----------
    row : int
        Its number in the source, from 0.
    reason : str
        What was wrong with it, beginning with that number and the id.
    """

    row: int
    reason: str


@dataclass(frozen=True)
class Rows:
    """Rows of a source that were encoded, and those that could not be.

    Attributes
    ----------
    ids : ndarray (n,), int64 or object holding str
    vectors : ndarray (n, dim), float32
    rows : ndarray (n,), int64
        The number of each in the source, ascending.
    skipped : tuple of SkippedRow
        Ascending.
    """

    ids: IdArray
    vectors: Float32Array
    rows: Int64Array
    skipped: tuple[SkippedRow, ...]


class Parts:
    """A folder of finished parts, each a checked file that appears whole or not at all.

    Parameters
    ----------
    folder : Path
    settings : mapping
        JSON of what makes the vectors, the same for all parts.
    resume : bool
        False throws away what an earlier run finished.

    Raises
    ------
    ValueError
        If an earlier run had other settings, and is to be resumed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = folder
        told = folder / SETTINGS
        if folder.is_dir() and (not resume or not told.is_file()):
            _discard(folder)
        folder.mkdir(exist_ok=True)
        if not told.is_file() or not any(folder.glob("*.part")):
            with replacing(told) as stream:
                stream.write(json.dumps(dict(settings), sort_keys=True).encode())
            return
        try:
            before = json.loads(told.read_bytes())
        except ValueError as error:
            raise BundleError(f"{told} is damaged: resume=False begins anew") from error
        if changed := [name for name, value in settings.items() if before.get(name) != value]:
            name = changed[0]
            raise ValueError(
                f"{name} must be {before.get(name)!r}, as in the unfinished run in {folder}, got "
                f"{settings[name]!r}: resume=False throws that run away"
            )

    def path(self, number: int) -> Path:
        """Return where a part stands once it is finished."""
        return self.folder / f"{number:08}.part"

    def finished(self, number: int, fingerprint: str) -> Rows | None:
        """Return a part, if it is there, whole, and of rows that are what they were."""
        try:
            bundle = read_bundle(self.path(number), kind=PART, schema=PART_SCHEMA)
        except (FileNotFoundError, BundleError):
            return None
        if bundle.meta.get("fingerprint") != fingerprint:
            return None
        return rows_of(bundle.arrays)

    def write(self, number: int, fingerprint: str, part: Rows) -> None:
        """Finish a part: when this returns it is on the disk."""
        arrays = packed(part.ids, part.rows, part.skipped) | {"vectors": part.vectors}
        write_bundle(
            self.path(number), arrays, {"fingerprint": fingerprint}, kind=PART, schema=PART_SCHEMA
        )

    def remove(self) -> None:
        """Remove the folder; a process killed meanwhile leaves nothing that is resumed."""
        (self.folder / SETTINGS).unlink()
        shutil.rmtree(self.folder)

    def join(self, n_parts: int, out: Path, meta: Mapping[str, Any], *, strict: bool) -> None:
        """Write all parts as one file. Memory: ids and row numbers of all, vectors of one part.

        Raises
        ------
        ValueError
            If ids stand twice and `strict`.
        """
        parts = [self._rows(number) for number in range(n_parts)]
        ids = _joined_ids([ids for ids, _, _ in parts])
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows, _ in parts)])
        first = first_places(ids)
        kept = first == np.arange(len(ids))
        twins = [
            SkippedRow(
                int(rows[at]),
                f"row {rows[at]} (id {ids[at]!r}) has the id of row {rows[first[at]]}",
            )
            for at in np.flatnonzero(~kept).tolist()
        ]
        if twins and strict:
            raise ValueError(f"ids must be distinct: {twins[0].reason}")
        skipped = [one for _, _, told in parts for one in told] + twins
        ends = np.cumsum([0, *(len(part) for part, _, _ in parts)])

        def vectors() -> Iterator[NDArray[Any]]:
            for number in range(n_parts):
                yield self._vectors(number)[kept[ends[number] : ends[number + 1]]]

        shape = (int(kept.sum()), int(meta["dim"]))
        whole: dict[str, Any] = dict(
            packed(ids[kept], rows[kept], sorted(skipped, key=lambda one: one.row))
        )
        whole["vectors"] = Pieces(np.dtype("<f4"), shape, vectors)
        write_bundle(out, whole, meta, kind=WHOLE, schema=SCHEMA)

    def _rows(self, number: int) -> tuple[IdArray, Int64Array, tuple[SkippedRow, ...]]:
        arrays = read_bundle(self.path(number), kind=PART, schema=PART_SCHEMA, verify=False).arrays
        part = rows_of(arrays)
        return part.ids.copy(), part.rows.copy(), part.skipped

    def _vectors(self, number: int) -> Float32Array:
        return read_bundle(self.path(number), kind=PART, schema=PART_SCHEMA).arrays["vectors"]


def _discard(folder: Path) -> None:
    """Remove the folder of a run, and no other."""
    for path in folder.iterdir():
        if path.suffix not in (".part", ".tmp") and path.name not in (SETTINGS, CACHE):
            raise ValueError(f"{folder} must hold nothing but parts of a run, got {path.name!r}")
    shutil.rmtree(folder)


def packed(
    ids: IdArray, rows: Int64Array, skipped: Sequence[SkippedRow]
) -> dict[str, NDArray[Any]]:
    """Return all but the vectors as arrays of a bundle."""
    offsets, text = pack_strings(one.reason for one in skipped)
    return pack_ids("ids", ids) | {
        "rows": rows,
        "skipped/rows": np.array([one.row for one in skipped], np.int64),
        "skipped/reasons/offsets": offsets,
        "skipped/reasons/utf8": text,
    }


def rows_of(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return what a bundle of rows holds.

    Raises
    ------
    BundleError
        If its arrays do not fit each other.
    """
    try:
        ids, vectors, rows = unpack_ids("ids", arrays), arrays["vectors"], arrays["rows"]
        reasons = unpack_strings(
            arrays["skipped/reasons/offsets"], arrays["skipped/reasons/utf8"]
        ).tolist()
        numbers = arrays["skipped/rows"]
    except KeyError as error:
        raise BundleError(f"a catalogue must have the array {error.args[0]!r}") from error
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(ids):
        raise BundleError("the vectors of a catalogue must be float32, one for each id")
    if rows.dtype != np.int64 or rows.shape != (len(ids),):
        raise BundleError("the rows of a catalogue must be int64, one for each id")
    if numbers.dtype != np.int64 or numbers.shape != (len(reasons),) or None in reasons:
        raise BundleError("a catalogue must have a reason for each row that was skipped")
    skipped = (SkippedRow(*pair) for pair in zip(numbers.tolist(), reasons, strict=True))
    return Rows(ids, vectors, rows, tuple(skipped))


def first_places(ids: IdArray) -> Int64Array:
    """Return, for each id, the first place where it stands."""
    if ids.dtype == np.int64:
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        return first[inverse].astype(np.int64)
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(name, at) for at, name in enumerate(ids)], np.int64)


def _joined_ids(parts: list[IdArray]) -> IdArray:
    filled = [part for part in parts if len(part)]
    if not filled:
        return np.empty(0, np.int64)
    return np.concatenate(filled)
