"""Predicates over columns: Kleene's logic row by row, every kind of column, every frame."""

from __future__ import annotations

import math
import operator

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.retrieval import _columns
from recengine.retrieval._columns import Columns

COMPARE = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda cell, values: any(cell == value for value in values),
}
WORDS = ["", "a", "ab", "b", "é", "z", "Drama"]
WHOLE = [-(2**63), -3, 0, 1, 2, 2**53, 2**53 + 1, 2**63 - 1]
REAL = [-math.inf, -1.5, 0.0, 0.5, 1.0, 2.0**60, 1e300, math.inf]
CELLS = {"text": WORDS, "whole": WHOLE, "real": REAL, "flag": [True, False]}
N = 12
ROWS = st.fixed_dictionaries(
    {
        # The first cell tells what the column holds.
        name: st.lists(st.none() | st.sampled_from(cells), min_size=N - 1, max_size=N - 1).map(
            lambda drawn, first=cells[1]: [first, *drawn]
        )
        for name, cells in CELLS.items()
    }
)


def literals(name):
    if name == "text":
        return st.sampled_from([*WORDS, "unheard of"])
    if name == "flag":
        return st.booleans()
    numbers = st.sampled_from([*REAL, 0.25, -0.0, 2.5, -3.5, -(10**30)])
    return numbers | st.sampled_from([*WHOLE, 10**400] if name == "whole" else [0, 1, 2])


@st.composite
def conditions(draw):
    name = draw(st.sampled_from(sorted(CELLS)))
    sign = draw(st.sampled_from(["eq", "ne", "in"] if name == "flag" else sorted(COMPARE)))
    if sign == "in":
        return name, sign, draw(st.lists(literals(name), max_size=4))
    return name, sign, draw(literals(name))


TREES = st.recursive(
    conditions(),
    lambda kids: st.tuples(st.just("not"), kids) | st.tuples(st.sampled_from("&|"), kids, kids),
    max_leaves=6,
)


def build(tree):
    if tree[0] == "not":
        return ~build(tree[1])
    if tree[0] == "&":
        return build(tree[1]) & build(tree[2])
    if tree[0] == "|":
        return build(tree[1]) | build(tree[2])
    name, sign, value = tree
    return rec.where(**{name if sign == "eq" else f"{name}__{sign}": value})


def truth(tree, row):
    """Return True, False or None (unknown) by Kleene's tables."""
    if tree[0] == "not":
        inner = truth(tree[1], row)
        return None if inner is None else not inner
    if tree[0] in "&|":
        sides = {truth(tree[1], row), truth(tree[2], row)}
        decisive = tree[0] == "|"
        if decisive in sides:
            return decisive
        return None if None in sides else not decisive
    name, sign, value = tree
    return None if row[name] is None else COMPARE[sign](row[name], value)


@settings(max_examples=200)
@given(rows=ROWS, tree=TREES)
def test_predicate_matches_what_kleene_logic_calls_true(rows, tree):
    columns = Columns.read(rows, N)
    want = [truth(tree, {name: cells[i] for name, cells in rows.items()}) is True for i in range(N)]
    assert columns.matching(build(tree)).tolist() == want


def test_where_joins_its_conditions_by_and():
    both = rec.where(year__ge=1990, genre="Drama")
    columns = Columns.read({"year": [1989, 1990, 1991], "genre": ["Drama", "Drama", "War"]}, 3)
    assert columns.matching(both).tolist() == [False, True, False]
    assert columns.matching(~both).tolist() == [True, False, True]


def test_predicate_is_immutable_hashable_and_reads_as_written():
    one = rec.where(genre="Drama", year__ge=1990) | rec.where(price__lt=10)
    same = rec.where(genre="Drama", year__ge=1990) | rec.where(price__lt=10)
    assert repr(one) == "<where ((genre == 'Drama') & (year >= 1990)) | (price < 10)>"
    assert one == same
    assert hash(one) == hash(same)
    assert one != ~one
    assert ~~one == one
    assert hash(rec.where(tag__in=["a", "b"]))
    with pytest.raises(AttributeError):
        one.every = True


def test_predicate_joins_leave_their_parts_alone():
    left, right = rec.where(a=1), rec.where(b=2)
    before = repr(left), repr(right)
    assert repr(left & right & rec.where(c=3)) == "<where (a == 1) & (b == 2) & (c == 3)>"
    assert (repr(left), repr(right)) == before


