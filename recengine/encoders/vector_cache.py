"""Vectors on disk by what they were made of, so that nothing is encoded twice."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from recengine._errors import BundleError
from recengine._types import Float32Array

ASKED_AT_ONCE = 500  # places of one statement: SQLite allows 999 everywhere
OVERHEAD = 120  # bytes that SQLite takes a row beside the vector: two keys, an index entry, pages
PATIENCE = 60.0  # seconds to wait for another process


class VectorCache:
    """Vectors of one encoder by the SHA-256 of their content, in one SQLite file.

    Parameters
    ----------
    folder : Path
        Made where it is missing. One file an encoder, named by its digest.
    digest : str
        Of the encoder.
    dim : int
    most_bytes : int
        About how large the file may become; what was put first leaves first.

    Raises
    ------
    BundleError
        If the file is damaged.

    Notes
    -----
    `put` is one transaction, durable when it returns: a killed process leaves it whole or not
    done. Several processes may share a file. An object is for one thread.
    """

    def __init__(self, folder: Path, digest: str, dim: int, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{digest}.sqlite"
        self._dim, self._most = dim, max(1, most_bytes // (4 * dim + OVERHEAD))
        self._database = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
        try:
            with self._naming():
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS vectors (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "content BLOB UNIQUE NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL)"
                )
        except BaseException:
            self.close()
            raise

    def get(self, contents: Sequence[bytes]) -> dict[bytes, Float32Array]:
        """Return the vectors of those contents that are there and whole."""
        found: dict[bytes, Float32Array] = {}
        for start in range(0, len(contents), ASKED_AT_ONCE):
            asked = contents[start : start + ASKED_AT_ONCE]
            places = ", ".join("?" * len(asked))
            query = f"SELECT content, vector, crc FROM vectors WHERE content IN ({places})"
            with self._naming():
                rows = self._database.execute(query, asked).fetchall()
            for content, vector, crc in rows:
                if len(vector) == 4 * self._dim and zlib.crc32(vector) == crc:
                    found[content] = np.frombuffer(vector, "<f4")
        return found

    def put(self, vectors: Mapping[bytes, Float32Array]) -> None:
        """Add vectors by their content; drop the oldest ones beyond the bound."""
        rows = []
        for content, vector in vectors.items():
            raw = vector.astype("<f4").tobytes()
            rows.append((content, raw, zlib.crc32(raw)))
        with self._naming():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR REPLACE INTO vectors (content, vector, crc) VALUES (?, ?, ?)", rows
                )
                self._database.execute(
                    "DELETE FROM vectors WHERE number <= (SELECT max(number) FROM vectors) - ?",
                    (self._most,),
                )
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _naming(self) -> _Naming:
        return _Naming(self._path)


class _Naming:
    """Turns SQLite's word for a damaged file into an error that names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            raise BundleError(
                f"{self._path} is damaged ({error}): delete it, it holds copies only"
            ) from error
