"""Whatever is wrong with a file is a BundleError: never a crash, never another answer."""

import json
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import BundleError
from recengine.storage import read_bundle, write_bundle

sys.path.append(str(Path(__file__).parent))
from bundle_surgery import HEADER, signed, split

ARRAYS = {
    "a": np.arange(5, dtype=np.int16),
    "flags": np.array([True, False, True]),
    "none": np.empty((0, 3), np.float64),
    "v/w": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    path = tmp_path_factory.mktemp("intact") / "a.rec"
    write_bundle(path, ARRAYS, {"note": "x"}, kind="test", schema=3)
    return path.read_bytes()


@pytest.fixture
def reread(tmp_path):
    """Return a function that reads given bytes as a bundle."""

    def read(content, **options):
        path = tmp_path / "damaged.rec"
        path.write_bytes(content)
        return read_bundle(path, kind="test", schema=3, **options)

    return read


def assert_intact(bundle):
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(bundle.arrays[name], array)
    assert bundle.meta == {"note": "x"}


def test_intact_file_reads(intact, reread):
    assert_intact(reread(intact))


def test_truncation_at_every_length_is_refused(intact, tmp_path):
    path = tmp_path / "damaged.rec"
    path.write_bytes(intact)
    for length in reversed(range(len(intact))):
        os.truncate(path, length)
        for verify in (True, False):
            with pytest.raises(BundleError, match=r"damaged\.rec"):
                read_bundle(path, kind="test", schema=3, verify=verify)


def test_bytes_after_the_end_are_refused(intact, reread):
    for extra in (1, 64, 4096):
        with pytest.raises(BundleError, match=f"must be {len(intact)} bytes long"):
            reread(intact + bytes(extra))


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_flip_of_every_byte_is_refused(intact, tmp_path, flip):
    assert_flips_are_refused(intact, tmp_path, range(len(intact)), flip, verify=True)


def test_flip_of_every_byte_of_the_manifest_is_refused_unverified(intact, tmp_path):
    end = HEADER.size + HEADER.unpack(intact[: HEADER.size])[2]
    assert_flips_are_refused(intact, tmp_path, range(end), 0x04, verify=False)


def assert_flips_are_refused(intact, tmp_path, places, flip, *, verify):
    path = tmp_path / "damaged.rec"
    path.write_bytes(intact)
    with path.open("r+b", buffering=0) as stream:
        for place in places:
            os.pwrite(stream.fileno(), bytes([intact[place] ^ flip]), place)
            with pytest.raises(BundleError, match=r"damaged\.rec"):
                read_bundle(path, kind="test", schema=3, verify=verify)
            os.pwrite(stream.fileno(), intact[place : place + 1], place)
    assert path.read_bytes() == intact


def test_two_swapped_blocks_are_refused(intact, reread):
    damaged = intact[:-128] + intact[-64:] + intact[-128:-64]
    assert damaged != intact
    with pytest.raises(BundleError, match="fails its digest"):
        reread(damaged)


def test_other_kind_and_schema_are_refused(tmp_path):
    path = tmp_path / "a.rec"
    write_bundle(path, ARRAYS, {}, kind="flat-index", schema=3)
    with pytest.raises(BundleError, match="must be of kind 'engine', got 'flat-index'"):
        read_bundle(path, kind="engine", schema=3)
    with pytest.raises(BundleError, match=r"must have schema 4, got 3: it was written by .* 0\."):
        read_bundle(path, kind="flat-index", schema=4)


@pytest.mark.parametrize("schema", [True, 3.5, "3", None, -3])
def test_schema_of_another_type_is_refused(intact, reread, schema):
    manifest, data = split(intact)
    with pytest.raises(BundleError, match="must have schema 3"):
        reread(signed({**manifest, "schema": schema}, data))


def test_schema_true_is_not_schema_one(tmp_path, intact):
    manifest, data = split(intact)
    (tmp_path / "a.rec").write_bytes(signed({**manifest, "schema": True}, data))
    with pytest.raises(BundleError, match="must have schema 1, got True"):
        read_bundle(tmp_path / "a.rec", kind="test", schema=1)


def test_foreign_files_are_refused(reread):
    for content in (b"", b"\x00", b"PK\x03\x04" + bytes(200), b"\x93NUMPY" + bytes(90), b"{}"):
        with pytest.raises(BundleError, match="is not a recengine bundle"):
            reread(content)


def test_newer_format_is_refused_by_its_number(intact, reread):
    with pytest.raises(BundleError, match="must have bundle format 1, got 2"):
        reread(intact[:8] + b"\x02" + intact[9:])


def test_missing_file_and_folder_are_the_systems_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bundle(tmp_path / "none.rec", kind="test", schema=3)
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle(tmp_path, kind="test", schema=3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle(tmp_path / "pipe", kind="test", schema=3)


@pytest.mark.parametrize("n_bytes", [2**63, 2**64 - 1, 1 << 40, 65 << 20])
def test_huge_manifest_is_refused_without_allocating(tmp_path, n_bytes):
    """Also where a sparse file is really that long."""
    length = min(n_bytes + 64, 1 << 41)
    path = tmp_path / "huge.rec"
    with path.open("wb") as stream:
        stream.write(HEADER.pack(b"RECBNDL\n", 1, n_bytes, length, bytes(32)))
        stream.truncate(length)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=f"a manifest of {n_bytes} bytes cannot be"):
            read_bundle(path, kind="test", schema=3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"kind": NaN}',
        b"1" * 5000,
        b'"\\ud800"',
        b'{"__class__": "os.system"}',
    ],
)
def test_manifest_that_is_no_manifest_is_refused(reread, text):
    with pytest.raises(BundleError, match="its manifest"):
        reread(signed(text, b""))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../a"},
        {"name": "/etc/passwd"},
        {"name": "a\x00"},
        {"name": ""},
        {"name": None},
        {"name": ["a"]},
        {"dtype": "|O"},
        {"dtype": "O"},
        {"dtype": ">i2"},
        {"dtype": "<M8[s]"},
        {"dtype": "<f16"},
        {"dtype": "<c8"},
        {"dtype": "<i2,<i2"},
        {"dtype": [["a", "<i2"]]},
        {"dtype": None},
        {"shape": [6]},
        {"shape": [-5]},
        {"shape": [5.0]},
        {"shape": [True, 5]},
        {"shape": 5},
        {"shape": [1] * 33 + [5]},
        {"shape": [2**62]},
        {"shape": [2**40, 2**40]},
        {"shape": [0, 2**62, 2**62]},
        {"shape": [0]},
        {"shape": [10**400]},
        {"offset": 64},
        {"offset": -64},
        {"offset": 0.0},
        {"offset": False},
        {"offset": None},
        {"sha256": None},
        {"sha256": "0" * 64},
        {"extra": 1},
    ],
    ids=str,
)
def test_array_described_wrong_is_refused(intact, reread, change):
    manifest, data = split(intact)
    manifest["arrays"][0].update(change)
    with pytest.raises(BundleError, match="damaged: "):
        reread(signed(manifest, data))


