"""Ids and contents of items from files of any length, row after row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEPARATORS = {".csv": ",", ".tsv": "\t"}
RECORD_SUFFIXES = (*SEPARATORS, ".parquet")
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Records:
    """Rows (id, content) of a .parquet, .csv or .tsv file.

    Attributes
    ----------
    path : Path
    column : str
        Of the contents.
    id_column : str or None
        Of the ids; row numbers, from 0, when None.
    n_rows : int or None
        None where only reading can tell.
    """

    path: Path
    column: str
    id_column: str | None
    n_rows: int | None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if self.path.suffix.lower() == ".parquet":
            return self._of_parquet()
        return self._of_table()

    def _of_parquet(self) -> Iterator[tuple[Any, Any]]:
        names = [self.column] if self.id_column is None else [self.id_column, self.column]
        start = 0
        with _parquet().ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(dict.fromkeys(names))):
                contents = batch.column(self.column).to_pylist()
                if self.id_column is None:
                    yield from enumerate(contents, start)
                else:
                    yield from zip(batch.column(self.id_column).to_pylist(), contents, strict=True)
                start += len(contents)

    def _of_table(self) -> Iterator[tuple[Any, Any]]:
        with self.path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines, delimiter=SEPARATORS[self.path.suffix.lower()])
            header = next(rows, [])
            content = header.index(self.column)
            key = None if self.id_column is None else header.index(self.id_column)
            number = 0
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{self.path}:{rows.line_num} must have {len(header)} columns, "
                        f"got {len(row)}"
                    )
                yield (number if key is None else row[key]), row[content]
                number += 1


def open_records(path: Path, column: str | None, id_column: str | None) -> Records:
    """Open a file of items.

    Parameters
    ----------
    path : Path
        A .parquet, .csv or .tsv file with a header.
    column, id_column : str or None
        Which columns hold contents and ids. Ids of text files are str.

    Returns
    -------
    Records
        Memory: 4,096 rows; of a Parquet file a row group, as its writer cut it.

    Raises
    ------
    ValueError
        If there is no such column, or the file is of another kind.
    FileNotFoundError, ImportError
        If there is no file; Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in RECORD_SUFFIXES:
        raise ValueError(f"source must end in {', '.join(RECORD_SUFFIXES)}, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    n_rows: int | None = None
    if suffix == ".parquet":
        pq = _parquet()
        try:
            with pq.ParquetFile(path) as file:
                names, n_rows = file.schema_arrow.names, file.metadata.num_rows
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise ValueError(f"{path} must be a readable .parquet file, got: {error}") from error
    else:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            names = next(csv.reader(lines, delimiter=SEPARATORS[suffix]), [])
    listed = ", ".join(names)
    if column is None:
        raise ValueError(f"column must say what to encode: one of {listed}")
    for argument, name in (("column", column), ("id_column", id_column)):
        if name is not None and name not in names:
            raise ValueError(f"{argument} must be one of {listed}, got {name!r}")
    return Records(path, column, id_column, n_rows)


def _parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError("Parquet needs pyarrow: pip install 'recengine[data]'") from None
    return pq
