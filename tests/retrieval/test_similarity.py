"""The dense similarities: shapes, signs, edges, errors. (Bits: test_search_oracle.py.)"""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import recengine as rec

FUNCTIONS = {
    "cosine": rec.cosine_similarity,
    "dot": rec.dot_similarity,
    "l2": rec.euclidean_distance,
}


@pytest.mark.parametrize("metric", FUNCTIONS)
def test_pairs_equal_oracle_and_keep_the_shape_of_a(rng, metric):
    a, b = rng.standard_normal((13, 21)), rng.standard_normal((29, 21))
    want = oracles.scores(metric, a, b)
    want = np.abs(want) if metric == "l2" else want
    function = FUNCTIONS[metric]
    for threads in (None, 1, 2, 4):
        oracles.assert_same_bits(function(a, b, num_threads=threads), want)
    oracles.assert_same_bits(function(a[3], b), want[3])
    assert function(a[:0], b).shape == (0, 29)
    assert function(a, b[:0]).shape == (13, 0)


def test_distance_is_positive_symmetric_and_exactly_zero_for_equal_rows(rng):
    a = rng.standard_normal((20, 9)) * 1e6
    distance = rec.euclidean_distance(a, a)
    oracles.assert_same_bits(np.diag(distance).copy(), np.zeros(20, np.float32))
    oracles.assert_same_bits(distance, np.ascontiguousarray(distance.T))
    assert (distance >= 0).all()
    assert rec.euclidean_distance([3.0, 0.0], [[0.0, 4.0]]).tolist() == [5.0]


def test_overflow_saturates():
    top = np.full((1, 4), 3e38, np.float32)
    limit = np.finfo(np.float32).max
    assert rec.dot_similarity(top, top) == limit
    assert rec.dot_similarity(top, -top) == -limit
    assert rec.euclidean_distance(top, -top) == limit
    assert rec.cosine_similarity(top, top) == 1
    assert rec.cosine_similarity(np.full(4, 1e-45), top) == 1


@pytest.mark.parametrize("function", FUNCTIONS.values())
@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), ValueError, r"a must have dim 4, got shape \(2, 3\)"),
        (np.ones((2, 3)), np.ones(3), ValueError, r"b must be 2-D"),
        ([[np.nan]], [[1]], ValueError, r"a must be finite, got nan"),
        ([[1]], [[np.inf]], ValueError, r"b must be finite, got inf"),
        ([["x"]], [[1]], TypeError, r"a must hold real numbers"),
    ],
)
def test_wrong_pairs_are_refused(function, a, b, error, message):
    with pytest.raises(error, match=message):
        function(a, b)


def test_wrong_thread_count_is_refused():
    with pytest.raises(ValueError, match="num_threads must be >= 1, got 0"):
        rec.cosine_similarity([[1]], [[1]], num_threads=0)
