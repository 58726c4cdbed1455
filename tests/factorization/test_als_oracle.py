"""ALS against a dense float64 oracle and against implicit."""

from __future__ import annotations

from functools import partial
from typing import Any

import als_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, csr_matrix

from recengine.factorization import ALS
from recengine.factorization._initial import initial_factors

OBJECTIVES: list[dict[str, Any]] = [
    {"objective": "implicit", "regularization": 0.05, "alpha": 2.0},
    {"objective": "implicit", "regularization": 0.5, "alpha": 0.3},  # confidences below 1
    {"objective": "ials", "regularization": 0.01},
    {"objective": "ials", "regularization": 0.1, "unobserved_weight": 0.4, "alpha": 1.5},
    {"objective": "ials", "regularization": 0.2, "frequency_exponent": 0.0},
    {"objective": "ials", "regularization": 0.02, "frequency_exponent": 0.5},
]

exact = partial(ALS, solver="cholesky")


def start(rng: np.random.Generator, matrix: Any, dim: int) -> tuple[Any, Any]:
    n_users, n_items = matrix.shape
    draw = rng.standard_normal((n_users + n_items, dim), dtype=np.float32) * np.float32(0.1)
    return draw[:n_users], draw[n_users:]


@pytest.mark.parametrize("options", OBJECTIVES)
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 8, 17, 33, 64, 67])
def test_fit_equals_oracle(make_matrix: Any, rng: Any, options: Any, dim: int) -> None:
    matrix = make_matrix()
    init = start(rng, matrix, dim)
    model = exact(dim, iterations=2, **options).fit(matrix, init=init)
    users, items = als_oracle.fit(model, matrix.toarray(), *init)
    want = als_oracle.loss(model, matrix.toarray(), users, items)
    got = als_oracle.loss(model, matrix.toarray(), model.user_factors_, model.item_factors_)
    assert got == pytest.approx(want, rel=1e-5)
    scores = model.user_factors_ @ model.item_factors_.T
    np.testing.assert_allclose(scores, users @ items.T, atol=2e-3)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_one_half_equals_oracle_row_by_row(make_matrix: Any, rng: Any, options: Any) -> None:
    matrix = make_matrix(per_user=35, n_items=150)  # some rows need more than one block
    users, items = start(rng, matrix, 12)
    model = exact(12, iterations=1, **options).fit(matrix, init=(users, items))
    want = [als_oracle.solve_row(model, row, items) for row in matrix.toarray()]
    np.testing.assert_allclose(model.user_factors_, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_loss_equals_sum_over_all_pairs(make_matrix: Any, options: Any) -> None:
    matrix = make_matrix()
    model = exact(7, iterations=1, random_state=0, **options).fit(matrix)
    want = als_oracle.loss(model, matrix.toarray(), model.user_factors_, model.item_factors_)
    assert model.loss(matrix) == pytest.approx(want, rel=1e-7)
    other = make_matrix()
    want = als_oracle.loss(model, other.toarray(), model.user_factors_, model.item_factors_)
    assert model.loss(other) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_loss_never_rises(make_matrix: Any, rng: Any, options: Any) -> None:
    matrix = make_matrix()
    factors = start(rng, matrix, 6)
    losses = []
    for _ in range(8):
        model = exact(6, iterations=1, **options).fit(matrix, init=factors)
        factors = (model.user_factors_, model.item_factors_)
        losses.append(model.loss(matrix))
    assert np.diff(losses).max() <= 1e-6 * losses[0]


def fit_implicit(matrix: Any, model: ALS, init: Any, dtype: Any) -> Any:
    import threadpoolctl
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpoolctl.threadpool_limits(1, "blas"):
        peer = AlternatingLeastSquares(
            model.factors,
            regularization=model.regularization,
            alpha=model.alpha,
            iterations=model.iterations,
            dtype=dtype,
            use_cg=False,
            use_native=True,
            num_threads=1,
        )
        peer.user_factors, peer.item_factors = (part.astype(dtype) for part in init)
        peer.fit(csr_matrix(matrix), show_progress=False)
    return peer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("regularization", "alpha"), [(0.01, 1.0), (10.0, 1.0), (2.0, 10.0)])
