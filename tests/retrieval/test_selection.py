"""rec.topk, rec.merge_topk and the native selection under them."""

from __future__ import annotations

import itertools

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.retrieval import _select

few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, -3.4e38, float("-inf"), 2.0])


@settings(max_examples=200)
@given(
    st.integers(0, 4),
    st.integers(0, 120),
    st.integers(0, 130),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_topk_equals_oracle(n, m, k, seed, data):
    rng = np.random.default_rng(seed)
    pool = np.array([*data.draw(st.lists(few, min_size=1, max_size=5)), 0.25], np.float32)
    table = rng.choice(pool, (n, m))
    table[rng.random((n, m)) < 0.3] = np.float32(rng.standard_normal())
    want = oracles.best(np.where(table == 0, np.float32(0), table), k, allowed=table > -np.inf)
    oracles.assert_same_topk(rec.topk(table, k), want)


@pytest.mark.parametrize("order", ["rising", "falling", "random", "equal"])
@pytest.mark.parametrize("k", [1, 10, 999, 5000])
def test_topk_of_long_rows(rng, order, k):
    row = rng.standard_normal(5000).astype(np.float32)
    row = {"rising": np.sort(row), "falling": -np.sort(row), "random": row, "equal": row * 0}[order]
    oracles.assert_same_topk(rec.topk(row[None], k), oracles.best(row[None] + 0, k))


def test_topk_of_a_row_is_flat_and_a_matrix_is_not():
    ids, scores = rec.topk([1.0, 3.0, 2.0], 2)
    assert ids.tolist() == [1, 2]
    assert scores.tolist() == [3, 2]
    assert rec.topk([[1, 3, 2]], 5).ids.tolist() == [[1, 2, 0, -1, -1]]
    assert rec.topk(np.empty((0, 3)), 2).ids.shape == (0, 2)
    assert rec.topk(np.empty((2, 0)), 2).ids.tolist() == [[-1, -1]] * 2
    assert rec.topk([], 1).ids.tolist() == [-1]


@pytest.mark.parametrize(
    ("scores", "k", "error", "message"),
    [
        ([1.0, np.nan], 1, ValueError, r"scores must be below \+inf and not NaN, got nan"),
        ([1.0, np.inf], 1, ValueError, r"scores must be below \+inf and not NaN, got inf"),
        ([1.0, 1e39], 1, ValueError, r"scores must be below \+inf"),
        ([1.0, -1e39], 1, ValueError, r"scores must fit float32, got -1e\+39"),
        (1.0, 1, ValueError, r"scores must be \(m,\) or \(n, m\), got shape \(\)"),
        (["a"], 1, TypeError, r"scores must hold real numbers"),
        ([True], 1, TypeError, r"scores must hold real numbers, got dtype bool"),
        ([1.0], -1, ValueError, r"k must be >= 0, got -1"),
        ([1.0], 1.0, TypeError, r"k must be an integer, got float"),
    ],
)
def test_topk_refuses(scores, k, error, message):
    with pytest.raises(error, match=message):
        rec.topk(scores, k)


@pytest.mark.parametrize("metric", oracles.METRICS)
@pytest.mark.parametrize("kind", ["int64", "str"])
def test_merge_of_shards_equals_the_whole(rng, metric, kind):
    vectors = rng.integers(-2, 3, (90, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (7, 4)).astype(np.float32)
    ids = np.arange(90) + 1000
    ids = ids if kind == "int64" else np.array([str(entry) for entry in ids], dtype=object)
    whole = rec.FlatIndex(vectors, ids=ids, metric=metric).search(queries, 12)
    cuts = [0, 3, 40, 41, 90]
    parts = []
    for start, stop in itertools.pairwise(cuts):
        part = rec.FlatIndex(vectors[start:stop], ids=ids[start:stop], metric=metric)
        found = part.search(queries, 12)
        ordinals = np.where(found.ordinals < 0, -1, found.ordinals + start)
        parts.append(rec.TopK(found.ids, found.scores, ordinals=ordinals))
    for shuffled in (parts, parts[::-1]):
        merged = rec.merge_topk(shuffled, 12)
        oracles.assert_same_topk(merged, whole)
        np.testing.assert_array_equal(merged.ordinals, whole.ordinals)
    singles = [rec.TopK(part.ids[0], part.scores[0], ordinals=part.ordinals[0]) for part in parts]
    oracles.assert_same_topk(rec.merge_topk(singles, 12), (whole.ids[0], whole.scores[0]))


def topk_of(ids, scores, **options):
    kind = object if any(isinstance(entry, str) for entry in ids) else np.int64
    return rec.TopK(np.array(ids, dtype=kind), np.array(scores, np.float32), **options)


def test_merge_counts_an_item_once_with_its_best_score():
    merged = rec.merge_topk(
        [topk_of([4, 7, -1], [3, 1, -np.inf]), topk_of([7, 4], [2, 1]), topk_of([9], [3])], 5
    )
    assert merged.ids.tolist() == [4, 9, 7, -1, -1]
    assert merged.scores.tolist() == [3, 3, 2, -np.inf, -np.inf]
    assert merged.ordinals.tolist() == [4, 9, 7, -1, -1]
    assert not merged.partial


def test_merge_is_partial_where_a_part_is():
    parts = [topk_of([1], [1.0]), topk_of([2], [2.0], partial=True)]
    assert rec.merge_topk(parts, 1).partial


def test_merge_reads_any_iterable_once():
    parts = [topk_of([1, 3], [1.0, 0.5]), topk_of([2], [2.0])]
    oracles.assert_same_topk(rec.merge_topk(iter(parts), 3), rec.merge_topk(parts, 3))


@settings(max_examples=100)
@given(st.integers(1, 5), st.integers(0, 40), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_merge_equals_a_dictionary(n_parts, width, k, seed):
    rng = np.random.default_rng(seed)
    parts, best = [], {}
    for _ in range(n_parts):
        ids = rng.choice(60, width, replace=False)
        scores = rng.integers(-2, 3, width).astype(np.float32)
        for item, score in zip(ids.tolist(), scores.tolist(), strict=True):
            best[item] = max(best.get(item, -np.inf), score)
        parts.append(rec.TopK(ids, scores))
    merged = rec.merge_topk(parts, k)
    want = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    want += [(-1, -np.inf)] * (k - len(want))
    assert list(zip(merged.ids.tolist(), merged.scores.tolist(), strict=True)) == want


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ValueError, r"parts must hold at least one TopK"),
        (iter([]), ValueError, r"parts must hold at least one TopK"),
        (None, TypeError, r"parts must be a list of TopK, got NoneType"),
        (topk_of([1], [1]), TypeError, r"parts must be a list of TopK, got TopK"),
        ([([1], [1.0])], TypeError, r"parts must hold TopK, got tuple"),
        ([topk_of([1], [1]), topk_of(["a"], [1], ordinals=np.array([0]))], TypeError, r"one kind"),
        ([topk_of(["a"], [1])], TypeError, r"parts must carry int64 ordinals, got object"),
        ([topk_of([1], [1]), topk_of([[1]], [[1]])], ValueError, r"must answer the same queries"),
        ([topk_of([1, 2], [1, np.nan])], ValueError, r"parts must hold scores that are not NaN"),
        (
            [topk_of([1], [1]), topk_of([2], [np.nan], ordinals=np.array([-1]))],
            ValueError,
            r"parts must hold scores that are not NaN",
        ),
        ([rec.TopK(np.array([1]), np.array(["a"]))], TypeError, r"scores of real numbers, got <U1"),
        ([topk_of([1, 2], [1])], ValueError, r"ids, scores and ordinals of one shape"),
    ],
)
def test_merge_refuses(parts, error, message):
    with pytest.raises(error, match=message):
        rec.merge_topk(parts, 3)


