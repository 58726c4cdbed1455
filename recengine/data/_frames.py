"""Frames and files of anybody's making: find the event columns and hand them on as NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recengine.data._columns import Column, Mask, id_column, time_column, weight_column
from recengine.data.cleaning import RawEvents

if TYPE_CHECKING:
    import narwhals as nw
    import polars as pl

ROLES = ("user_id", "item_id", "weight", "datetime")
REQUIRED = ROLES[:2]
# What RecBole's typed files call the roles; its headers read "user_id:token".
INTER_NAMES = {"weight": "rating", "datetime": "timestamp"}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}

SUFFIXES = (*SEPARATORS, ".parquet")

Convert: TypeAlias = Callable[[str, Any, Mask | None], Column]


class MissingColumnError(ValueError):
    """The events have no column for a role.

    Attributes
    ----------
    role : str
        What is missing, of `ROLES`.
    name : str
        What the column would be called.
    present : tuple of str
        What there is instead.
    """

    def __init__(self, role: str, name: str, present: Iterable[str]) -> None:
        self.role, self.name, self.present = role, name, tuple(present)
        super().__init__(
            f"the events must have a column {name!r} for {role}, got {', '.join(self.present)}; "
            f"say columns={{{role!r}: ...}}"
        )

    def __reduce__(self) -> tuple[type[MissingColumnError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.role, self.name, self.present)


def raw_from_frame(frame: Any, columns: Mapping[str, str | None] | None) -> RawEvents:
    """Return the event columns of a pandas, polars or Arrow table."""
    import narwhals as nw

    table = nw.from_native(frame, eager_only=True, pass_through=True)
    if not isinstance(table, nw.DataFrame):
        raise TypeError(
            "frame must be a pandas or polars DataFrame or an Arrow Table, "
            f"got {type(frame).__module__}.{type(frame).__name__}"
        )
    names = resolve(table.columns, columns)
    series = {role: table.get_column(name) for role, name in names.items()}
    return RawEvents(
        users=_column("user_id", series, id_column),
        items=_column("item_id", series, id_column),
        weights=_column("weight", series, weight_column) if "weight" in series else None,
        times=_column("datetime", series, time_column) if "datetime" in series else None,
    )


def resolve(
    available: Iterable[str],
    columns: Mapping[str, str | None] | None,
    defaults: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return role → column name; optional roles that nobody has are left out."""
    present = list(available)
    if columns is not None and not isinstance(columns, Mapping):
        raise TypeError(f"columns must be a mapping of role to name, got {type(columns).__name__}")
    wanted = dict(columns or {})
    unknown = [role for role in wanted if role not in ROLES]
    if unknown:
        raise ValueError(f"columns must map {', '.join(ROLES)}, got {unknown[0]!r}")
    names: dict[str, str] = {}
    for role in ROLES:
        name = wanted[role] if role in wanted else (defaults or {}).get(role, role)
        if name is None:
            if role in REQUIRED:
                raise ValueError(f"columns must name a column for {role!r}, got None")
        elif name in present:
            names[role] = name
        elif role in wanted or role in REQUIRED:
            raise MissingColumnError(role, name, present)
    return names


def read_table(path: Path, columns: Mapping[str, str | None] | None) -> pl.DataFrame:
    """Return the event columns of a file, under their roles' names."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path must end in {', '.join(SUFFIXES)}, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file, got {str(path)!r}")
    try:
        import polars as pl
    except ImportError:
        raise ImportError("Interactions.read needs polars: pip install 'recengine[data]'") from None
    try:
        table = _scanned(path, suffix, columns)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"path must be a readable {suffix} file, got: {reason}") from error
    if suffix != ".parquet" and table.schema.get("datetime") == pl.String:
        table = table.with_columns(_parse_times(table["datetime"]))
    return table


def _scanned(path: Path, suffix: str, columns: Mapping[str, str | None] | None) -> pl.DataFrame:
    import polars as pl

    if suffix == ".parquet":
        scan = pl.scan_parquet(path)
    else:
        scan = pl.scan_csv(
            path,
            separator=SEPARATORS[suffix],
            quote_char=None if suffix == ".inter" else '"',
            infer_schema_length=None,
        )
    headers = scan.collect_schema().names()
    bare = {
        header.partition(":")[0] if suffix == ".inter" else header: header for header in headers
    }
    names = resolve(bare, columns, INTER_NAMES if suffix == ".inter" else None)
    return scan.select(pl.col(bare[name]).alias(role) for role, name in names.items()).collect()


def _parse_times(text: pl.Series) -> pl.Series:
    times = text.str.to_datetime(strict=False, time_zone="UTC")
    lost = times.is_null() & text.is_not_null()
    if lost.any():
        example = text.filter(lost)[0]
        raise ValueError(f"datetime must be ISO 8601 or seconds since 1970, got {example!r}")
    return times


def _column(role: str, series: Mapping[str, nw.Series[Any]], convert: Convert) -> Column:
    """Return a column without a detour of gaps through NaN, which would round large integers."""
    import narwhals as nw

    column = series[role]
    null = np.asarray(column.is_null().to_numpy(), bool)
    dtype = column.dtype
    if null.all():  # nothing to judge the kind by: text files leave it open
        return convert(role, np.zeros(len(null), np.int64), null)
    if isinstance(dtype, nw.Categorical | nw.Enum):
        column, dtype = column.cast(nw.String()), nw.String()
    if dtype in (nw.Datetime, nw.Date):
        return _time_series(role, column, null, convert)
    if dtype.is_integer() and dtype in (nw.Int128, nw.UInt128):
        raw: Any = np.array(column.to_list(), dtype=object)
    elif dtype.is_integer() or dtype.is_float():
        raw = (column.fill_null(0) if null.any() else column).to_numpy()
    elif dtype == nw.String:
        raw = np.array(column.fill_null("").to_list(), dtype=object)
    else:
        raw = column.to_numpy()
    return convert(role, raw, null)


def _time_series(role: str, column: nw.Series[Any], null: Mask, convert: Convert) -> Column:
    import narwhals as nw

    if convert is not time_column:
        kind = "numbers" if convert is weight_column else "integers or strings"
        raise TypeError(f"{role} must be {kind}, got {column.dtype}")
    # Milliseconds since 1970 whatever the unit and the zone; those without a zone count as UTC.
    moments = column.cast(nw.Datetime("ms")) if column.dtype == nw.Date else column
    milliseconds = moments.dt.timestamp("ms")
    raw = (milliseconds.fill_null(0) if null.any() else milliseconds).to_numpy()
    return time_column(role, np.asarray(raw, np.int64) // 1000, null)
