"""`encode_catalogue`: a source of any length to ids and vectors in one file, resumable."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recengine._errors import BundleError
from recengine._types import Float32Array, IdArray, Int64Array
from recengine._validation import as_choice, as_count, as_ids
from recengine.data.records import Records, open_records
from recengine.encoders.catalogue_parts import (
    CACHE,
    SCHEMA,
    WHOLE,
    Parts,
    Rows,
    SkippedRow,
    rows_of,
)
from recengine.encoders.contents import CatalogueEncoder, content_hash, identity, kind_of
from recengine.encoders.progress import progress_bar
from recengine.encoders.skipping import ON_ERROR
from recengine.encoders.vector_cache import VectorCache
from recengine.storage import read_bundle

PLACE = re.compile(r"^\w+\[(\d+)\]")  # how encoders name an entry
CACHE_BYTES = 4 << 30


@dataclass(frozen=True)
class Catalogue:
    """Ids and vectors of a catalogue, as they lie in a mapped file.

    Attributes
    ----------
    ids : ndarray (n,), int64 or object holding str
    vectors : ndarray (n, dim), float32
        Read-only: ``FlatIndex(catalogue.vectors, catalogue.ids)`` takes them without a copy.
    rows : ndarray (n,), int64
        The number of each in the source, ascending.
    skipped : tuple of SkippedRow
        The rows of the source that have no vector, and why; ascending.
    encoder : str
        The digest of the encoder.
    counts : dict of str to int
        What `encode_catalogue` did: rows "resumed" from an earlier run, "encoded" by the graph,
        "repeated" (content met before, here or in the cache). Empty for one that was opened.
    """

    ids: IdArray
    vectors: Float32Array
    rows: Int64Array
    skipped: tuple[SkippedRow, ...]
    encoder: str
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> Catalogue:
        """Map a file that `encode_catalogue` wrote.

        Parameters
        ----------
        path : path
        verify : bool
            True reads every byte and compares every digest.

        Returns
        -------
        Catalogue

        Raises
        ------
        FileNotFoundError
            If there is no file.
        BundleError
            If it is damaged or no catalogue.
        """
        bundle = read_bundle(path, kind=WHOLE, schema=SCHEMA, verify=verify)
        encoder = bundle.meta.get("encoder")
        if not isinstance(encoder, str):
            raise BundleError(f"{os.fspath(path)} must name the digest of its encoder")
        part = rows_of(bundle.arrays)
        return cls(part.ids, part.vectors, part.rows, part.skipped, encoder)


def encode_catalogue(
    source: str | os.PathLike[str] | Iterable[tuple[Any, Any]],
    encoder: CatalogueEncoder,
    out: str | os.PathLike[str],
    *,
    column: str | None = None,
    id_column: str | None = None,
    on_error: str = "raise",
    batch_size: int | None = None,
    chunk_size: int = 4096,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = CACHE_BYTES,
    resume: bool = True,
    progress: bool = False,
) -> Catalogue:
    """Encode a catalogue of any length into one file of ids and vectors.

    Parameters
    ----------
    source : path or iterable of (id, content)
        A .parquet, .csv or .tsv file, or pairs. Content is text for a `TextEncoder`; for an
        `ImageEncoder` or `AudioEncoder` a path or the bytes of a file. Relative paths in a file
        start at its folder.
    encoder : TextEncoder, ImageEncoder or AudioEncoder
    out : path
        The file to make or to replace. Beside it, ``out.parts`` holds what is finished.
    column, id_column : str, optional
        Columns of a file; ids are the row numbers when omitted. Ids are int64 or str.
    on_error : {"raise", "skip"}
        What to do about a row that has no content or id, cannot be encoded, or has the id of an
        earlier row: raise, or leave it out and report it in ``skipped``.
    batch_size : int, optional
        As of the encoder's `encode`, whose default it has.
    chunk_size : int
        Rows that are read, sorted by length into batches, encoded and finished together.
    cache : path, optional
        A folder where vectors stay, by the digest of the encoder and the SHA-256 of the content,
        for later runs. Within a run equal contents are encoded once in any case.
    cache_bytes : int
        About how large the cache may become, for each encoder; the oldest vectors leave first.
    resume : bool
        Go on with an unfinished run; False throws it away.
    progress : bool
        Show a progress bar with rate and time left on standard error.

    Returns
    -------
    Catalogue

    Raises
    ------
    ValueError
        For a bad row under "raise", with its number, id and reason; if the unfinished run had
        another encoder, batch_size or chunk_size.
    TypeError
        For content or ids of another type; also under "skip".
    BundleError
        If the cache is damaged.

    Notes
    -----
    A chunk is finished when its file, with checksums, is on the disk under its name; whatever
    kills the process, finished chunks are not encoded again. They are recognised by their rows
    (ids and text; of files path, size and time), so a source may also change: only chunks that
    changed are encoded anew. One run at a time may write one `out`.

    The vector of a text may depend on its batch by the rounding of a float graph. Chunks are cut by
    row number alone and contents met before are taken from the disk, also by a resumed run, so it
    writes the same bytes as one that was never interrupted (given the same cache at the start).
    Another `chunk_size`, or a filled cache, means other batch mates.

    Memory: one chunk, the ids and row numbers (8 bytes each; str ids are Python objects), and what
    the encoder needs; never the vectors. Disk: twice the vectors until the end.

    Examples
    --------
    >>> films = encode_catalogue(  # doctest: +SKIP
    ...     "films.parquet", encoder, "films.rec", column="title", id_column="item_id"
    ... )
    >>> index = FlatIndex(films.vectors, films.ids)  # doctest: +SKIP
    """
    kind = kind_of(encoder)
    strict = as_choice("on_error", on_error, ON_ERROR) == "raise"
    if batch_size is not None:
        batch_size = as_count("batch_size", batch_size, minimum=1)
    chunk_size = as_count("chunk_size", chunk_size, minimum=1)
    as_count("cache_bytes", cache_bytes, maximum=None)
    target = Path(out).absolute()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r}")
    entries, total = _entries(source, column, id_column, files=kind == "file")
    settings = {"encoder": encoder.digest, "batch_size": batch_size, "chunk_size": chunk_size}
    parts = Parts(target.with_name(f"{target.name}.parts"), settings, resume=resume)
    folder = parts.folder / CACHE if cache is None else Path(cache)
    counts = {"resumed": 0, "encoded": 0, "repeated": 0}
    n_parts, kinds = 0, set[Any]()
    with (
        VectorCache(folder, encoder.digest, encoder.dim, cache_bytes) as vectors,
        progress_bar("encoding", total, shown=progress) as advance,
    ):
        for chunk in _chunks(entries, chunk_size):
            work = _Chunk(encoder, chunk, n_parts * chunk_size)
            told = work.fingerprint()
            part = parts.finished(n_parts, told)
            if part is None:
                part = work.encoded(vectors, batch_size, counts, strict=strict)
                parts.write(n_parts, told, part)
            else:
                counts["resumed"] += len(part.rows)
            if strict and part.skipped:
                raise ValueError(part.skipped[0].reason)
            kinds |= {part.ids.dtype} if len(part.ids) else set()
            if len(kinds) > 1:
                row = n_parts * chunk_size + len(chunk)
                raise TypeError(f"ids must be all integers or all strings, got both by row {row}")
            n_parts += 1
            advance(len(chunk))
    parts.join(n_parts, target, {"encoder": encoder.digest, "dim": encoder.dim}, strict=strict)
    parts.remove()
    found = Catalogue.open(target, verify=False)
    return Catalogue(
        found.ids, found.vectors, found.rows, found.skipped, found.encoder, counts=counts
    )


class _Chunk:
    """Rows that are encoded and finished together."""

    def __init__(self, encoder: CatalogueEncoder, rows: list[tuple[Any, Any]], start: int) -> None:
        self._encoder, self._kind, self._start = encoder, kind_of(encoder), start
        self._rows = rows
        self._names = [f"row {n} (id {key!r})" for n, (key, _) in enumerate(rows, start)]
        self._identities = [self._identity(row) for row in range(len(rows))]

    def fingerprint(self) -> str:
        """Return a digest of what the rows are, by which a finished part is recognised."""
        digest = hashlib.sha256()
        for (key, _), content in zip(self._rows, self._identities, strict=True):
            for piece in (repr(key).encode(errors="surrogatepass"), content):
                digest.update(len(piece).to_bytes(8, "little"))
                digest.update(piece)
        return digest.hexdigest()

    def encoded(
        self, cache: VectorCache, batch_size: int | None, counts: dict[str, int], *, strict: bool
    ) -> Rows:
        """Return the vectors of the rows; what is new goes into the cache before."""
        hashes, bad = self._hashes(strict=strict)
        first: dict[bytes, int] = {}
        for row, content in hashes.items():
            first.setdefault(content, row)
        known = cache.get(list(first))
        asked = [(content, row) for content, row in first.items() if content not in known]
        fresh, failed = self._fresh([row for _, row in asked], batch_size)
        made = {content: fresh[row] for content, row in asked if row in fresh}
        cache.put(made)
        known |= made
        reasons = {content: failed[row] for content, row in asked if row in failed}
        for row, content in hashes.items():
            if content in reasons:
                bad[row] = f"{self._names[row]} {reasons[content]}"
        kept = [row for row in hashes if row not in bad]
        counts["encoded"] += len(made)
        counts["repeated"] += len(kept) - len(made)
        vectors = np.empty((len(kept), self._encoder.dim), np.float32)
        for place, row in enumerate(kept):
            vectors[place] = known[hashes[row]]
        skipped = [SkippedRow(self._start + row, bad[row]) for row in sorted(bad)]
        if strict and skipped:
            raise ValueError(skipped[0].reason)
        numbers = np.array(kept, np.int64) + self._start
        return Rows(self._ids(kept), vectors, numbers, tuple(skipped))

    def _hashes(self, *, strict: bool) -> tuple[dict[int, bytes], dict[int, str]]:
        """Return (content hash of each row that has one, what is wrong with the others)."""
        hashes: dict[int, bytes] = {}
        bad: dict[int, str] = {}
        for row, (key, content) in enumerate(self._rows):
            name = self._names[row]
            try:
                if key is None:
                    raise ValueError(f"{name} must have an id")
                hashes[row] = content_hash(self._kind, name, content)
            except OSError as error:
                bad[row] = f"{name} cannot be read: {error}"
            except ValueError as error:
                bad[row] = str(error)
            if strict and row in bad:
                raise ValueError(bad[row])
        return hashes, bad

    def _fresh(
        self, rows: list[int], batch_size: int | None
    ) -> tuple[dict[int, Float32Array], dict[int, str]]:
        """Return (vector of each row, what was wrong with the others)."""
        if not rows:
            return {}, {}
        contents = [self._rows[row][1] for row in rows]
        chosen: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
        found = self._encoder.encode(contents, on_error="skip", **chosen)
        vectors = {rows[at]: vector for at, vector in zip(found.kept, found.vectors, strict=True)}
        reasons = {rows[one.index]: PLACE.sub("", one.reason).strip() for one in found.skipped}
        for row in rows:
            if self._identity(row) != self._identities[row]:  # so its hash is of something else
                vectors.pop(row, None)
                reasons[row] = "changed while it was read"
        return vectors, reasons

    def _identity(self, row: int) -> bytes:
        return identity(self._kind, self._names[row], self._rows[row][1])

    def _ids(self, rows: list[int]) -> IdArray:
        try:
            return as_ids("ids", [self._rows[row][0] for row in rows])
        except (TypeError, ValueError) as error:
            end = self._start + len(self._rows) - 1
            raise type(error)(f"{error}, in rows {self._start} to {end}") from None


def _entries(
    source: Any, column: str | None, id_column: str | None, *, files: bool
) -> tuple[Iterator[tuple[Any, Any]], int | None]:
    """Return (pairs, how many there are)."""
    if isinstance(source, str | os.PathLike):
        records = open_records(Path(source), column, id_column)
        return (_beside(records) if files else iter(records)), records.n_rows
    if column is not None or id_column is not None:
        raise ValueError("column and id_column must go with a file, got a source of pairs")
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise TypeError(
            "source must be a path or an iterable of pairs (id, content), got "
            f"{type(source).__name__}"
        )
    return _pairs(source), len(source) if isinstance(source, Sized) else None


def _beside(records: Records) -> Iterator[tuple[Any, Any]]:
    for key, content in records:
        yield key, records.path.parent / content if isinstance(content, str) else content


def _pairs(source: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for number, entry in enumerate(source):
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise TypeError(f"source[{number}] must be a pair (id, content), got {entry!r:.60}")
        yield entry[0], entry[1]


def _chunks(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(entries, size)):
        yield chunk