F32, I64 = np.float32, np.int64


@pytest.mark.parametrize(
    "call",
    [
        lambda: _select.topk(np.ones((2, 2)), 1),
        lambda: _select.topk(np.ones(2, F32), 1),
        lambda: _select.topk(np.ones((2, 4), F32)[:, ::2], 1),
        lambda: _select.topk(np.ones((2, 2), F32), -1),
        lambda: _select.topk(None, 1),
        lambda: _select.topk(np.ones((2, 2), F32), "1"),
        lambda: _select.merge(np.ones((1, 2), F32), np.ones((1, 3), I64), np.ones((1, 2), I64), 1),
        lambda: _select.merge(np.ones((1, 2), F32), np.ones((1, 2), I64), np.ones((2, 2), I64), 1),
        lambda: _select.merge(np.ones((1, 2), F32), np.ones((1, 2), F32), np.ones((1, 2), I64), 1),
        lambda: _select.merge(np.ones((1, 2), F32), np.ones((1, 2), I64), np.ones((1, 2), I64), -1),
        lambda: _select.order(np.ones(2, F32), np.ones(3, I64), np.array([0, 2]), 1),
        lambda: _select.order(np.ones(2, F32), np.ones(2, I64), np.array([0, 3]), 1),
        lambda: _select.order(np.ones(2, F32), np.ones(2, I64), np.array([1, 2]), 1),
        lambda: _select.order(np.ones(2, F32), np.ones(2, I64), np.array([0, 5, -1, 2]), 1),
        lambda: _select.order(np.ones(2, F32), np.ones(2, I64), np.empty(0, I64), 1),
        lambda: _select.order(np.ones(2, F32), np.ones(2, I64), np.array([0, 2]), -1),
    ],
)
def test_native_selection_refuses_and_does_not_crash(call):
    with pytest.raises((ValueError, TypeError)):
        call()


def test_native_topk_never_selects_nan():
    ids, scores = _select.topk(np.array([[np.nan, 1, np.nan, -np.inf, 0]], F32), 4)
    assert ids.tolist() == [[1, 4, -1, -1]]
    assert scores.tolist() == [[1, 0, -np.inf, -np.inf]]