def test_empty_array_of_an_impossible_shape_is_refused(tmp_path):
    path = tmp_path / "a.rec"
    write_bundle(path, {"none": np.empty((0, 3))}, {}, kind="test", schema=3)
    manifest, data = split(path.read_bytes())
    manifest["arrays"][0]["shape"] = [0, 2**62, 2**62]
    path.write_bytes(signed(manifest, data))
    with pytest.raises(BundleError, match="array 0 is not described right"):
        read_bundle(path, kind="test", schema=3)


def test_bytes_that_no_array_owns_are_refused(intact, reread):
    manifest, data = split(intact)
    del manifest["arrays"][-1]
    with pytest.raises(BundleError, match="its arrays need 128 bytes, not 192"):
        reread(signed(manifest, data))


def test_two_arrays_of_one_name_are_refused(intact, reread):
    manifest, data = split(intact)
    manifest["arrays"][1]["name"] = manifest["arrays"][0]["name"]
    with pytest.raises(BundleError, match="two arrays have one name"):
        reread(signed(manifest, data))


def test_bool_array_of_other_bytes_is_refused(tmp_path):
    path = tmp_path / "a.rec"
    write_bundle(path, {"a": np.array([0, 2], np.uint8)}, {}, kind="test", schema=3)
    manifest, data = split(path.read_bytes())
    manifest["arrays"][0]["dtype"] = "|b1"
    path.write_bytes(signed(manifest, data))
    with pytest.raises(BundleError, match="'a' is not bool"):
        read_bundle(path, kind="test", schema=3)


json_scraps = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "<f4", "|b1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=150)
@given(data=st.data())
def test_signed_nonsense_is_refused_or_means_the_same(tmp_path_factory, intact, data):
    """Any value anywhere in a well signed manifest: a BundleError, or arrays within the file."""
    manifest, payload = split(intact)
    rows = manifest["arrays"]
    owner = data.draw(st.sampled_from([manifest, *rows]))
    owner[data.draw(st.sampled_from(sorted(owner)))] = data.draw(json_scraps)
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload)))]
    path = tmp_path_factory.getbasetemp() / "nonsense.rec"
    path.write_bytes(signed(json.dumps(manifest).encode(), payload))
    for verify in (True, False):
        try:
            bundle = read_bundle(path, kind="test", schema=3, verify=verify)
        except BundleError:
            continue
        assert sum(array.nbytes for array in bundle.arrays.values()) <= len(payload)
        for array in bundle.arrays.values():
            array.tobytes()
