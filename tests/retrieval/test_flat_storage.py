"""A saved index: the same answers, or a clear error, never anything else."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec
from recengine.retrieval import _coding
from recengine.retrieval._persistence import SCHEMA
from recengine.storage import read_bundle, write_bundle


def small_index(kind="int64", metric="l2"):
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3)
    ids = [7, -3, 2**60] if kind == "int64" else ["a", "é", ""]
    return rec.FlatIndex(vectors, ids=ids, metric=metric)


@pytest.mark.parametrize("kind", ["int64", "str"])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_saved_and_opened_gives_the_same_answers(rng, tmp_path, kind, metric):
    vectors = rng.standard_normal((200, 10)).astype(np.float32)
    ids = np.arange(200) * 3 if kind == "int64" else np.array([f"ü{i}" for i in range(200)], object)
    index = rec.FlatIndex(vectors, ids=ids, metric=metric)
    index.delete(ids[50:120])
    index.upsert(ids[60:61], np.ones((1, 10)))
    queries = rng.standard_normal((9, 10)).astype(np.float32)
    index.save(tmp_path / "index.rec")
    opened = rec.FlatIndex.open(tmp_path / "index.rec")
    want = index.search(queries, 150)
    got = opened.search(queries, 150)
    oracles.assert_same_topk(got, want)
    np.testing.assert_array_equal(got.ordinals, want.ordinals)
    assert opened.ids.tolist() == index.ids.tolist()
    assert opened.metric == metric
    assert (len(opened), opened.n_ordinals) == (131, 200)
    assert opened.stats["searches"] == 1


def test_opened_index_is_mapped_and_can_be_updated_and_saved_over(tmp_path):
    path = str(tmp_path / "index.rec")
    small_index().save(path)
    opened = rec.FlatIndex.open(path)
    assert not opened[7].flags.writeable
    assert not opened[7].flags.owndata
    opened.upsert([8], np.ones((1, 3)))
    opened.delete([7])
    opened.save(path)
    assert rec.FlatIndex.open(path).ids.tolist() == [-3, 2**60, 8]


@pytest.mark.parametrize("kind", ["int64", "str"])
def test_empty_index_survives(tmp_path, kind):
    index = small_index(kind)
    index.delete(index.ids)
    index.save(tmp_path / "gone.rec")
    opened = rec.FlatIndex.open(tmp_path / "gone.rec")
    assert (len(opened), opened.n_ordinals) == (0, 3)
    assert opened.search(np.ones(3), 2).scores.tolist() == [-np.inf, -np.inf]
    rec.FlatIndex(np.empty((0, 5))).save(tmp_path / "empty.rec")
    assert rec.FlatIndex.open(tmp_path / "empty.rec").dim == 5


def test_truncation_at_every_length_is_an_error(tmp_path):
    path = tmp_path / "index.rec"
    small_index("str").save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(rec.BundleError):
            rec.FlatIndex.open(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(rec.BundleError):
        rec.FlatIndex.open(path)


def test_every_flipped_byte_is_an_error(tmp_path):
    path = tmp_path / "index.rec"
    index = small_index()
    index.delete([7])
    index.save(path)
    whole = bytearray(path.read_bytes())
    for place in range(len(whole)):
        for bit in (0x01, 0x80):
            whole[place] ^= bit
            path.write_bytes(whole)
            with pytest.raises(rec.BundleError):
                rec.FlatIndex.open(path)
            whole[place] ^= bit


VECTORS = np.ones((2, 3), np.float32)
NORMS = np.full(2, 3.0)
REACH = np.full(2, 1.8, np.float32)
WHOLE = {"vectors": VECTORS, "sq_norms": NORMS, "reach": REACH, "ids": np.array([1, 2])}
DOT = {"metric": "dot", "storage": "float32"}


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        ({}, {}, "must hold 'metric'"),
        ({}, {"metric": "dot"}, "must hold 'storage'"),
        ({}, {**DOT, "metric": "x"}, "metric 'x' is not one of"),
        ({}, {**DOT, "metric": ["dot"]}, "is not one of"),
        ({}, {**DOT, "storage": "float64"}, "storage 'float64' is not one of"),
        ({}, {**DOT, "storage": []}, "is not one of"),
        ({}, {**DOT, "storage": "float16"}, "vectors are not float16"),
        ({"vectors": VECTORS.astype(np.float16)}, DOT, "vectors are not float32"),
        ({"vectors": None}, DOT, "must hold 'vectors'"),
        ({"sq_norms": None}, DOT, "must hold 'sq_norms'"),
        ({"reach": None}, DOT, "must hold 'reach'"),
        ({"ids": None}, DOT, "ids"),
        ({"vectors": VECTORS.astype(float)}, DOT, "vectors are not float32"),
        ({"vectors": VECTORS[0]}, DOT, "vectors are not"),
        ({"vectors": VECTORS[:, :0]}, DOT, "dim 0"),
        ({"sq_norms": NORMS[:1]}, DOT, "norms do not fit"),
        ({"reach": REACH.astype(float)}, DOT, "reach does not fit"),
        ({"ids": np.array([1, 1])}, DOT, "unique"),
        ({"ids": np.array([1])}, DOT, "ids do not fit"),
        ({"ordinals": np.array([0, 1, 2])}, DOT, "ordinals do not fit"),
        ({"ordinals": np.array([0, 2])}, DOT, "ordinals do not fit"),
        ({"ordinals": np.array([-1, 1])}, DOT, "ordinals do not fit"),
        ({"ordinals": np.array([1, 0])}, DOT, "ordinals do not fit"),
        ({"ordinals": np.array([0, 1], np.int32)}, DOT, "ordinals do not fit"),
        ({}, {**DOT, "codes": {}}, "codes of a flat index: 'high'"),
        ({}, {**DOT, "codes": 3}, "codes of a flat index"),
        ({"codes/order": np.array([0, 0])}, {**DOT, "codes": {}}, "order of the rows"),
        ({"codes/order": np.array([0, 2])}, {**DOT, "codes": {}}, "order of the rows"),
        ({"codes/order": np.array([0, -1])}, {**DOT, "codes": {}}, "order of the rows"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_whole_file_of_wrong_content_is_an_error(tmp_path, arrays, meta, message, verify):
    path = tmp_path / "index.rec"
    held = {name: array for name, array in (WHOLE | arrays).items() if array is not None}
    write_bundle(path, held, meta, kind="flat-index", schema=SCHEMA)
    with pytest.raises(rec.BundleError, match=message):
        rec.FlatIndex.open(path, verify=verify)


@pytest.mark.parametrize("part", ["high", "low", "mean"])
def test_codes_of_another_shape_are_an_error(tmp_path, part):
    path = tmp_path / "index.rec"
    small_index().save(path)
    bundle = read_bundle(path, kind="flat-index", schema=SCHEMA)
    arrays = dict(bundle.arrays)
    arrays[f"codes/{part}"] = arrays[f"codes/{part}"][:-1]
    write_bundle(path, arrays, bundle.meta, kind="flat-index", schema=SCHEMA)
    with pytest.raises(rec.BundleError, match="codes of a flat index"):
        rec.FlatIndex.open(path)


def test_the_codes_are_read_from_the_file(rng, tmp_path, monkeypatch):
    """Not made anew: opening costs what mapping costs, and the answers are those of before."""
    path = tmp_path / "index.rec"
    vectors = rng.standard_normal((5000, 24)) * rng.pareto(1.0, (5000, 1))
    queries = rng.standard_normal((7, 24)).astype(np.float32)
    indexes = [rec.FlatIndex(vectors, metric=metric) for metric in oracles.METRICS]
    monkeypatch.setattr(_coding, "encode", None)
    for index in indexes:
        index.save(path)
        for verify in (True, False):
            opened = rec.FlatIndex.open(path, verify=verify)
            codes, wanted = (one._live.generation.base.codes for one in (opened, index))
            assert codes.keys() == wanted.keys()
            for name, value in wanted.items():
                np.testing.assert_array_equal(codes[name], value)
            oracles.assert_same_topk(opened.search(queries, 20), index.search(queries, 20))
            assert not opened[3].flags.owndata


def test_without_verification_a_damaged_vector_is_not_noticed(tmp_path):
    """What `verify=False` gives up, and that it reads no vectors."""
    path = tmp_path / "index.rec"
    small_index().save(path)
    content = path.read_bytes()
    needle = np.arange(9, dtype=np.float32).tobytes()
    assert content.count(needle) == 1
    path.write_bytes(content.replace(needle, np.ones(9, np.float32).tobytes()))
    with pytest.raises(rec.BundleError, match="'vectors' fails its digest"):
        rec.FlatIndex.open(path)
    assert rec.FlatIndex.open(path, verify=False)[7].tolist() == [1, 1, 1]


def test_foreign_files_are_errors(tmp_path):
    path = tmp_path / "index.rec"
    with pytest.raises(FileNotFoundError):
        rec.FlatIndex.open(path)
    write_bundle(path, {"vectors": VECTORS}, {}, kind="something-else", schema=1)
    with pytest.raises(rec.BundleError, match="kind"):
        rec.FlatIndex.open(path)
    write_bundle(path, {"vectors": VECTORS}, {}, kind="flat-index", schema=SCHEMA - 1)
    with pytest.raises(rec.BundleError, match="schema"):
        rec.FlatIndex.open(path)


def test_the_file_holds_the_index_and_no_more(tmp_path):
    path = tmp_path / "index.rec"
    small_index("str", "dot").save(path)
    bundle = read_bundle(path, kind="flat-index", schema=SCHEMA)
    assert bundle.meta.keys() == {"metric", "storage", "codes"}
    held = {name for name in bundle.arrays if not name.startswith("codes/")}
    assert held == {"vectors", "sq_norms", "reach", "ids/offsets", "ids/utf8"}
    index = small_index("int64", "dot")
    index.delete([-3])
    index.save(path)
    bundle = read_bundle(path, kind="flat-index", schema=SCHEMA)
    assert bundle.arrays["ordinals"].tolist() == [0, 2]
    assert bundle.arrays["vectors"].shape == (2, 3)  # what was deleted is not in the file


@pytest.mark.parametrize(
    "change", [lambda rows: rows + 2000, lambda rows: -1 - rows, lambda rows: 0 * rows + rows[0]]
)
def test_slots_that_hold_no_row_or_one_twice_are_an_error(rng, tmp_path, change):
    path = tmp_path / "index.rec"
    rec.FlatIndex(rng.standard_normal((2000, 12)).astype(np.float32)).save(path)
    bundle = read_bundle(path, kind="flat-index", schema=SCHEMA)
    assert bundle.meta["codes"]["rows_inside"]
    high = np.array(bundle.arrays["codes/high"])
    rows = high.reshape(63, -1)[:, -192:-64].view(np.int32)
    rows[3] = change(rows[3])
    arrays = bundle.arrays | {"codes/high": high}
    write_bundle(path, arrays, bundle.meta, kind="flat-index", schema=SCHEMA)
    with pytest.raises(rec.BundleError, match="order of the rows"):
        rec.FlatIndex.open(path)