def test_columns_names_may_hold_what_keywords_cannot():
    columns = Columns.read({"release date": [1, 2], "a__b": [1, 2], "__": [2, 1]}, 2)
    assert columns.matching(rec.where(**{"release date__gt": 1})).tolist() == [False, True]
    assert columns.matching(rec.where(a__b__eq=1)).tolist() == [True, False]
    assert columns.matching(rec.where(**{"____eq": 1})).tolist() == [False, True]


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({}, ValueError, "where must be given at least one condition"),
        ({"year__above": 3}, ValueError, "operator of eq, ne, lt, le, gt, ge, in, got 'year__ab"),
        ({"__ge": 3}, ValueError, "where must use an operator of eq, .* got '__ge'"),
        ({"year": None}, ValueError, "year must not be None: missing values never match"),
        ({"year__ge": float("nan")}, ValueError, "year__ge must not be NaN"),
        ({"year__in": [1, None]}, ValueError, "year__in must not be None"),
        ({"tag__in": "ab"}, TypeError, "tag__in must be a collection of values, got str"),
        ({"tag__in": 3}, TypeError, "tag__in must be a collection of values, got int"),
        ({"tag": ["a"]}, TypeError, "tag must be a number, bool or str, got list"),
        ({"tag": b"a"}, TypeError, "tag must be a number, bool or str, got bytes"),
    ],
)
def test_where_refuses(conditions, error, message):
    with pytest.raises(error, match=message):
        rec.where(**conditions)


@pytest.mark.parametrize("use", [bool, lambda p: p and p, lambda p: not p])
def test_predicate_has_no_truth_value(use):
    with pytest.raises(TypeError, match=r"combine with & \| ~, not with and, or, not"):
        use(rec.where(a=1))


def test_predicate_joins_predicates_only():
    with pytest.raises(TypeError):
        rec.where(a=1) & True


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"genr": "x"}, ValueError, r"columns of the index \('genre', 'year', 'new'\), got 'genr'"),
        (
            {"new__lt": True},
            ValueError,
            "eq, ne, in on the bool column 'new', got 'lt'",
        ),
        ({"genre": 3}, TypeError, "column 'genre' with what it holds, str, got 3"),
        ({"year": "3"}, TypeError, "column 'year' with what it holds, int, got '3'"),
        ({"year": True}, TypeError, "column 'year' with what it holds, int, got True"),
        ({"new": 1}, TypeError, "column 'new' with what it holds, bool, got 1"),
        ({"year__in": [1, "a"]}, TypeError, "column 'year' with what it holds, int, got 'a'"),
    ],
)
def test_columns_refuse_what_they_cannot_tell(conditions, error, message):
    columns = Columns.read({"genre": ["a"], "year": [1], "new": [True]}, 1)
    with pytest.raises(error, match=message):
        columns.matching(rec.where(**conditions))


def test_index_without_columns_says_so():
    with pytest.raises(ValueError, match=r"columns of the index \(none\), got 'genre'"):
        Columns.read(None, 3).matching(rec.where(genre="a"))


def frames():
    year = [1990, None, 2001, 1985]
    genre = ["a", "b", None, "a"]
    new = [True, None, False, True]
    price = [0.1, math.nan, None, 2.5]
    table = {"year": year, "genre": genre, "new": new, "price": price}
    yield "dict", {**table, "price": np.array([0.1, math.nan, math.nan, 2.5])}
    yield "arrow", pa.table(table)
    yield "polars", pl.DataFrame(table, strict=False)
    yield (
        "polars categories",
        pl.DataFrame(table, strict=False).with_columns(
            pl.col("genre").cast(pl.Categorical), pl.col("price").cast(pl.Float32)
        ),
    )
    yield "pandas", pd.DataFrame(table)
    yield "pandas nullable", pd.DataFrame(table).convert_dtypes()
    yield "pandas categories", pd.DataFrame(table).astype({"genre": "category"})


FRAMES = list(frames())


@pytest.mark.parametrize(("name", "frame"), FRAMES, ids=[name for name, _ in FRAMES])
def test_every_frame_reads_the_same(name, frame):
    columns = Columns.read(frame, 4)
    want = {
        rec.where(year__ge=1990): [True, False, True, False],
        ~rec.where(year__ge=1990): [False, False, False, True],
        rec.where(genre="a"): [True, False, False, True],
        rec.where(genre__ne="a"): [False, True, False, False],
        rec.where(new=True): [True, False, False, True],
        rec.where(new__ne=True): [False, False, True, False],
        rec.where(price__le=0.1): [True, False, False, False],
        rec.where(price__gt=0.1): [False, False, False, True],
    }
    for predicate, matches in want.items():
        assert columns.matching(predicate).tolist() == matches, (name, predicate)


