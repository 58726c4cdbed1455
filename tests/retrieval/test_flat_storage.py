"""A saved index: the same answers, or a clear error, never anything else."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec
from recengine.storage import pack_ids, read_bundle, write_bundle


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
IDS = pack_ids("ids", np.array([1, 2]))
TWINS = pack_ids("ids", np.array([1, 1]))
MANY = pack_ids("ids", np.array([1, 2, 3]))
NORMS = np.full(2, 3.0)


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        ({"vectors": VECTORS, "sq_norms": NORMS, **IDS}, {}, "must hold 'metric'"),
        (
            {"vectors": VECTORS, "sq_norms": NORMS, **IDS},
            {"metric": "x"},
            "metric 'x' is not one of",
        ),
        ({"vectors": VECTORS, "sq_norms": NORMS, **IDS}, {"metric": ["dot"]}, "is not one of"),
        ({"sq_norms": NORMS, **IDS}, {"metric": "dot"}, "must hold 'vectors'"),
        ({"vectors": VECTORS, **IDS}, {"metric": "dot"}, "must hold 'sq_norms'"),
        ({"vectors": VECTORS, "sq_norms": NORMS}, {"metric": "dot"}, "ids"),
        (
            {"vectors": VECTORS.astype(float), "sq_norms": NORMS, **IDS},
            {"metric": "dot"},
            "vectors are not float32",
        ),
        ({"vectors": VECTORS[0], "sq_norms": NORMS, **IDS}, {"metric": "dot"}, "vectors are not"),
        ({"vectors": VECTORS[:, :0], "sq_norms": NORMS, **IDS}, {"metric": "dot"}, "dim 0"),
        ({"vectors": VECTORS, "sq_norms": NORMS[:1], **IDS}, {"metric": "dot"}, "norms do not fit"),
        ({"vectors": VECTORS, "sq_norms": NORMS, **TWINS}, {"metric": "dot"}, "unique"),
        ({"vectors": VECTORS, "sq_norms": NORMS, **MANY}, {"metric": "dot"}, "ids do not fit"),
        (
            {"vectors": VECTORS, "sq_norms": NORMS, **IDS, "alive": np.zeros(3, bool)},
            {"metric": "dot"},
            "tombstones do not fit",
        ),
        (
            {"vectors": VECTORS, "sq_norms": NORMS, **IDS, "alive": np.zeros(2, np.uint8)},
            {"metric": "dot"},
            "tombstones do not fit",
        ),
    ],
)
def test_a_whole_file_of_wrong_content_is_an_error(tmp_path, arrays, meta, message):
    path = tmp_path / "index.rec"
    write_bundle(path, arrays, meta, kind="flat-index", schema=1)
    with pytest.raises(rec.BundleError, match=message):
        rec.FlatIndex.open(path)


def test_foreign_files_are_errors(tmp_path):
    path = tmp_path / "index.rec"
    with pytest.raises(FileNotFoundError):
        rec.FlatIndex.open(path)
    write_bundle(path, {"vectors": VECTORS}, {}, kind="something-else", schema=1)
    with pytest.raises(rec.BundleError, match="kind"):
        rec.FlatIndex.open(path)
    write_bundle(path, {"vectors": VECTORS}, {}, kind="flat-index", schema=2)
    with pytest.raises(rec.BundleError, match="schema"):
        rec.FlatIndex.open(path)


def test_the_file_holds_the_index_and_no_more(tmp_path):
    path = tmp_path / "index.rec"
    small_index("str", "dot").save(path)
    bundle = read_bundle(path, kind="flat-index", schema=1)
    assert bundle.meta == {"metric": "dot"}
    assert {"vectors", "sq_norms"} < set(bundle.arrays)
    assert "alive" not in bundle.arrays
