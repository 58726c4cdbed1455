"""Which rows are best: order, ties, padding, exclusion; and what ALS answers with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array, csr_matrix

from recengine import NotFittedError
from recengine.factorization import ALS
from recengine.factorization._ranking import best, products, similar_rows

LARGEST = float(np.finfo(np.float32).max)


def best_oracle(scores: Any, k: int, exclude: Any = ()) -> tuple[list[int], list[float]]:
    """Sort all pairs (score as float32, row)."""
    rounded = [float(np.float32(min(max(s, -LARGEST), LARGEST))) for s in scores]
    left = sorted((-s, row) for row, s in enumerate(rounded) if row not in set(exclude))[:k]
    pad = k - len(left)
    return [row for _, row in left] + [-1] * pad, [-s for s, _ in left] + [-np.inf] * pad


SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-12, 1e39, -1e39, 1e-50, np.inf, -np.inf]),
    st.floats(allow_nan=False),
)


@given(
    scores=st.lists(SCORES, max_size=40),
    k=st.integers(0, 50),
    excluded=st.lists(st.integers(0, 39), max_size=45),
)
def test_best_equals_oracle(scores: list[float], k: int, excluded: list[int]) -> None:
    exclude = np.array([row for row in excluded if row < len(scores)], np.int64)
    given_scores = np.array(scores, np.float64)
    given_scores.flags.writeable = False
    ids, found = best(given_scores, k, exclude)
    want_ids, want_scores = best_oracle(scores, k, exclude.tolist())
    assert ids.tolist() == want_ids
    np.testing.assert_array_equal(found, np.array(want_scores, np.float32))
    assert not np.signbit(found[found == 0]).any()
    assert ids.dtype == np.int64
    assert found.dtype == np.float32


def test_best_of_k_is_prefix_of_best_of_more(rng: Any) -> None:
    scores = rng.integers(0, 20, 500) / 8
    whole = best(scores, 600, np.arange(0, 500, 7))
    for k in (0, 1, 13, 400, 599):
        part = best(scores, k, np.arange(0, 500, 7))
        np.testing.assert_array_equal(part.ids, whole.ids[:k])
        np.testing.assert_array_equal(part.scores, whole.scores[:k])
        np.testing.assert_array_equal(part.ordinals, part.ids)


@pytest.mark.parametrize("dim", [1, 3, 64, 130])
def test_products_of_a_row_have_the_same_bits_anywhere(rng: Any, dim: int) -> None:
    factors = rng.standard_normal((3000, dim)).astype(np.float32)
    vector = factors[5]
    got = products(factors, vector)
    want = factors.astype(np.float64) @ vector.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    order = rng.permutation(3000)
    np.testing.assert_array_equal(products(factors[order], vector), got[order])
    np.testing.assert_array_equal(products(factors[:7], vector), got[:7])


def test_similar_rows_equals_oracle(rng: Any) -> None:
    factors = rng.standard_normal((2000, 70)).astype(np.float32)
    factors[[4, 9]] = 0
    factors[11] = factors[3]
    wide = factors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    for row in (3, 4, 1999):
        scale = lengths * lengths[row]
        cosines = np.divide(wide @ wide[row], scale, out=np.zeros(2000), where=scale > 0)
        ids, scores = similar_rows(factors, row, 2001)
        assert row not in ids
        assert ids[-2:].tolist() == [-1, -1]
        np.testing.assert_allclose(scores[:-2], cosines[ids[:-2]], rtol=1e-6, atol=1e-7)
        assert (np.diff(scores[:-2]) <= 0).all()
    assert similar_rows(factors, 3, 1).ids.tolist() == [11]
    assert similar_rows(factors, 4, 3).ids.tolist() == [0, 1, 2]


@pytest.fixture
def model(make_matrix: Any) -> ALS:
    return ALS(8, iterations=2, random_state=0).fit(make_matrix())


def test_als_recommend_equals_oracle(model: ALS, make_matrix: Any) -> None:
    scores = model.user_factors_.astype(np.float64) @ model.item_factors_.astype(np.float64).T
    for user in (0, 17, 59):
        ids, found = model.recommend(user, k=40)
        want_ids, want_scores = best_oracle(scores[user], 40)
        assert ids.tolist() == want_ids
        np.testing.assert_allclose(found, want_scores, rtol=1e-6, atol=1e-9)
        assert model.recommend(user).ids.tolist() == want_ids[:10]


def test_als_recommend_leaves_out_the_row_in_any_form(model: ALS) -> None:
    dense = np.zeros((1, 40), np.float32)
    dense[0, [3, 8, 30]] = 2
    want_ids, _ = best_oracle(
        model.user_factors_[5].astype(np.float64) @ model.item_factors_.astype(np.float64).T,
        38,
        [3, 8, 30],
    )
    zero = csr_array((np.array([1.0, 0, 1, 1]), ([0, 0, 0, 0], [3, 4, 8, 30])), shape=(1, 40))
    for row in (
        [30, 3, 8, 3],
        np.array([3, 8, 30], np.uint8),
        csr_array(dense),
        csr_matrix(dense),
        csr_array(dense).tocsc(),
        coo_array(dense[0]),
        zero,
    ):
        assert model.recommend(5, row, k=38).ids.tolist() == want_ids
    assert model.recommend(5, [], k=9).ids.tolist() == model.recommend(5, k=9).ids.tolist()
    assert model.recommend(5, np.arange(40), k=2).ids.tolist() == [-1, -1]


def test_als_similar_rows(model: ALS) -> None:
    for got, factors in (
        (model.similar_items(7, k=5), model.item_factors_),
        (model.similar_users(7, k=5), model.user_factors_),
    ):
        want = similar_rows(factors, 7, 5)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.scores, want.scores)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((60,), ValueError, r"user_index must lie in \[0, 60\), got 60"),
        ((-1,), ValueError, r"user_index must lie in \[0, 60\), got -1"),
        ((1.0,), TypeError, "user_index must be an integer, got float"),
        ((0, None, -1), ValueError, "k must be >= 0, got -1"),
        ((0, None, 2**30), ValueError, "k must be <= 1048616"),
        ((0, [40]), ValueError, r"user_items_row must lie in \[0, 40\), got 40"),
        ((0, [0.5]), TypeError, "user_items_row must be 1-D integers"),
        ((0, csr_array((1, 39))), ValueError, r"user_items_row must have shape \(1, 40\) or"),
    ],
)
def test_als_recommend_refuses(
    model: ALS, arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.recommend(*arguments)


def test_als_similar_refuses(model: ALS) -> None:
    with pytest.raises(ValueError, match=r"item_index must lie in \[0, 40\), got 40"):
        model.similar_items(40)
    with pytest.raises(ValueError, match=r"user_index must lie in \[0, 60\), got 60"):
        model.similar_users(60)
    with pytest.raises(ValueError, match="k must be >= 0, got -3"):
        model.similar_users(0, k=-3)
    for name in ("recommend", "similar_items", "similar_users"):
        with pytest.raises(NotFittedError, match="call fit"):
            getattr(ALS(), name)(0)
