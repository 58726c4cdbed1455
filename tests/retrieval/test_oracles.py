"""The references themselves: exact sums, the order of the tree, and helpers that can fail."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest


def test_lane_sum_is_close_to_an_exact_sum(rng):
    for dim in (1, 7, 8, 9, 100):
        terms = rng.standard_normal((3, dim))
        exact = [math.fsum(row) for row in terms]
        np.testing.assert_allclose(oracles.lane_sum(terms), exact, rtol=1e-13, atol=1e-13)


def test_lane_sum_follows_the_tree():
    lanes = np.array([1.0, 2.0**-53, -1.0, 2.0**-53, 2.0**60, 3.0, -(2.0**60), 2.0**-53])
    l0, l1, l2, l3, l4, l5, l6, l7 = lanes.tolist()
    want = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    assert oracles.lane_sum(lanes) == want
    assert want != math.fsum(lanes)  # so another order of additions would be noticed


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_scores_are_close_to_plain_float64(rng, metric):
    q, x = rng.standard_normal((4, 19)), rng.standard_normal((9, 19))
    q, x = q.astype(np.float32).astype(float), x.astype(np.float32).astype(float)
    plain = {
        "dot": q @ x.T,
        "cosine": q @ x.T / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)),
        "l2": -np.linalg.norm(q[:, None] - x[None], axis=2),
    }[metric]
    np.testing.assert_allclose(oracles.scores(metric, q, x), plain, rtol=1e-6, atol=1e-6)


def test_round_score_saturates_and_has_no_negative_zero():
    got = oracles.round_score(np.array([1e300, -1e300, -0.0, -1e-60, 1e-45]))
    want = np.array([oracles.FLT_MAX, -oracles.FLT_MAX, 0.0, 0.0, 1e-45], np.float32)
    oracles.assert_same_bits(got, want)


def test_best_breaks_ties_by_row_and_pads():
    table = np.array([[1, 2, 2, 0]], np.float32)
    rows, scores = oracles.best(table, 5, allowed=np.array([True, True, True, False]))
    np.testing.assert_array_equal(rows, [[1, 2, 0, -1, -1]])
    np.testing.assert_array_equal(scores, [[2, 2, 1, -np.inf, -np.inf]])


def test_comparison_fails_on_one_bit_one_id_one_sign():
    ids, scores = np.array([3, 1]), np.array([1.0, 0.0], np.float32)
    oracles.assert_same_topk((ids, scores), (ids.copy(), scores.copy()))
    with pytest.raises(AssertionError):
        oracles.assert_same_topk((np.array([1, 3]), scores), (ids, scores))
    with pytest.raises(AssertionError):
        oracles.assert_same_topk((ids, np.nextafter(scores, np.float32(2))), (ids, scores))
    with pytest.raises(AssertionError):
        oracles.assert_same_bits(np.array([-0.0], np.float32), np.array([0.0], np.float32))
    with pytest.raises(AssertionError):
        oracles.assert_same_bits(scores.astype(np.float64), scores)
