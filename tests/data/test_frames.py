"""Frames and files: the same events from pandas, polars, Arrow, CSV, TSV, Parquet and .inter."""

from __future__ import annotations

import sys
from datetime import date, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recengine import CleaningRules, Interactions

LIBRARIES = ["pandas", "polars", "pyarrow"]
RAISE = CleaningRules(missing=False)


def frame_of(library: str, columns: dict):
    makers = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    return makers[library](columns)


def events_of(inter: Interactions) -> list[tuple]:
    times = [None] * len(inter) if inter.timestamps is None else inter.timestamps.tolist()
    return list(
        zip(
            inter.users.ids[inter.user_indices].tolist(),
            inter.items.ids[inter.item_indices].tolist(),
            inter.weights.tolist(),
            times,
            strict=True,
        )
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_of_all_libraries_give_the_same(library):
    frame = frame_of(
        library,
        {
            "user_id": [3, 1, 3],
            "item_id": ["x", "y", "z"],
            "weight": [1.0, 2.5, 4.0],
            "datetime": [datetime(1970, 1, 1, 0, 0, s, 900_000) for s in (3, 1, 2)],
        },
    )
    expected = [(3, "x", 1.0, 3), (1, "y", 2.5, 1), (3, "z", 4.0, 2)]
    assert events_of(Interactions.from_frame(frame)) == expected


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_entries_are_counted_and_do_not_round_large_ids(library):
    large = 2**62 + 1
    columns = {
        "user_id": [large, None, large, large, large],
        "item_id": ["a", "b", None, "d", "e"],
        "weight": [1.0, 1.0, 1.0, None, 1.0],
        "datetime": [datetime(2020, 1, 1)] * 4 + [None],
    }
    if library == "pandas":
        columns["user_id"] = pd.array(columns["user_id"], dtype="Int64")
    inter = Interactions.from_frame(frame_of(library, columns))
    assert events_of(inter) == [(large, "a", 1.0, 1_577_836_800)]
    assert inter.report.dropped["missing"] == 4
    assert inter.report.n_read == 5


def test_pandas_floats_with_gaps_are_ids():
    frame = pd.DataFrame({"user_id": [1, None, 3], "item_id": [1, 2, 3], "weight": [1, 1, None]})
    assert events_of(Interactions.from_frame(frame)) == [(1, 1, 1.0, None)]
    with pytest.raises(ValueError, match="missing is switched off"):
        Interactions.from_frame(frame, rules=RAISE)


def test_not_finite_is_not_missing_in_polars():
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "weight": [None, float("nan")]})
    dropped = Interactions.from_frame(frame).report.dropped
    assert (dropped["missing"], dropped["not_finite"]) == (1, 1)


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series(["b", "a", None], dtype="category"),
        pd.Series(["b", "a", None], dtype=object),
        pd.Series(["b", "a", float("nan")], dtype=object),
        pd.Series(["b", "a", None], dtype="string"),
        pl.Series(["b", "a", None], dtype=pl.Categorical),
        pl.Series(["b", "a", None], dtype=pl.Enum(["b", "a"])),
        pl.Series(["b", "a", None]),
        pa.chunked_array([["b"], ["a", None]]).dictionary_encode(),
        pa.array(["b", "a", None], pa.large_string()),
    ],
)
def test_text_of_every_kind(ids):
    library = type(ids).__module__.split(".")[0]
    frame = frame_of(library, {"user_id": ids, "item_id": [1, 2, 3]})
    inter = Interactions.from_frame(frame)
    assert events_of(inter) == [("b", 1, 1.0, None), ("a", 2, 1.0, None)]
    assert inter.report.dropped["missing"] == 1


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([date(1970, 1, 2), None]),
        pl.Series([datetime(1970, 1, 2), None], dtype=pl.Datetime("ns")),
        pl.Series([datetime(1970, 1, 2), None], dtype=pl.Datetime("us", "UTC")),
        pl.Series([86_400, None]),
        pl.Series([86_400.75, None]),
        pd.Series([datetime(1970, 1, 2), None]),
        pd.Series(pd.to_datetime(["1970-01-02T01:00", None])).dt.tz_localize("Europe/Berlin"),
        pd.Series([date(1970, 1, 2), None], dtype=object),
        pd.Series([86_400, None]),
        pa.array([86_400, None], pa.timestamp("s")),
        pa.array([1, None], pa.date32()),
    ],
)
def test_times_of_every_kind(times):
    library = type(times).__module__.split(".")[0]
    frame = frame_of(library, {"user_id": [1, 1], "item_id": [1, 2], "datetime": times})
    inter = Interactions.from_frame(frame)
    assert inter.timestamps.tolist() == [86_400]
    assert inter.report.dropped["missing"] == 1


def test_times_before_1970_are_cut_downwards():
    frame = pl.DataFrame(
        {"user_id": [1], "item_id": [1], "datetime": [datetime(1969, 12, 31, 23, 59, 58, 500_000)]}
    )
    assert Interactions.from_frame(frame).timestamps.tolist() == [-2]


def test_128_bit_integers_are_ids_where_they_fit():
    frame = pl.DataFrame(
        {"user_id": pl.Series([2**70, 5, None], dtype=pl.Int128), "item_id": [1, 2, 3]}
    )
    inter = Interactions.from_frame(frame)
    assert events_of(inter) == [(5, 2, 1.0, None)]
    assert (inter.report.dropped["out_of_range"], inter.report.dropped["missing"]) == (1, 1)