def test_float32_column_compares_in_its_own_type():
    columns = Columns.read({"price": np.array([0.1, 0.2], np.float32)}, 2)
    assert columns.matching(rec.where(price=0.1)).tolist() == [True, False]
    assert columns.matching(rec.where(price__lt=1e300)).tolist() == [True, True]
    assert columns.matching(rec.where(price__lt=10**400)).tolist() == [True, True]
    assert columns.matching(rec.where(price__in=[0.2, -1e300])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ([1, 2], TypeError, "columns must be a pandas, polars or Arrow frame or a mapping"),
        ({1: [1, 2]}, TypeError, "columns must be named by str, got 1"),
        ({"a": [1]}, ValueError, r"columns\['a'\] must have one row per item \(2\), got 1"),
        ({"a": np.ones((2, 1))}, ValueError, r"columns\['a'\] must be 1-D, got shape \(2, 1\)"),
        ({"a": "ab"}, TypeError, r"columns\['a'\] must be an array, got str"),
        ({"a": ["x", 1]}, TypeError, r"must hold numbers, bool or str, got int, str"),
        ({"a": [1, True]}, TypeError, r"must hold numbers, bool or str, got bool, int"),
        ({"a": [[1], [2]]}, TypeError, r"must hold numbers, bool or str, got list"),
        ({"a": np.array(["2001", "2002"], "M8[Y]")}, TypeError, "got dtype datetime64"),
        ({"a": [1, 2**63]}, ValueError, r"must fit int64, got 9223372036854775808"),
        ({"a": np.array([1, 2**63], np.uint64)}, ValueError, "must fit int64, got 922337203685477"),
    ],
)
def test_columns_refuse_cells(columns, error, message):
    with pytest.raises(error, match=message):
        Columns.read(columns, 2)


def upsert(columns, n_rows, ordinals, fresh, given):
    return columns.upserted(n_rows, np.array(ordinals), np.array(fresh), given)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(_columns, "CHUNK", 64)


@pytest.mark.usefixtures("small_chunks")
def test_upsert_changes_its_chunks_and_shares_the_others(rng):
    n = 300
    before = Columns.read({"year": rng.integers(0, 9, n), "tag": rng.choice(["a", "b"], n)}, n)
    years = before.matching(rec.where(year__ge=0)).tolist()
    after = upsert(before, 302, [70, 301, 300], [False, True, True], {"year": [5, 6, 7]})
    assert before.matching(rec.where(year__ge=0)).tolist() == years
    shared = [a is b for a, b in zip(before.chunks, after.chunks, strict=True)]
    assert shared == [True, False, True, True, False]
    found = np.flatnonzero(after.matching(rec.where(year__in=[5, 6, 7])))
    old = np.flatnonzero(before.matching(rec.where(year__in=[5, 6, 7])))
    np.testing.assert_array_equal(found, np.union1d(old, [70, 300, 301]))
    assert not after.matching(rec.where(tag__in=["a", "b"]))[300:].any()
    same = before.matching(rec.where(tag="a")) == after.matching(rec.where(tag="a"))[:n]
    assert same.all()


@pytest.mark.usefixtures("small_chunks")
def test_upsert_without_columns_keeps_old_values_and_leaves_new_ones_missing():
    before = Columns.read({"year": [1, 2, 3]}, 3)
    after = upsert(before, 200, [*range(3, 200), 1, 2], [True] * 197 + [False, True], None)
    assert np.flatnonzero(after.matching(rec.where(year__ge=0))).tolist() == [0, 1]
    assert after.chunks[0] is not before.chunks[0]
    again = upsert(after, 200, [0, 5], [False, False], None)
    assert again.chunks is after.chunks


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"jahr": [1]}, ValueError, r"columns must name columns of the index .* got 'jahr'"),
        ({"year": ["1"]}, TypeError, "column 'year' holds int, got str"),
        ({"year": [True]}, TypeError, "column 'year' holds int, got bool"),
        ({"year": [1.5]}, ValueError, "column 'year' holds int, got 1.5"),
        ({"year": [1e300]}, ValueError, "column 'year' holds int64, got 1e"),
        ({"price": [2**53 + 1]}, ValueError, "column 'price' holds float, got 9007199254740993"),
        ({"tag": [1]}, TypeError, "column 'tag' holds str, got int"),
        ({"year": [1, 2]}, ValueError, r"must have one row per item \(1\), got 2"),
    ],
)
def test_upsert_refuses(given, error, message):
    columns = Columns.read({"year": [1], "price": [1.5], "tag": ["a"]}, 1)
    with pytest.raises(error, match=message):
        upsert(columns, 1, [0], [False], given)


def test_upsert_takes_whole_floats_for_ints_and_missing_for_anything():
    columns = Columns.read({"year": [1, 2], "price": [1.5, 2.5], "tag": ["a", "b"]}, 2)
    given = {"year": [7.0, math.nan], "price": [3, None], "tag": [None, None]}
    after = upsert(columns, 2, [0, 1], [False, False], given)
    assert after.matching(rec.where(year=7)).tolist() == [True, False]
    assert after.matching(rec.where(price=3)).tolist() == [True, False]
    assert not after.matching(rec.where(tag__in=["a", "b"])).any()
    assert not after.matching(rec.where(year__ne=7)).any()
