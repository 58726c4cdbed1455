"""What is written is what is read: every dtype, shape, stride and byte order."""

import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import recengine
from recengine.storage import Bundle, read_bundle, write_bundle

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


def write(path, arrays, meta=None):
    write_bundle(path, arrays, meta or {}, kind="test", schema=1)


def read(path, **options):
    return read_bundle(path, kind="test", schema=1, **options)


def assert_same(got, expected):
    """Equal dtype, shape and bits (NaN and −0 are bits too); little-endian."""
    assert got.dtype == expected.dtype.newbyteorder("<")
    assert got.shape == expected.shape
    assert got.tobytes() == expected.astype(expected.dtype.newbyteorder("<")).tobytes()


arrays_of_any_kind = st.one_of(
    [
        hnp.arrays(
            st.sampled_from([np.dtype(code), np.dtype(code).newbyteorder(">")]),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        )
        for code in DTYPES
    ]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Unpaired surrogates included: JSON can escape them.
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_\-]{1,8}(/[A-Za-z0-9_\-]{1,4}){0,2}", fullmatch=True),
        arrays_of_any_kind,
        max_size=4,
    ),
    st.dictionaries(st.text(), json_values, max_size=3),
)
def test_bundle_returns_what_was_written(tmp_path_factory, arrays, meta):
    path = tmp_path_factory.getbasetemp() / "round.rec"
    write(path, arrays, meta)
    for verify in (True, False):
        bundle = read(path, verify=verify)
        assert list(bundle.arrays) == list(arrays) == list(bundle.digests)
        assert bundle.meta == meta
        for name, array in arrays.items():
            assert_same(bundle.arrays[name], array)


def test_assert_same_can_fail():
    """The comparison itself tells −0 from 0, another NaN, another dtype and another shape."""
    one = np.array([0.0])
    for other in (np.array([-0.0]), np.array([0]), np.array([[0.0]]), np.array([np.nan])):
        with pytest.raises(AssertionError):
            assert_same(other, one)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a[::2],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: a[:, 1:3],
        np.asfortranarray,
        lambda a: np.broadcast_to(a[0], (3, 6)),
        lambda a: a[0, 0],
    ],
)
def test_bundle_takes_any_strides(tmp_path, make):
    array = np.asarray(make(np.arange(24.0).reshape(4, 6)))
    write(tmp_path / "a.rec", {"a": array})
    assert_same(read(tmp_path / "a.rec").arrays["a"], array)


def test_bundle_arrays_are_read_only_aligned_views_of_the_mapped_file(tmp_path):
    arrays = {"a": np.arange(5, dtype=np.int8), "b/c": np.eye(3), "e": np.empty((0, 4), np.float32)}
    write(tmp_path / "a.rec", arrays)
    bundle = read(tmp_path / "a.rec")
    for name, array in bundle.arrays.items():
        assert not array.flags.writeable, name
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        if array.size:
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
            assert array.ctypes.data % 64 == 0
            assert isinstance(_root(array), mmap.mmap), name


def _root(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def test_bundle_takes_read_only_and_mapped_input(tmp_path):
    write(tmp_path / "a.rec", {"a": np.arange(9)})
    first = read(tmp_path / "a.rec")
    write(tmp_path / "b.rec", first.arrays)
    assert (tmp_path / "a.rec").read_bytes() == (tmp_path / "b.rec").read_bytes()


def test_bundle_may_be_rewritten_from_its_own_mapping(tmp_path):
    path = tmp_path / "a.rec"
    write(path, {"a": np.arange(1000)})
    first = read(path)
    write(path, {"a": first.arrays["a"][::-1]})
    np.testing.assert_array_equal(first.arrays["a"], np.arange(1000))
    np.testing.assert_array_equal(read(path).arrays["a"], np.arange(1000)[::-1])


def test_bundle_digests_name_the_content(tmp_path):
    write(tmp_path / "a.rec", {"a": np.arange(4), "b": np.arange(4)}, {"x": 1})
    write(tmp_path / "b.rec", {"a": np.arange(4), "b": np.arange(5)}, {"x": 1})
    write(tmp_path / "c.rec", {"a": np.arange(4), "b": np.arange(4)}, {"x": 2})
    a, b, c = (read(tmp_path / f"{name}.rec") for name in "abc")
    assert a.digests["a"] == a.digests["b"] == b.digests["a"] != b.digests["b"]
    assert a.digests == c.digests
    assert len({a.digest, b.digest, c.digest}) == 3
    assert isinstance(a, Bundle)
    assert a.version == recengine.__version__


def test_bundle_bytes_depend_on_the_content_alone(tmp_path):
    """A layout pinned by hand: it changes only together with the format's number."""
    write(tmp_path / "a.rec", {"a": np.array([1, 2], ">i2")}, {"k": [1]})
    content = (tmp_path / "a.rec").read_bytes()
    assert content[:16] == b"RECBNDL\n" + bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert len(content) % 64 == 0
    assert content[-64:] == b"\x01\x00\x02\x00" + bytes(60)
    n_bytes = int.from_bytes(content[16:24], "little")
    assert int.from_bytes(content[24:32], "little") == len(content)
    assert content[64 : 64 + n_bytes] == (
        b'{"kind": "test", "schema": 1, "version": "%s", "meta": {"k": [1]}, "arrays": '
        b'[{"name": "a", "dtype": "<i2", "shape": [2], "offset": 0, "sha256": "'
        b'7b11c1133330cd161071bf23a0c9b6ce5320a8f3a0f83620035a72be46df4104"}]}'
        % recengine.__version__.encode()
    )


def test_bundle_honours_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.rec", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.rec").stat().st_mode & 0o777 == 0o640


def test_bundle_follows_a_symbolic_link(tmp_path):
    (tmp_path / "releases").mkdir()
    (tmp_path / "current.rec").symlink_to(tmp_path / "releases" / "one.rec")
    write(tmp_path / "current.rec", {"a": np.arange(3)})
    assert (tmp_path / "current.rec").is_symlink()
    np.testing.assert_array_equal(read(tmp_path / "releases/one.rec").arrays["a"], np.arange(3))