def test_loss_equals_implicit(
    make_matrix: Any, rng: Any, regularization: float, alpha: float, dtype: Any
) -> None:
    matrix = make_matrix(n_users=300, n_items=200, per_user=20)
    init = tuple(rng.random((n, 32), dtype=np.float32) * np.float32(0.01) for n in matrix.shape)
    model = exact(32, regularization, alpha, iterations=15).fit(matrix, init=init)
    peer = fit_implicit(matrix, model, init, dtype)
    want = als_oracle.loss(model, matrix.toarray(), peer.user_factors, peer.item_factors)
    assert model.loss(matrix) == pytest.approx(want, rel=1e-5)


def test_loss_equals_implicit_on_ml_100k(ml_100k_folder: Any) -> None:
    from recengine.data import load_ml_100k

    matrix = load_ml_100k(ml_100k_folder).interactions.split_last(1)[0].to_csr()
    init = initial_factors("implicit", matrix.shape, 64, None, 0)
    model = exact(64, 10.0, iterations=15).fit(matrix, init=init)
    peer = fit_implicit(matrix, model, init, np.float32)
    want = als_oracle.loss(model, matrix.toarray(), peer.user_factors, peer.item_factors)
    assert model.loss(matrix) == pytest.approx(want, rel=1e-6)


def test_loss_is_what_implicit_reports(make_matrix: Any, rng: Any) -> None:
    from implicit.cpu._als import calculate_loss

    matrix = make_matrix(n_users=300, n_items=200, per_user=20)
    model = exact(16, 0.1, iterations=3, random_state=0).fit(matrix)
    users, items = model.user_factors_.copy(), model.item_factors_.copy()
    want = calculate_loss(csr_matrix(matrix), users, items, 0.1, num_threads=1)
    assert model.loss(matrix) == pytest.approx(want, rel=1e-5)


def test_seed_draws_what_implicit_draws(make_matrix: Any) -> None:
    import threadpoolctl
    from implicit.cpu.als import AlternatingLeastSquares

    matrix = make_matrix()
    users, items = initial_factors("implicit", matrix.shape, 8, None, 7)
    with threadpoolctl.threadpool_limits(1, "blas"):
        peer = AlternatingLeastSquares(8, iterations=0, random_state=7, num_threads=1)
        peer.fit(csr_matrix(matrix), show_progress=False)
    np.testing.assert_array_equal(users, peer.user_factors)
    np.testing.assert_array_equal(items, peer.item_factors)


def test_ials_draws_normal_factors() -> None:
    users, items = initial_factors("ials", (4000, 3000), 16, None, 7)
    for factors in (users, items):
        assert factors.dtype == np.float32
        assert abs(factors.mean()) < 1e-3
        assert factors.std() == pytest.approx(0.1 / 4, rel=0.02)


@settings(max_examples=60)
@given(data=st.data())
def test_users_equal_oracle_for_any_matrix(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    dim = data.draw(st.integers(1, 7))
    options = data.draw(st.sampled_from(OBJECTIVES))
    weight = st.one_of(st.just(0.0), st.floats(2**-10, 50, width=32))
    dense = np.array(
        data.draw(st.lists(weight, min_size=n_users * n_items, max_size=n_users * n_items)),
        np.float32,
    ).reshape(n_users, n_items)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    users, items = (rng.standard_normal((n, dim), dtype=np.float32) for n in dense.shape)
    model = exact(dim, iterations=1, **options).fit(csr_array(dense), init=(users, items))
    want = np.array([als_oracle.solve_row(model, row, items) for row in dense])
    scale = 1e-3 * max(1.0, np.abs(want).max())
    np.testing.assert_allclose(model.user_factors_, want, rtol=1e-3, atol=scale)
    assert not model.user_factors_[dense.sum(1) == 0].any()
    assert not model.item_factors_[dense.sum(0) == 0].any()
