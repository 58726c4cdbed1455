"""What a bundle cannot hold is refused before a byte is written."""

import numpy as np
import pytest

from recengine.storage import write_bundle


def refuse(tmp_path, error, match, arrays=None, *, meta=None, kind="test", schema=1):
    with pytest.raises(error, match=match):
        write_bundle(tmp_path / "a.rec", arrays or {}, meta or {}, kind=kind, schema=schema)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", None], dtype=object),
        np.array(["abc"]),
        np.array([b"abc"]),
        np.array(["2020-01-01"], "M8[s]"),
        np.array([1], "m8[s]"),
        np.array([1j]),
        np.zeros(2, [("x", "i4")]),
        np.zeros(2, np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_dtype_that_is_no_plain_number_is_refused(tmp_path, array):
    refuse(tmp_path, TypeError, "array 'a' must be bool, integer or float, got", {"a": array})


@pytest.mark.parametrize("array", [[1, 2], 3.0, None, np.ma.masked_array([1, 2], [True, False])])
def test_what_is_no_plain_array_is_refused(tmp_path, array):
    refuse(tmp_path, TypeError, "array 'a' must be a plain ndarray, got", {"a": array})


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "a/", "a//b", "..", "a/../b", ".", "a\\b", "a b", "ä", "a\n", "a\x00", 1],
)
def test_name_that_could_leave_a_folder_is_refused(tmp_path, name):
    refuse(tmp_path, ValueError, "an array's name must be letters", {name: np.arange(2)})


def test_names_of_parts_are_taken(tmp_path):
    arrays = {name: np.arange(2) for name in ("a", "a/b", "a/b/c-d_e.f", "..a", "0")}
    write_bundle(tmp_path / "a.rec", arrays, {}, kind="test", schema=1)


@pytest.mark.parametrize(
    ("meta", "error", "match"),
    [
        ({"a": np.int64(1)}, TypeError, "int64"),
        ({"a": {1, 2}}, TypeError, "set"),
        ({"a": b"x"}, TypeError, "bytes"),
        ({"a": float("nan")}, ValueError, "JSON compliant"),
        ({"a": [float("inf")]}, ValueError, "JSON compliant"),
        ({1: "a"}, TypeError, "meta must have str keys, got 1"),
        ({"a": [{"b": {None: 1}}]}, TypeError, r"meta\['a'\]\[0\]\['b'\] must have str keys"),
        ({"a": "x" * (64 << 20)}, ValueError, "meta must fit 67108864 bytes of JSON"),
    ],
    ids=range(8),
)
def test_meta_that_is_no_json_is_refused(tmp_path, meta, error, match):
    refuse(tmp_path, error, match, meta=meta)


def test_meta_that_holds_itself_is_refused(tmp_path):
    meta = {}
    meta["a"] = [meta]
    refuse(tmp_path, ValueError, "Circular reference", meta=meta)


def test_kind_and_schema_are_checked(tmp_path):
    refuse(tmp_path, ValueError, "kind must be a non-empty str, got ''", kind="")
    refuse(tmp_path, ValueError, "kind must be a non-empty str, got None", kind=None)
    refuse(tmp_path, ValueError, "schema must be >= 0, got -1", schema=-1)
    refuse(tmp_path, TypeError, "schema must be an integer, got str", schema="1")


def test_missing_folder_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_bundle(tmp_path / "nowhere" / "a.rec", {}, {}, kind="test", schema=1)


def test_folder_in_the_way_is_the_systems_error(tmp_path):
    (tmp_path / "a.rec").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bundle(tmp_path / "a.rec", {}, {}, kind="test", schema=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.rec"]
