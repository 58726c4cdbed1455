"""The ridge regression from features to factors, against its normal equations in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recengine.factorization._feature_map import (
    _GRID,
    TRUST_CAP,
    FeatureRegression,
    as_features,
)

Problem = tuple[Any, Any, Any]


def make(rng: np.random.Generator, n_rows: int = 60, n_features: int = 9, dim: int = 5) -> Problem:
    """Return (features, counts, factors): some rows without entries, some with many."""
    features = rng.standard_normal((n_rows, n_features)).astype(np.float32)
    counts = rng.integers(0, 2 * TRUST_CAP, n_rows) * (rng.random(n_rows) < 0.8)
    truth = rng.standard_normal((n_features, dim))
    noise = rng.standard_normal((n_rows, dim)) * 2
    return features, counts, (features @ truth + 3 + noise).astype(np.float32)


def oracle(features: Any, counts: Any, factors: Any) -> tuple[Any, Any, Any]:
    """Return (weights, intercept, score of each μ) from systems with an intercept column."""
    used = counts > 0
    c = np.column_stack([features[used], np.ones(used.sum())]).astype(np.float64)
    y, w = factors[used].astype(np.float64), np.minimum(counts[used], TRUST_CAP).astype(float)
    mean = w @ c[:, :-1] / w.sum()
    centred = np.sqrt(w)[:, None] * (c[:, :-1] - mean)
    largest = np.linalg.eigvalsh(centred.T @ centred)[-1]
    scores, maps = [], []
    for strength in _GRID * largest:
        penalty = np.diag([*np.full(c.shape[1] - 1, strength), 0.0])
        inverse = np.linalg.inv(c.T @ (w[:, None] * c) + penalty)
        solved = inverse @ c.T @ (w[:, None] * y)
        freedom = np.trace(inverse @ c.T @ (w[:, None] * c))
        errors = (w[:, None] * (y - c @ solved) ** 2).sum()
        scores.append(errors / (len(y) - freedom) ** 2)
        maps.append(solved)
    best = maps[int(np.argmin(scores))]
    return best[:-1], best[-1], np.array(scores)


@pytest.mark.parametrize("shape", [(60, 9), (200, 30), (25, 40), (9, 9)])
def test_map_equals_oracle(rng: Any, shape: tuple[int, int]) -> None:
    features, counts, factors = make(rng, *shape)
    counts[:2] = 3
    got = FeatureRegression(features, counts).fit(factors)
    weights, intercept, scores = oracle(features, counts, factors)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(got.weights, weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got.intercept, intercept, rtol=1e-6, atol=1e-8)
    want = features @ weights + intercept
    np.testing.assert_allclose(got.predict(features), want, rtol=1e-5, atol=1e-5)


def test_choice_is_neither_end_of_the_grid_when_there_is_signal_and_noise(rng: Any) -> None:
    _, _, scores = oracle(*make(rng, 80, 30))
    assert 0 < np.argmin(scores) < len(scores) - 1


def test_sparse_equals_dense(rng: Any) -> None:
    for shape in ((60, 9), (20, 35)):
        features, counts, factors = make(rng, *shape)
        features[rng.random(features.shape) < 0.6] = 0
        want = FeatureRegression(features, counts).fit(factors)
        for form in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
            table = as_features("item_features", form(features))
            got = FeatureRegression(table, counts).fit(factors)
            np.testing.assert_allclose(got.weights, want.weights, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(got.intercept, want.intercept, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(
                got.predict(table), want.predict(features), rtol=1e-6, atol=1e-6
            )


def test_regression_serves_many_fits_and_repeats_its_bits(rng: Any) -> None:
    features, counts, factors = make(rng)
    regression = FeatureRegression(features, counts)
    first = regression.fit(factors)
    regression.fit(factors[::-1])
    for again in (regression.fit(factors), FeatureRegression(features, counts).fit(factors)):
        np.testing.assert_array_equal(again.weights, first.weights)
        np.testing.assert_array_equal(again.intercept, first.intercept)


def test_rows_without_entries_teach_nothing(rng: Any) -> None:
    features, counts, factors = make(rng)
    want = FeatureRegression(features, counts).fit(factors)
    features, factors = features.copy(), factors.copy()
    features[counts == 0], factors[counts == 0] = 1e6, -1e6
    got = FeatureRegression(features, counts).fit(factors)
    np.testing.assert_array_equal(got.weights, want.weights)
    np.testing.assert_array_equal(got.intercept, want.intercept)


def test_trust_stops_at_the_cap(rng: Any) -> None:
    features, counts, factors = make(rng)
    counts[counts >= TRUST_CAP] = TRUST_CAP
    more = np.where(counts == TRUST_CAP, 10 * TRUST_CAP, counts)
    want = FeatureRegression(features, counts).fit(factors)
    np.testing.assert_array_equal(
        FeatureRegression(features, more).fit(factors).weights, want.weights
    )
    fewer = np.minimum(counts, 1)
    other = FeatureRegression(features, fewer).fit(factors)
    assert not np.allclose(other.weights, want.weights, rtol=1e-3)


def test_many_rows_are_summed_over_blocks(rng: Any) -> None:
    features, counts, factors = make(rng, 9000, 4, 2)
    weights, intercept, _ = oracle(features, counts, factors)
    got = FeatureRegression(features, counts).fit(factors)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got.intercept, intercept, rtol=1e-6, atol=1e-8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.125, 8.0]), st.sampled_from([-3.0, 0.0, 5.0]))
def test_order_scale_and_origin_of_features_do_not_matter(
    seed: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    features, counts, factors = make(rng, *rng.integers([25, 1, 1], [40, 12, 4]))
    features = np.round(features * 16) / 16  # so that scale and shift are exact
    counts[0] = 5
    order, columns = rng.permutation(len(features)), rng.permutation(features.shape[1])
    want = FeatureRegression(features, counts).fit(factors).predict(features)
    moved = np.ascontiguousarray(
        (features * np.float32(scale) + np.float32(shift))[order][:, columns]
    )
    got = FeatureRegression(moved, counts[order]).fit(factors[order]).predict(moved)
    np.testing.assert_allclose(got, want[order], rtol=1e-3, atol=1e-3)


def test_nothing_to_learn_from() -> None:
    features = np.eye(4, 3, dtype=np.float32)
    nothing = FeatureRegression(features, np.zeros(4, np.int64)).fit(np.ones((4, 2), np.float32))
    assert not nothing.predict(features).any()
    assert nothing.predict(features).shape == (4, 2)
    one = FeatureRegression(features, np.array([0, 7, 0, 0])).fit(
        np.array([[9, 9], [1, 2], [9, 9], [9, 9]], np.float32)
    )
    np.testing.assert_array_equal(one.predict(features), [[1, 2]] * 4)
    none = np.empty((4, 0), np.float32)
    mean = FeatureRegression(none, np.array([1, 3, 0, 0])).fit(np.array([[4], [8], [0], [0]], "f"))
    np.testing.assert_array_equal(mean.predict(none), [[7]] * 4)
    same = FeatureRegression(np.ones((4, 2), np.float32), np.ones(4, np.int64))
    found = same.fit(np.arange(4, dtype="f")[:, None])
    np.testing.assert_allclose(found.predict(np.ones((1, 2), "f")), [[1.5]])


def test_prediction_refuses_an_overflow(rng: Any) -> None:
    features, counts, factors = make(rng)
    found = FeatureRegression(features, counts).fit(factors)
    with pytest.raises(ValueError, match="features must give factors that fit float32"):
        found.predict(np.full((1, 9), 3e38, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        found.predict(features)[0] = 0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3), ValueError, r"item_features must be 2-D \(rows, dim\), got shape \(3,\)"),
        (np.ones((4, 2)), ValueError, "item_features must have 3 rows, got 4"),
        (np.ones((3, 4)), ValueError, "item_features must have 2 columns, got 4"),
        (np.full((3, 2), np.nan), ValueError, "item_features must be finite"),
        (np.array([["a", "b"]] * 3), TypeError, "item_features must hold real numbers"),
        (
            sparse.csr_array((4, 2)),
            ValueError,
            r"item_features must have 3 rows, got shape \(4, 2\)",
        ),
        (sparse.csr_array((3, 4)), ValueError, "item_features must have 2 columns"),
        (sparse.coo_array(np.ones(3)), ValueError, r"item_features must be 2-D \(rows, dim\)"),
        (sparse.csr_array([[np.inf, 1]] * 3), ValueError, "item_features must be finite"),
        (sparse.csr_array([[1j, 1]] * 3), TypeError, "item_features must hold real numbers"),
        (sparse.csr_array([[1e39, 1]] * 3), ValueError, "item_features must fit float32"),
    ],
)
def test_features_are_checked(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_features("item_features", value, n_rows=3, dim=2)


def test_features_come_in_any_layout(rng: Any) -> None:
    features, counts, factors = make(rng)
    want = FeatureRegression(features, counts).fit(factors)
    table = np.asfortranarray(features.astype(np.float64))
    table.flags.writeable = False
    got = FeatureRegression(as_features("item_features", table), counts).fit(factors)
    np.testing.assert_array_equal(got.weights, want.weights)
    wide = sparse.csr_array(features)
    before = wide.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    FeatureRegression(as_features("item_features", wide), counts).fit(factors)
    np.testing.assert_array_equal(wide.toarray(), before.toarray())
