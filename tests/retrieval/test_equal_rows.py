"""Equal rows share a slot of the code table: found once, and every one of them that belongs."""

from __future__ import annotations

import itertools

import native_calls as native
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine import BundleError, _native
from recengine.retrieval import _coding, _persistence, _score, _search
from recengine.retrieval._duplicates import equal_rows
from recengine.storage import read_bundle, write_bundle


def copies_of(rng, n_rows, n_kinds, dim=12):
    return native.f32(rng.standard_normal((n_kinds, dim))[rng.integers(0, n_kinds, n_rows)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
@pytest.mark.parametrize("n_kinds", [1, 2, 50, 3000])
def test_groups_are_the_equal_rows(rng, dtype, n_kinds):
    vectors = (copies_of(rng, 5000, n_kinds, 9) * 100).astype(dtype)
    order, starts = equal_rows(vectors)
    assert len(starts) - 1 == len(np.unique(vectors, axis=0))
    np.testing.assert_array_equal(np.sort(order), np.arange(5000))
    assert (np.diff(order[starts[:-1]]) > 0).all(), "by first row"
    for first, end in itertools.pairwise(starts):
        assert (np.diff(order[first:end]) > 0).all()
        assert (vectors[order[first:end]] == vectors[order[first]]).all()


def test_few_copies_are_left_alone(rng):
    vectors = native.f32(rng.standard_normal((1000, 4)))
    assert equal_rows(vectors) is None
    vectors[900:990] = vectors[:90]
    assert equal_rows(vectors) is None
    vectors[500:700] = vectors[:200]
    assert equal_rows(vectors) is not None


def test_a_chance_meeting_of_keys_is_no_group(monkeypatch):
    vectors = native.f32(np.arange(40).reshape(20, 2) % 6)
    monkeypatch.setattr(
        "recengine.retrieval._duplicates._mixed", lambda bits: np.zeros(len(bits), np.uint64)
    )
    order, starts = equal_rows(np.sort(vectors, axis=0))
    ordered = np.sort(vectors, axis=0)
    assert len(starts) - 1 >= len(np.unique(ordered, axis=0))
    for first, end in itertools.pairwise(starts):
        assert (ordered[order[first:end]] == ordered[order[first]]).all()


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n_rows": st.integers(2, 400),
        "n_kinds": st.integers(1, 40),
        "n_queries": st.sampled_from([1, 2, 5, 30]),
        "k": st.sampled_from([1, 3, 10, 500]),
        "metric": st.sampled_from(native.METRICS),
        "level": st.sampled_from(native.LEVELS),
        "threads": st.sampled_from([1, 2]),
        "filtered": st.sets(st.sampled_from(["mask", "alive", "exclude", "bias", "ordinals"])),
    }
)


@settings(max_examples=150)
@given(CASES)
def test_answers_are_those_of_the_float_scan(case):
    """`native.search` holds the scan by codes against the scan of every row."""
    rng = np.random.default_rng(case["seed"])
    n = case["n_rows"]
    vectors = copies_of(rng, n, case["n_kinds"], 5)
    queries = native.f32(rng.standard_normal((case["n_queries"], 5)))
    chosen = case["filtered"] - ({"bias"} if case["metric"] == "l2" else set())
    options = native.random_limits(rng, n, len(queries), chosen)
    options["num_threads"] = case["threads"]
    native.search(case["level"], case["metric"], queries, vectors, case["k"], **options)


@pytest.mark.parametrize("metric", native.METRICS)
def test_they_are_scored_once_and_come_in_order(rng, metric):
    vectors = copies_of(rng, 20_000, 7)
    index = rec.FlatIndex(vectors, metric=metric)
    queries = native.f32(rng.standard_normal((30, 12)))
    found = index.search(queries, 50)
    oracles.assert_same_topk(found, oracles.search(metric, queries, vectors, 50))
    assert index.stats["scanned"] <= 30 * 7
    assert index.stats["rescored"] <= 30 * 7


@pytest.mark.parametrize("metric", native.METRICS)
def test_updates_and_files_keep_them(rng, tmp_path, metric):
    vectors = copies_of(rng, 3000, 5)
    index = rec.FlatIndex(vectors, metric=metric)
    index.delete(range(0, 3000, 2))
    index.upsert([10_000, 10_001], vectors[:2])
    queries = native.f32(rng.standard_normal((4, 12)))
    before = index.search(queries, 40)
    index.compact()
    index.save(tmp_path / "index.rec")
    for now in (index, rec.FlatIndex.open(tmp_path / "index.rec")):
        after = now.search(queries, 40)
        np.testing.assert_array_equal(after.ids, before.ids)
        oracles.assert_same_bits(after.scores, before.scores)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("members", lambda a: a[::-1]),
        ("members", lambda a: np.where(a == 3, 2, a)),
        ("members", lambda a: a.astype(np.int32)),
        ("starts", lambda a: np.where(a == a[1], a[2], a)),
        ("starts", lambda a: a[:-1]),
        ("starts", lambda a: a + 1),
        ("order", lambda a: a[::-1]),
        ("starts", lambda _: None),
        ("members", lambda _: None),
    ],
)
def test_slots_of_wrong_content_are_an_error(rng, tmp_path, part, change):
    path = tmp_path / "index.rec"
    rec.FlatIndex(copies_of(rng, 300, 5), metric="cosine").save(path)
    bundle = read_bundle(path, kind="flat-index", schema=_persistence.SCHEMA)
    arrays = dict(bundle.arrays)
    changed = change(arrays.pop(f"codes/{part}"))
    if changed is not None:
        arrays[f"codes/{part}"] = np.ascontiguousarray(changed)
    write_bundle(path, arrays, bundle.meta, kind="flat-index", schema=_persistence.SCHEMA)
    with pytest.raises(BundleError, match="codes"):
        rec.FlatIndex.open(path)


def test_a_bound_over_copies_counts_those_that_may_be_returned(rng):
    """The limit must not rise by the boost of a copy that is filtered away."""
    vectors = native.f32(np.repeat(rng.standard_normal((40, 6)), 3, axis=0))
    bias = native.f32(np.tile([9, 0, 0], 40))
    allowed = native.words(np.tile([False, True, True], 40))
    queries = native.f32(rng.standard_normal((3, 6)))
    for level in native.LEVELS:
        api, norms = _native.api(level), _score.squared_norms(_native.api(), vectors)
        reach = _score.reach(1, norms)
        codes = _coding.encode(vectors, norms, reach, 1)
        assert "starts" in codes
        options = {"mask": allowed, "bias": bias}
        rows, _, _ = _search.search(
            api, 1, queries, vectors, norms, reach, 5, codes=codes, **options
        )
        want, _, _ = _search.search(api, 1, queries, vectors, norms, reach, 5, **options)
        np.testing.assert_array_equal(rows, want)
