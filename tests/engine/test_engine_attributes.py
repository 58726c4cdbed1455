"""Attribute columns: from any frame, in any order, with rows missing, through files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import recengine as rec

INTER = rec.Interactions.from_arrays([1, 1, 2, 3], [10, 20, 30, 10])
COLUMNS = {
    "item_id": [30, 99, 10],
    "title": ["Thirty", "Nowhere", None],
    "year": [1930, 1999, 1910],
    "rating": [3.5, 9.9, 1.0],
    "adult": [True, False, False],
}
FRAMES = {
    "mapping": COLUMNS,
    "arrays": {name: np.array(values) for name, values in COLUMNS.items()},
    "pandas": pd.DataFrame(COLUMNS),
    "polars": pl.DataFrame(COLUMNS),
    "pyarrow": pa.table(COLUMNS),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_are_aligned_to_the_items(kind):
    engine = rec.Engine.build(INTER, items=FRAMES[kind])
    got = engine.item_attributes([10, 20, 30])
    assert got["title"].tolist() == [None, None, "Thirty"]
    np.testing.assert_array_equal(got["year"], [1910, np.nan, 1930])
    np.testing.assert_array_equal(got["rating"], [1.0, np.nan, 3.5])
    np.testing.assert_array_equal(got["adult"], [0, np.nan, 1])
    assert engine.item_attributes([30, 10])["title"].tolist() == ["Thirty", None]
    assert list(engine.item_attributes()) == ["title", "year", "rating", "adult"]
    assert 99 not in engine


def test_complete_columns_keep_their_dtype():
    items = {"item_id": [10, 20, 30], "year": np.array([1, 2, 3], np.int16), "on": [True] * 3}
    got = rec.Engine.build(INTER, items=items).item_attributes()
    assert got["year"].dtype == np.int16
    assert got["on"].dtype == np.bool_


def test_integers_that_float64_cannot_hold_are_refused_where_rows_are_missing():
    items = {"item_id": [10], "serial": [2**60 + 1]}
    with pytest.raises(ValueError, match=r"'serial' must fit 2\^53 where rows are missing"):
        rec.Engine.build(INTER, items=items)
    items = {"item_id": [10, 20, 30], "serial": [2**60 + 1, 1, 2]}
    got = rec.Engine.build(INTER, items=items).item_attributes([10])
    assert got["serial"].tolist() == [2**60 + 1]


def test_added_items_bring_attributes_and_miss_the_others():
    engine = rec.Engine.build(INTER, items=COLUMNS)
    engine.add_items(
        [40, 10], items={"item_id": [10, 40], "title": ["Ten", "Forty"], "new": [1, 2]}
    )
    got = engine.item_attributes([10, 20, 30, 40])
    assert got["title"].tolist() == ["Ten", None, "Thirty", "Forty"]
    np.testing.assert_array_equal(got["year"], [1910, np.nan, 1930, np.nan])
    np.testing.assert_array_equal(got["new"], [1, np.nan, np.nan, 2])
    with pytest.raises(TypeError, match="'title' must hold strings, as it did"):
        engine.add_items([50], items={"item_id": [50], "title": [5]})
    assert 50 not in engine


def test_removed_items_leave_the_columns(tmp_path):
    engine = rec.Engine.build(INTER, items=COLUMNS)
    engine.remove_items([10])
    engine.save(tmp_path / "e.rec")
    for one in (engine, rec.Engine.load(tmp_path / "e.rec")):
        assert one.item_attributes()["title"].tolist() == [None, "Thirty"]
        assert one.item_ids.tolist() == [20, 30]


def test_user_columns_are_kept(tmp_path):
    users = {"user_id": [3, 1], "name": ["Cy", "Al"], "age": [33, 11]}
    engine = rec.Engine.build(INTER, users=users)
    engine.observe(77, 10)
    engine.save(tmp_path / "e.rec")
    for one in (engine, rec.Engine.load(tmp_path / "e.rec")):
        got = one.user_attributes([1, 2, 3, 77, 5])
        assert got["name"].tolist() == ["Al", None, "Cy", None, None]
        np.testing.assert_array_equal(got["age"], [11, np.nan, 33, np.nan, np.nan])
    assert rec.Engine.build(INTER).user_attributes([1]) == {}
    assert rec.Engine.build(INTER).item_attributes() == {}


def test_columns_returned_are_copies():
    engine = rec.Engine.build(INTER, items=COLUMNS)
    engine.item_attributes()["title"][:] = "changed"
    assert engine.item_attributes()["title"].tolist() == [None, None, "Thirty"]
