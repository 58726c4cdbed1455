"""Reading what people give to commands: events, attributes of items, texts."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recengine.cli.screen import waiting

if TYPE_CHECKING:
    from recengine.data import Interactions

ITEMS_ARGUMENT = re.compile(r"^items\[('[^']*')\]")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".item": "\t"}


def read_events(path: Path, columns: Sequence[str] | None) -> Interactions:
    """Return the cleaned events of a file; `columns` are ROLE=NAME pairs."""
    from recengine.data import SUFFIXES, Interactions, MissingColumnError

    mapping = as_mapping(columns or [])
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"EVENTS must end in {', '.join(SUFFIXES)}, got {path.name!r}")
    _check_file(path)
    with waiting(f"reading {path}"):
        try:
            events = Interactions.read(path, mapping)
        except MissingColumnError as error:
            raise ValueError(
                f"{path} must have a column {error.name!r} for {error.role}, got "
                f"{', '.join(error.present)}; say -c {error.role}=NAME"
            ) from error
        except (TypeError, ValueError) as error:  # what cannot be meant is the file's fault
            said = str(error)
            about = said.removeprefix("path") if said.startswith("path ") else f": {said}"
            raise ValueError(f"{path}{about}") from error
    if not len(events):
        raise ValueError(f"{path} must hold events, got none of {events.report.n_read} rows")
    return events


def as_mapping(pairs: Sequence[str]) -> dict[str, str | None]:
    """Return ROLE=NAME pairs as a dict; an empty NAME is None."""
    from recengine.data import REQUIRED, ROLES

    mapping: dict[str, str | None] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals:
            raise ValueError(f"--column must be ROLE=NAME, got {pair!r}")
        if role not in ROLES:
            raise ValueError(f"--column must be ROLE=NAME of {', '.join(ROLES)}, got {pair!r}")
        if not name and role in REQUIRED:
            raise ValueError(f"--column must name a column for {role}, got {pair!r}")
        mapping[role] = name or None
    return mapping


def read_items(path: Path) -> Any:
    """Return a frame of item attributes from a .csv, .tsv, .parquet or RecBole .item file."""
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, ".parquet"):
        known = ", ".join((*SEPARATORS, ".parquet"))
        raise ValueError(f"--items must end in {known}, got {path.name!r}")
    _check_file(path)
    try:
        import polars as pl
    except ImportError:
        raise ImportError("--items needs polars: pip install 'recengine[data]'") from None
    try:
        if suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            quote = None if suffix == ".item" else '"'
            frame = pl.read_csv(
                path, separator=SEPARATORS[suffix], quote_char=quote, infer_schema_length=None
            )
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} must be a readable {suffix} file, got: {reason}") from error
    if suffix == ".item":
        frame = frame.rename({name: name.partition(":")[0] for name in frame.columns})
    if "item_id" not in frame.columns:
        raise ValueError(
            f"{path} must have a column 'item_id', got {', '.join(frame.columns)}: rename one"
        )
    return frame


def items_error(path: Path | None, error: Exception) -> ValueError:
    """Return an error about the attributes that `read_items` read, in words about the file."""
    return ValueError(f"{path}: " + ITEMS_ARGUMENT.sub(r"column \1", str(error)))


def read_texts(path: Path, column: str | None) -> list[str]:
    """Return the texts of a file: a column of a .csv or .tsv, else one text a line."""
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv"):
        if column is not None:
            raise ValueError(f"--column needs a .csv or .tsv file, got {path.name!r}")
        return path.read_text("utf-8").splitlines()
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter=SEPARATORS[suffix])
        header = next(rows, [])
        if column is None:
            raise ValueError(f"say which column: --column NAME, one of {', '.join(header)}")
        if column not in header:
            raise ValueError(f"--column must be one of {', '.join(header)}, got {column!r}")
        place = header.index(column)
        texts = []
        for row in rows:
            if row and len(row) <= place:
                raise ValueError(f"{path}:{rows.line_num} must have {len(header)} columns")
            if row:
                texts.append(row[place])
    return texts


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
