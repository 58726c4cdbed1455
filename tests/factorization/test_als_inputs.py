"""What ALS accepts, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recengine import NotFittedError
from recengine.factorization import ALS


def small(**options: Any) -> ALS:
    return ALS(4, 0.1, iterations=2, random_state=0, **options)


@pytest.fixture
def dense(rng: np.random.Generator) -> Any:
    values = rng.integers(0, 4, (20, 15)).astype(np.float32)
    values[3], values[:, 5] = 0, 0
    return values


def assert_same_factors(got: ALS, want: ALS) -> None:
    np.testing.assert_array_equal(got.user_factors_, want.user_factors_)
    np.testing.assert_array_equal(got.item_factors_, want.item_factors_)


@pytest.mark.parametrize(
    "make",
    [
        sparse.csr_matrix,
        sparse.coo_array,
        sparse.coo_matrix,
        sparse.csc_array,
        sparse.lil_array,
        lambda dense: sparse.csr_array(dense.astype(np.float64)),
        lambda dense: sparse.csr_array(dense.astype(np.int16)),
    ],
)
def test_fit_takes_any_sparse_format(dense: Any, make: Any) -> None:
    assert_same_factors(small().fit(make(dense)), small().fit(sparse.csr_array(dense)))


def test_fit_takes_booleans(dense: Any) -> None:
    want = small().fit(sparse.csr_array((dense > 0).astype(np.float32)))
    assert_same_factors(small().fit(sparse.csr_array(dense > 0)), want)


def test_fit_takes_unsorted_int64_duplicates_and_zeros_and_leaves_them(dense: Any) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(np.arange(dense.size), dense.shape[1])  # zeros stay in, explicitly
    order = rng.permutation(np.concatenate([np.arange(dense.size)] * 2))
    order = order[np.argsort(rows[order], kind="stable")]
    indptr = np.searchsorted(rows[order], np.arange(len(dense) + 1))
    matrix = sparse.csr_array(
        (dense.ravel()[order] / 2, columns[order], indptr.astype(np.int64)), shape=dense.shape
    )
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), indptr.astype(np.int64)
    before = [part.copy() for part in (matrix.data, matrix.indices, matrix.indptr)]
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    assert_same_factors(small().fit(matrix), small().fit(sparse.csr_array(dense)))
    for got, want in zip((matrix.data, matrix.indices, matrix.indptr), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_fit_takes_interactions() -> None:
    from recengine.data import Interactions

    users, items = [3, 3, 7, 7, 9], [10, 11, 10, 12, 11]
    inter = Interactions.from_arrays(users, items, weights=[1.0, 2.0, 1.0, 3.0, 1.0])
    assert_same_factors(small().fit(inter), small().fit(inter.to_csr()))
    assert small().fit(inter).loss(inter) > 0


def test_rows_without_likes_get_zero_factors(dense: Any) -> None:
    model = small().fit(sparse.csr_array(dense))
    empty_users, empty_items = dense.sum(1) == 0, dense.sum(0) == 0
    assert empty_users.any()
    assert empty_items.any()
    np.testing.assert_array_equal(model.user_factors_.any(1), ~empty_users)
    np.testing.assert_array_equal(model.item_factors_.any(1), ~empty_items)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_fit_of_nothing_is_zero(shape: tuple[int, int]) -> None:
    matrix = sparse.csr_array(shape, dtype=np.float32)
    model = small().fit(matrix)
    assert model.user_factors_.shape == (shape[0], 4)
    assert model.item_factors_.shape == (shape[1], 4)
    assert not model.user_factors_.any()
    assert not model.item_factors_.any()
    assert model.loss(matrix) == 0


def test_factors_are_contiguous_float32_and_read_only(dense: Any) -> None:
    model = small().fit(sparse.csr_array(dense))
    for factors in (model.user_factors_, model.item_factors_):
        assert factors.dtype == np.float32
        assert factors.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            factors[0] = 0


def test_init_is_copied(dense: Any, rng: Any) -> None:
    init = (rng.random((20, 4), dtype=np.float32), rng.random((15, 4), dtype=np.float32))
    before = [part.copy() for part in init]
    small().fit(sparse.csr_array(dense), init=init)
    np.testing.assert_array_equal(init[0], before[0])
    np.testing.assert_array_equal(init[1], before[1])
    assert init[0].flags.writeable


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factors": 0}, ValueError, "factors must be >= 1, got 0"),
        ({"factors": 1.5}, TypeError, "factors must be an integer, got float"),
        ({"regularization": -1}, ValueError, "regularization must be >= 0, got -1"),
        ({"regularization": np.nan}, ValueError, "regularization must be finite"),
        ({"alpha": 0}, ValueError, "alpha must be > 0, got 0"),
        ({"iterations": 0}, ValueError, "iterations must be >= 1, got 0"),
        ({"solver": "lu"}, ValueError, "solver must be one of 'cg', 'cholesky', 'block', got 'lu'"),
        ({"cg_steps": 0}, ValueError, "cg_steps must be >= 1, got 0"),
        (
            {"solver": "block", "cg_steps": 2},
            ValueError,
            'cg_steps must be None unless solver="cg", got 2',
        ),
        (
            {"block_size": 32},
            ValueError,
            'block_size must be None unless solver="block", got 32',
        ),
        (
            {"solver": "block", "block_size": 24},
            ValueError,
            "block_size must be a multiple of 16, got 24",
        ),
        ({"objective": "bpr"}, ValueError, "objective must be one of 'implicit', 'ials'"),
        ({"num_threads": 0}, ValueError, "num_threads must be >= 1, got 0"),
        ({"random_state": -1}, ValueError, "random_state must be >= 0, got -1"),
        ({"random_state": "x"}, TypeError, "random_state must be an integer, got str"),
        (
            {"unobserved_weight": 0.1},
            ValueError,
            'unobserved_weight must be None unless objective="ials", got 0.1',
        ),
        (
            {"frequency_exponent": 1.0},
            ValueError,
            'frequency_exponent must be None unless objective="ials", got 1.0',
        ),
        (
            {"objective": "ials", "unobserved_weight": -1},
            ValueError,
            "unobserved_weight must be >= 0, got -1",
        ),
    ],
)
def test_init_refuses(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ALS(**options)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.nan, ValueError, "matrix must hold finite weights, got nan"),
        (np.inf, ValueError, "matrix must hold finite weights, got inf"),
        (1e39, ValueError, r"matrix must hold weights that fit float32, got 1e\+39"),
        (1e38, ValueError, "alpha times the largest weight must fit float32, got alpha 10"),
        (1j, TypeError, "matrix must hold real numbers, got dtype complex128"),
    ],
)
def test_fit_refuses_values(value: Any, error: type[Exception], message: str) -> None:
    matrix = sparse.csr_array(np.array([[1, value], [2, 0]]))
    with pytest.raises(error, match=message):
        small(alpha=10).fit(matrix)


def test_fit_refuses_other_things(dense: Any) -> None:
    with pytest.raises(TypeError, match=r"must be Interactions or a scipy sparse.*csr_array"):
        small().fit(dense)
    with pytest.raises(ValueError, match=r"matrix must be 2-D \(users, items\), got shape \(3,\)"):
        small().fit(sparse.coo_array(np.ones(3)))
    matrix = sparse.csr_array(dense)
    good = np.ones((15, 4), np.float32)
    with pytest.raises(TypeError, match="init must be a pair"):
        small().fit(matrix, init=good)
    with pytest.raises(ValueError, match=r"init\[0\] must have 20 rows, got 15"):
        small().fit(matrix, init=(good, good))
    with pytest.raises(ValueError, match=r"init\[1\] must have 4 columns, got 3"):
        small().fit(matrix, init=(np.ones((20, 4)), good[:, :3]))
    with pytest.raises(ValueError, match=r"init\[1\] must be finite"):
        small().fit(matrix, init=(np.ones((20, 4)), good * np.nan))


def test_loss_refuses_another_shape(dense: Any) -> None:
    model = small().fit(sparse.csr_array(dense))
    with pytest.raises(ValueError, match=r"matrix must have shape \(20, 15\).*got \(15, 20\)"):
        model.loss(sparse.csr_array(dense.T))
    with pytest.raises(NotFittedError, match="call fit"):
        small().loss(sparse.csr_array(dense))
    with pytest.raises(NotFittedError, match="call fit"):
        _ = small().user_factors_


def test_singular_system_is_an_error_and_keeps_the_model() -> None:
    matrix = sparse.csr_array(np.eye(3, dtype=np.float32))
    model = ALS(8, 0.0, iterations=1, random_state=0)  # 8 numbers from 3 items, unregularized
    with pytest.raises(ValueError, match=r"regularization must be large enough.*got 0: .*user 0"):
        model.fit(matrix)
    with pytest.raises(NotFittedError):
        model.fold_in([0])


def test_overflow_is_an_error() -> None:
    matrix = sparse.csr_array(np.ones((2, 2), np.float32))
    init = (np.ones((2, 2), np.float32), np.full((2, 2), 1e-38, np.float32))
    with pytest.raises(ValueError, match="singular or overflows"):
        ALS(2, 0.0, iterations=1).fit(matrix, init=init)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize(
    ("part", "place", "value", "message"),
    [
        ("indices", 0, 1000, r"matrix must have indices in \[0, \d+\), got 1000"),
        ("indices", 0, -5, r"matrix must have indices in \[0, \d+\), got -5"),
        ("indptr", 3, 10**6, "matrix must have an indptr of .* that rises"),
        ("indptr", -1, 10**6, "matrix must have an indptr of .* at most the number of indices"),
        ("indptr", 0, 1, "matrix must have an indptr of .* that rises from 0"),
    ],
)
def test_a_matrix_that_points_outside_of_itself_is_refused(
    dense: Any, form: Any, part: str, place: int, value: int, message: str
) -> None:
    model, broken = small().fit(sparse.csr_array(dense)), form(dense)
    getattr(broken, part)[place] = value
    for refuse in (model.fit, model.loss):
        with pytest.raises(ValueError, match=message):
            refuse(broken)


@pytest.mark.parametrize("regularization", [0.01, 0.0])
def test_an_exponent_that_overflows_is_refused_without_a_warning(
    dense: Any, regularization: float
) -> None:
    model = ALS(
        2,
        objective="ials",
        frequency_exponent=5000,
        regularization=regularization,
        iterations=1,
        num_threads=1,
    )
    with pytest.raises(ValueError, match=r"frequency_exponent must keep regularization \* .* 5000"):
        model.fit(sparse.csr_array(dense))
    with pytest.raises(NotFittedError):
        model.fold_in([0])


@pytest.mark.parametrize("progress", ["x", 1, None])
def test_progress_is_a_bool(dense: Any, progress: Any) -> None:
    with pytest.raises(TypeError, match="progress must be a bool, got"):
        ALS(2, iterations=1).fit(sparse.csr_array(dense), progress=progress)