def test_columns_are_found_by_their_names():
    frame = pl.DataFrame({"uid": [1], "iid": [2], "n": [3.0], "at": [4], "weight": [9.0]})
    names = {"user_id": "uid", "item_id": "iid", "weight": "n", "datetime": "at"}
    assert events_of(Interactions.from_frame(frame, names)) == [(1, 2, 3.0, 4)]
    bare = Interactions.from_frame(frame, {**names, "weight": None, "datetime": None})
    assert events_of(bare) == [(1, 2, 1.0, None)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, r"must have a column 'user_id' for user_id, got uid, item_id; say columns="),
        ({"user_id": "uid", "weight": "w"}, "must have a column 'w' for weight"),
        ({"user_id": None}, "columns must name a column for 'user_id', got None"),
        ({"user": "uid"}, "columns must map user_id, item_id, weight, datetime, got 'user'"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Interactions.from_frame(pl.DataFrame({"uid": [1], "item_id": [2]}), columns)


@pytest.mark.parametrize("columns", [5, "uid", ["uid"], {"uid"}])
def test_columns_that_are_no_mapping_are_refused(columns):
    with pytest.raises(TypeError, match="columns must be a mapping of role to name, got"):
        Interactions.from_frame(pl.DataFrame({"user_id": [1], "item_id": [2]}), columns)


@pytest.mark.parametrize(
    "frame", [{"user_id": [1]}, [1], pl.LazyFrame({"user_id": [1]}), pl.Series([1]), None]
)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(TypeError, match="frame must be a pandas or polars DataFrame or an Arrow"):
        Interactions.from_frame(frame)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [1.5]}, "user_id must be integers or strings, got 1.5"),
        ({"user_id": [True]}, "user_id must be integers or strings, got dtype bool"),
        ({"user_id": [date(2020, 1, 1)]}, "user_id must be integers or strings, got Date"),
        ({"weight": ["1"]}, "weight must be numbers, got str"),
        ({"weight": [datetime(2020, 1, 1)]}, "weight must be numbers, got Datetime"),
        ({"datetime": ["2020-01-01"]}, "datetime must be datetimes or seconds since 1970, got str"),
    ],
)
def test_columns_of_a_wrong_kind_are_refused(columns, message):
    with pytest.raises(TypeError, match=message):
        Interactions.from_frame(pl.DataFrame({"user_id": [1], "item_id": [2], **columns}))


TABLE = "user_id{0}item_id{0}extra{0}weight{0}datetime\n7{0}a{0}?{0}2{0}100\n5{0}b{0}?{0}1{0}\n"


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_text_files_are_read(tmp_path, suffix, separator):
    path = tmp_path / f"events{suffix}"
    path.write_text(TABLE.format(separator))
    inter = Interactions.read(str(path))
    assert events_of(inter) == [(7, "a", 2.0, 100)]
    assert inter.report.dropped["missing"] == 1


def test_parquet_is_read(tmp_path):
    path = tmp_path / "events.parquet"
    pl.DataFrame({"u": ["x"], "item_id": [2], "datetime": [date(1970, 1, 2)]}).write_parquet(path)
    assert events_of(Interactions.read(path, {"user_id": "u"})) == [("x", 2, 1.0, 86_400)]


def test_inter_files_lose_their_types(tmp_path):
    path = tmp_path / "some.inter"
    path.write_text(
        'user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t"a\t3\t881250949\n'
    )
    assert events_of(Interactions.read(path)) == [(1, '"a', 3.0, 881_250_949)]
    bare = Interactions.read(path, {"weight": None, "datetime": None})
    assert events_of(bare) == [(1, '"a', 1.0, None)]


def test_text_times_are_iso_8601(tmp_path):
    path = tmp_path / "events.csv"
    rows = ["1970-01-01T00:00:01Z", "1970-01-01 02:00:02+02:00", ""]
    lines = [f"{user},2024-01-0{user},{text}" for user, text in enumerate(rows, 1)]
    path.write_text("\n".join(["user_id,item_id,datetime", *lines]))
    inter = Interactions.read(path)
    assert events_of(inter) == [(1, "2024-01-01", 1.0, 1), (2, "2024-01-02", 1.0, 2)]
    path.write_text("user_id,item_id,datetime\n1,1,1970-01-01\n2,2,yesterday\n")
    with pytest.raises(ValueError, match=r"datetime must be ISO 8601 or seconds .*'yesterday'"):
        Interactions.read(path)


def test_ids_that_turn_into_text_late_are_text(tmp_path):
    path = tmp_path / "events.csv"
    users = "\n".join(f"{number},1" for number in range(2_000))
    path.write_text(f"user_id,item_id\n{users}\nlate,1\n")
    inter = Interactions.read(path)
    assert inter.users.is_str
    assert inter.n_users == 2_001


def test_large_ids_of_text_files_are_out_of_range(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(f"user_id,item_id\n{2**64},1\n{2**63 - 1},1\n")
    inter = Interactions.read(path)
    assert events_of(inter) == [(2**63 - 1, 1, 1.0, None)]
    assert inter.report.dropped["out_of_range"] == 1


def test_file_with_a_header_only_has_no_events(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,weight,datetime\n")
    assert len(Interactions.read(path)) == 0


def test_column_without_entries_is_missing_entries(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,weight,datetime\n1,2,,\n3,4,,\n")
    assert Interactions.read(path).report.dropped["missing"] == 2
    bare = Interactions.read(path, {"weight": None, "datetime": None})
    assert events_of(bare) == [(1, 2, 1.0, None), (3, 4, 1.0, None)]
    frame = pl.DataFrame({"user_id": [None, None], "item_id": [1, 2]})
    assert len(Interactions.from_frame(frame)) == 0


def test_bad_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"path must be a file, got .*gone\.csv"):
        Interactions.read(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"path must end in \.csv, .*, got 'events\.json'"):
        Interactions.read(tmp_path / "events.json")
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\n1,1\n")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"needs polars: pip install 'recengine\[data\]'"):
        Interactions.read(path)
