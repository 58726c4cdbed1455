"""Strings, ids and columns come back as they went; damage is a BundleError."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import BundleError
from recengine.storage import (
    pack_columns,
    pack_ids,
    pack_strings,
    read_bundle,
    unpack_columns,
    unpack_ids,
    unpack_strings,
    write_bundle,
)

text = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=80)
@given(st.lists(text | st.none()) | st.lists(st.text("ab\x00"), max_size=4))
def test_strings_come_back(strings):
    offsets, data = pack_strings(strings)
    assert offsets.dtype == np.int64
    assert data.dtype == np.uint8
    assert len(offsets) == len(strings) + 1
    back = unpack_strings(offsets, data)
    assert back.dtype == object
    assert back.tolist() == strings


def test_strings_are_laid_out_as_documented():
    offsets, data = pack_strings(["aé", None, ""])
    assert offsets.tolist() == [0, 3, 4, 4]
    assert data.tobytes() == b"a\xc3\xa9\xff"


@pytest.mark.parametrize(
    ("strings", "error", "match"),
    [
        (["a", 1], TypeError, "strings must hold str or None, got int at 1"),
        ([b"a"], TypeError, "got bytes at 0"),
        (["a", "\ud800"], ValueError, r"encodable as UTF-8, got '\\ud800' at 1"),
    ],
)
def test_strings_that_are_none_are_refused(strings, error, match):
    with pytest.raises(error, match=match):
        pack_strings(strings)


@pytest.mark.parametrize(
    ("offsets", "data", "match"),
    [
        ([], b"", "do not span"),
        ([1, 1], b"a", "do not span"),
        ([0, 2], b"a", "do not span"),
        ([0, 0], b"a", "do not span"),
        ([0, 2, 1, 3], b"abc", "decrease"),
        ([0, 5, -5, 3], b"abc", "decrease"),
        ([0, 1], b"\xfe", "not UTF-8"),
        ([0, 1, 2], "é".encode(), "not UTF-8"),
        ([0, 2], b"\xff\xff", "not UTF-8"),
    ],
)
def test_damaged_strings_are_refused(offsets, data, match):
    with pytest.raises(BundleError, match=match):
        unpack_strings(np.array(offsets, np.int64), np.frombuffer(data, np.uint8))


def test_strings_of_other_dtypes_are_refused():
    offsets, data = pack_strings(["a"])
    for pair in ((offsets.astype(np.int32), data), (offsets, data.view(np.int8)), (data, offsets)):
        with pytest.raises(BundleError, match="must be int64 offsets and uint8 data"):
            unpack_strings(*pair)
    with pytest.raises(BundleError, match="must be int64 offsets"):
        unpack_strings(offsets[:, None], data)


@pytest.mark.parametrize("ids", [[3, -7, 2**62], ["a", "ß", ""], [], np.array(["x", "yy"])])
def test_ids_come_back(tmp_path, ids):
    write_bundle(tmp_path / "a.rec", pack_ids("users/ids", ids), {}, kind="t", schema=0)
    back = unpack_ids("users/ids", read_bundle(tmp_path / "a.rec", kind="t", schema=0).arrays)
    assert back.tolist() == list(ids)
    assert back.dtype in (np.int64, object)


def test_ids_that_are_none_are_refused():
    with pytest.raises(ValueError, match="ids must not contain -1"):
        pack_ids("ids", [1, -1])
    with pytest.raises(BundleError, match="there is no array 'ids/offsets'"):
        unpack_ids("ids", {})
    for array in (np.array([1.0]), np.array([[1]]), np.array([-1])):
        with pytest.raises(BundleError, match="'ids' does not hold ids"):
            unpack_ids("ids", {"ids": array})
    offsets, data = pack_strings(["a", None])
    with pytest.raises(BundleError, match="'ids' does not hold ids"):
        unpack_ids("ids", {"ids/offsets": offsets, "ids/utf8": data})


def test_columns_come_back_in_order(tmp_path):
    columns = {
        "Jahr/année": np.array([1999, 2001], np.int32),
        "../title": np.array(["Ü", None], dtype=object),
        "": np.array([True, False]),
        "price": np.array([1.5, np.nan]),
        "tag": np.array(["a", "bc"]),
    }
    write_bundle(tmp_path / "a.rec", pack_columns("items", columns), {}, kind="t", schema=0)
    back = unpack_columns("items", read_bundle(tmp_path / "a.rec", kind="t", schema=0).arrays)
    assert list(back) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(back[name], column)
        assert back[name].dtype == (object if column.dtype.kind in "OU" else column.dtype)


def test_no_columns_come_back():
    assert unpack_columns("items", pack_columns("items", {})) == {}


@pytest.mark.parametrize(
    ("columns", "error", "match"),
    [
        ({"a": np.arange(2), "b": np.arange(3)}, ValueError, "must be 1-D of one length"),
        ({"a": np.eye(2)}, ValueError, "must be 1-D of one length"),
        ({"a": np.array([1, "x"], dtype=object)}, TypeError, "column 'a': strings must hold str"),
        ({"a": np.array(["\ud800"], dtype=object)}, ValueError, "column 'a': .*UTF-8"),
        ({"a": np.array(["2020-01-01"], "M8[D]")}, TypeError, "column 'a' must hold numbers or"),
    ],
)
def test_columns_that_are_none_are_refused(columns, error, match):
    with pytest.raises(error, match=match):
        pack_columns("items", columns)


def test_damaged_columns_are_refused():
    packed = pack_columns("c", {"a": np.arange(2), "b": np.arange(2)})
    with pytest.raises(BundleError, match="no array 'c/1/offsets'"):
        unpack_columns("c", {k: v for k, v in packed.items() if k != "c/1"})
    with pytest.raises(BundleError, match="their lengths differ"):
        unpack_columns("c", {**packed, "c/1": np.arange(3)})
    offsets, data = pack_strings(["a", "a"])
    with pytest.raises(BundleError, match="are damaged: name 'a'"):
        unpack_columns("c", {**packed, "c/names/offsets": offsets, "c/names/utf8": data})
