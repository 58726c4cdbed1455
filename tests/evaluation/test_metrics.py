"""Each metric against rows worked by hand, against its bounds, and against wrong arguments."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recengine.evaluation import metrics
from recengine.evaluation.metrics import PER_USER

L2 = math.log(2)
# hits, n_relevant, k, and what it must be, worked by hand.
BY_HAND = [
    # Relevant at ranks 1 and 3 of 5, three relevant in all.
    (
        [1, 0, 1, 0, 0],
        3,
        5,
        {
            "precision": 2 / 5,
            "recall": 2 / 3,
            "f1": 1 / 2,
            "ndcg": (1 + 1 / 2) / (1 + L2 / math.log(3) + 1 / 2),
            "map": (1 / 1 + 2 / 3) / 3,
            "mrr": 1.0,
            "hit_rate": 1.0,
        },
    ),
    # The same list cut at 2: only the first rank is left.
    (
        [1, 0, 1, 0, 0],
        3,
        2,
        {
            "precision": 1 / 2,
            "recall": 1 / 3,
            "f1": 2 / 5,
            "ndcg": 1 / (1 + L2 / math.log(3)),
            "map": 1 / 3,
            "mrr": 1.0,
            "hit_rate": 1.0,
        },
    ),
    # One relevant item, at rank 4: leave one out.
    (
        [0, 0, 0, 1],
        1,
        4,
        {
            "precision": 1 / 4,
            "recall": 1.0,
            "f1": 2 / 5,
            "ndcg": L2 / math.log(5),
            "map": 1 / 4,
            "mrr": 1 / 4,
            "hit_rate": 1.0,
        },
    ),
    # Nothing found.
    ([0, 0, 0], 2, 3, dict.fromkeys(PER_USER, 0.0)),
    # A list of two that is asked about at 4: precision pays, ndcg knows that 3 could be there.
    (
        [1, 1],
        3,
        4,
        {
            "precision": 1 / 2,
            "recall": 2 / 3,
            "f1": 4 / 7,
            "ndcg": (1 + L2 / math.log(3)) / (1 + L2 / math.log(3) + 1 / 2),
            "map": 2 / 3,
            "mrr": 1.0,
            "hit_rate": 1.0,
        },
    ),
    # More relevant items than ranks, all ranks right: average precision stays below 1.
    (
        [1, 1],
        8,
        2,
        {
            "precision": 1.0,
            "recall": 1 / 4,
            "f1": 2 / 5,
            "ndcg": 1.0,
            "map": 1 / 4,
            "mrr": 1.0,
            "hit_rate": 1.0,
        },
    ),
]


@pytest.mark.parametrize("metric", PER_USER)
@pytest.mark.parametrize("row", BY_HAND, ids=range(len(BY_HAND)))
def test_metric_by_hand(metric, row):
    hits, n_relevant, k, expected = row
    assert PER_USER[metric](hits, n_relevant, k) == pytest.approx(expected[metric], rel=1e-14)


def test_metrics_of_rows_are_the_metrics_of_each_row(rng):
    hits = rng.random((20, 7)) < 0.3
    n_relevant = hits.sum(1) + rng.integers(1, 5, 20)
    for metric in PER_USER.values():
        together = metric(hits, n_relevant, 5)
        assert together.dtype == np.float64
        apart = [metric(row, n, 5) for row, n in zip(hits, n_relevant, strict=True)]
        np.testing.assert_array_equal(together, apart)


def test_k_defaults_to_the_width():
    hits = [[1, 0, 0, 1], [0, 1, 1, 0]]
    assert metrics.precision(hits).tolist() == [0.5, 0.5]
    assert metrics.recall(hits, [2, 4]).tolist() == [1.0, 0.5]
    assert metrics.f1(hits, [4, 4]).tolist() == [0.5, 0.5]
    assert metrics.reciprocal_rank(hits).tolist() == [1.0, 0.5]
    assert metrics.hit_rate(hits).tolist() == [1.0, 1.0]
    for metric in (metrics.ndcg, metrics.average_precision):
        np.testing.assert_array_equal(metric(hits, [2, 4]), metric(hits, [2, 4], 4))


rows = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


@settings(max_examples=60)
@given(rows, st.data())
def test_metrics_lie_between_0_and_1_and_change_only_within_k(hits, data):
    n_relevant = np.maximum(hits.sum(1), 1) + data.draw(st.integers(0, 5))
    k = data.draw(st.integers(1, 15))
    beyond = hits.copy()
    beyond[:, k:] = False
    for name, metric in PER_USER.items():
        values = metric(hits, n_relevant, k)
        assert values.min() >= 0, name
        assert values.max() <= 1, name
        np.testing.assert_array_equal(values, metric(beyond, n_relevant, k), err_msg=name)
        assert ((values > 0) == beyond.any(1)).all(), name


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_perfect_list_has_the_best_value_exactly(width, n_relevant, k):
    hits = np.arange(width) < n_relevant
    if width >= k or width >= n_relevant:
        assert metrics.ndcg(hits, n_relevant, k) == 1.0
    if n_relevant <= min(k, width):
        assert metrics.average_precision(hits, n_relevant, k) == 1.0
        assert metrics.recall(hits, n_relevant, k) == 1.0
    if k <= min(n_relevant, width):
        assert metrics.precision(hits, k) == 1.0
    if k == n_relevant <= width:
        assert metrics.f1(hits, n_relevant, k) == 1.0
    assert metrics.reciprocal_rank(hits, k) == metrics.hit_rate(hits, k) == 1.0


@settings(max_examples=60)
@given(rows, st.integers(0, 4))
def test_moving_a_hit_up_never_lowers_a_metric(hits, more):
    n_relevant = np.maximum(hits.sum(1), 1) + more
    k = hits.shape[1]
    better = hits.copy()
    for row in better:
        swaps = np.flatnonzero(row[1:] & ~row[:-1])
        if len(swaps):
            row[swaps[0]], row[swaps[0] + 1] = True, False
    for name, metric in PER_USER.items():
        assert (metric(better, n_relevant, k) >= metric(hits, n_relevant, k) - 1e-15).all(), name


def test_hits_by_hand():
    ids = np.array([[3, 1, -1], [2, 9, 1]])
    np.testing.assert_array_equal(
        metrics.hits(ids, [{1, 7}, [2, 2, 1]]), [[False, True, False], [True, False, True]]
    )
    assert metrics.hits([3, 1, -1], {1, -1}).tolist() == [False, True, False]
    names = np.array([["a", None], ["b", "c"]], dtype=object)
    assert metrics.hits(names, [["a"], np.array(["c"])]).tolist() == [[True, False], [False, True]]
    assert metrics.hits(["a", None], [None, "a"]).tolist() == [True, False]
    assert metrics.hits([["a", "b"]], [["b"]]).tolist() == [[False, True]]


def test_hits_feed_the_metrics():
    hits = metrics.hits([[5, 6, 7], [1, 2, 3]], [{7}, {4}])
    assert metrics.reciprocal_rank(hits).tolist() == [1 / 3, 0.0]


def test_coverage_by_hand():
    assert metrics.coverage([[1, 2], [2, -1]], 8) == 0.25
    assert metrics.coverage(np.array([["a", "b"], ["a", None]], dtype=object), 2) == 1.0
    assert metrics.coverage(["a", "b"], 4) == 0.5
    assert metrics.coverage(np.empty((0, 3), np.int64), 4) == 0.0


def test_errors_of_ratings_by_hand():
    # differences 1, −1, 2, 0
    assert metrics.rmse([4, 2, 5, 3], [3.0, 3.0, 3.0, 3.0]) == math.sqrt(6 / 4)
    assert metrics.mae([4, 2, 5, 3], [3, 3, 3, 3]) == 1.0
    assert metrics.rmse(np.float32([[1.5]]), [[1.5]]) == 0.0
    # Unsigned bytes do not wrap around.
    assert metrics.mae(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0


@settings(max_examples=40)
@given(hnp.arrays(np.float64, (2, 9), elements=st.floats(-1e100, 1e100)))
def test_mae_is_at_most_rmse(pair):
    low, high = metrics.mae(*pair), metrics.rmse(*pair)
    assert 0 <= low <= high * (1 + 1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: metrics.precision([[1.0, 0.0]]), TypeError, "hits must be bool, or 0 and 1"),
        (lambda: metrics.precision([[1, 2]]), TypeError, "hits must be bool, or 0 and 1"),
        (lambda: metrics.precision(True), ValueError, r"hits must be \(n_users, k\) or \(k,\)"),
        (lambda: metrics.precision([[True]], 0), ValueError, "k must be >= 1, got 0"),
        (lambda: metrics.precision([]), ValueError, "k must be >= 1, got 0"),
        (lambda: metrics.precision([[True]], 1.5), TypeError, "k must be an integer, got float"),
        (lambda: metrics.recall([[True]], [0]), ValueError, "n_relevant must be >= 1, got 0"),
        (lambda: metrics.ndcg([[1, 1]], [1]), ValueError, "hits of its row, got 1 for 2 hits"),
        (lambda: metrics.f1([1, 1], 1), ValueError, "hits of its row, got 1 for 2 hits"),
        (lambda: metrics.ndcg([[1, 1]], 2), ValueError, r"one entry per row of hits \(1,\)"),
        (lambda: metrics.ndcg([1], 1.0), TypeError, "n_relevant must hold integers, got dtype"),
        (lambda: metrics.hits([[1]], [[1], [2]]), ValueError, "one collection per row .1., got 2"),
        (lambda: metrics.hits([1.5], [1]), TypeError, "recommended must hold integer or str ids"),
        (lambda: metrics.hits([[[1]]], [1]), ValueError, r"recommended must be \(n_users, k\)"),
        (lambda: metrics.coverage([1, 2], 1), ValueError, "n_items must be >= 2, the items rec"),
        (lambda: metrics.coverage([1, 2], 0), ValueError, "n_items must be >= 1, got 0"),
        (lambda: metrics.rmse([1], [1, 2]), ValueError, r"one shape, got \(1,\) and \(2,\)"),
        (lambda: metrics.rmse([], []), ValueError, "predicted must not be empty"),
        (lambda: metrics.mae([np.nan], [1]), ValueError, "predicted must be finite, got nan"),
        (lambda: metrics.mae([1], [np.inf]), ValueError, "actual must be finite, got inf"),
        (lambda: metrics.rmse(["1"], [1]), TypeError, "predicted must hold real numbers"),
        (lambda: metrics.rmse([True], [1]), TypeError, "predicted must hold real numbers"),
    ],
)
def test_wrong_arguments_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
