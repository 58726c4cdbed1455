"""Rows of either side solved anew, against the other side as it is."""

from __future__ import annotations

import threading
from typing import Any

import als_oracle
import numpy as np
import pytest
from scipy.sparse import coo_array, csc_array, csr_array

from recengine import NotFittedError
from recengine.factorization import ALS
from recengine.factorization._gram import gram

OBJECTIVES: list[dict[str, Any]] = [
    {"objective": "implicit", "regularization": 0.05, "alpha": 2.0},
    {"objective": "ials", "regularization": 0.01, "frequency_exponent": 0.5},
]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(params=OBJECTIVES, ids=lambda options: options["objective"])
def case(request: Any, rng: Any) -> tuple[ALS, Any]:
    dense = rng.integers(0, 4, (30, 20)).astype(np.float32)
    dense[dense == 3] = 0
    return ALS(6, iterations=2, random_state=0, **request.param).fit(csr_array(dense)), dense


def test_fold_in_rows_has_the_bits_of_fold_in(case: Any, rng: Any) -> None:
    model, _ = case
    dense = rng.integers(0, 3, (50, 20)).astype(np.float32)
    dense[7] = 0
    for threads in (1, 2, 5, None):
        model.num_threads = threads
        got = model.fold_in_rows(csr_array(dense))
        assert got.shape == (50, 6)
        for row, factors in zip(dense, got, strict=True):
            liked = np.flatnonzero(row)
            np.testing.assert_array_equal(factors, model.fold_in(liked, row[liked]))
    assert model.fold_in_rows(csr_array((0, 20))).shape == (0, 6)


def test_partial_fit_users_solves_those_rows_and_no_others(case: Any, rng: Any) -> None:
    model, _ = case
    users, places = model.user_factors_, [4, 30, 0, 31]
    rows = rng.integers(0, 3, (4, 20)).astype(np.float32)
    rows[2] = 0
    assert model.partial_fit_users(places, coo_array(rows)) is model
    want = np.array([als_oracle.solve_row(model, row, model.item_factors_) for row in rows])
    np.testing.assert_allclose(model.user_factors_[places], want, **CLOSE)
    rest = np.setdiff1d(np.arange(30), places)
    np.testing.assert_array_equal(model.user_factors_[rest], users[rest])
    assert model.user_factors_.shape == (32, 6)
    assert not model.user_factors_.flags.writeable
    assert len(users) == 30


def test_partial_fit_items_solves_those_columns_and_no_others(case: Any, rng: Any) -> None:
    model, _ = case
    items, places = model.item_factors_, [3, 20, 19]
    columns = rng.integers(0, 3, (30, 3)).astype(np.float32)
    model.partial_fit_items(places, csc_array(columns))
    want = np.array([als_oracle.solve_row(model, row, model.user_factors_) for row in columns.T])
    np.testing.assert_allclose(model.item_factors_[places], want, **CLOSE)
    rest = np.setdiff1d(np.arange(20), places)
    np.testing.assert_array_equal(model.item_factors_[rest], items[rest])
    assert model.item_factors_.shape == (21, 6)
    history = np.zeros(21)
    history[[2, 20]] = 1
    want = als_oracle.solve_row(model, history, model.item_factors_)
    np.testing.assert_allclose(model.fold_in([20, 2]), want, **CLOSE)


def test_many_partial_fits_keep_the_gram_matrices(case: Any, rng: Any) -> None:
    model, _ = case
    for _ in range(20):
        n_users, n_items = len(model.user_factors_), len(model.item_factors_)
        places = rng.choice(n_users + 1, 3, replace=False)
        rows = rng.integers(0, 3, (3, n_items)).astype(np.float32)
        model.partial_fit_users(places, csr_array(rows))
        n_users = len(model.user_factors_)
        columns = rng.integers(0, 3, (n_users, 2)).astype(np.float32)
        model.partial_fit_items(rng.choice(n_items + 1, 2, replace=False), csr_array(columns))
    fitted = model._require()
    items, users = fitted.items.astype(np.float64), fitted.users.astype(np.float64)
    np.testing.assert_allclose(fitted.item_gram, items.T @ items, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fitted.user_gram, users.T @ users, rtol=1e-9, atol=1e-12)
    weight = fitted.objective.unobserved_weight
    np.testing.assert_array_equal(fitted.base, weight * fitted.item_gram)


def test_solving_all_rows_is_half_an_epoch(case: Any) -> None:
    model, dense = case
    again = ALS(6, iterations=1, solver="cholesky", random_state=0, **_options(model))
    again.fit(csr_array(dense), init=(model.user_factors_, model.item_factors_))
    model.partial_fit_users(np.arange(30), csr_array(dense))
    np.testing.assert_allclose(model.user_factors_, again.user_factors_, **CLOSE)
    model.partial_fit_items(np.arange(20), csr_array(dense))
    np.testing.assert_allclose(model.item_factors_, again.item_factors_, **CLOSE)
    assert model.loss(csr_array(dense)) == pytest.approx(again.loss(csr_array(dense)), rel=1e-5)


def _options(model: ALS) -> dict[str, Any]:
    names = ("objective", "regularization", "alpha", "unobserved_weight", "frequency_exponent")
    return {name: getattr(model, name) for name in names}


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_partial_fit_num_threads_agnosticism(rng: Any, num_threads: int) -> None:
    dense = np.random.default_rng(1).integers(0, 3, (300, 90)).astype(np.float32)
    models = [ALS(16, iterations=1, random_state=0, num_threads=1).fit(csr_array(dense))]
    models.append(ALS.from_state(*models[0].state()))
    models[1].num_threads = num_threads
    columns = csr_array(rng.integers(0, 2, (300, 10)).astype(np.float32))
    for model in models:
        model.partial_fit_items(np.arange(40, 50), columns)
        model.partial_fit_users(np.arange(50), csr_array(dense[50:100]))
    one, several = (model._require() for model in models)
    for name in ("users", "items", "item_gram", "user_gram", "base"):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))


def test_with_users_is_another_model(case: Any, rng: Any) -> None:
    model, _ = case
    model.partial_fit_items([0], csr_array(np.ones((30, 1), np.float32)))
    before = model.user_factors_
    table = rng.standard_normal((3, 6)).astype(np.float32)
    other = model.with_users([30, 2, 31], table)
    np.testing.assert_array_equal(other.user_factors_[[30, 2, 31]], table)
    assert model.user_factors_ is before
    assert other.item_factors_ is model.item_factors_
    users = other.user_factors_.astype(np.float64)
    np.testing.assert_allclose(other._require().user_gram, users.T @ users, rtol=1e-10, atol=1e-12)
    again = ALS.from_state(*other.state())
    np.testing.assert_array_equal(again.user_factors_, other.user_factors_)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1500])
@pytest.mark.parametrize("dim", [1, 5, 16])
def test_gram_equals_numpy_at_any_thread_count(rng: Any, n: int, dim: int) -> None:
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    rows.flags.writeable = False
    wide = rows.astype(np.float64)
    got = [gram(rows, threads) for threads in (1, 2, 3)]
    np.testing.assert_allclose(got[0], wide.T @ wide, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got[0], got[0].T)
    np.testing.assert_array_equal(got[1], got[0])
    np.testing.assert_array_equal(got[2], got[0])
    with pytest.raises(ValueError, match="num_threads must be >= 1, got 0"):
        gram(rows, 0)


def test_readers_see_the_model_before_or_after(rng: Any) -> None:
    dense = rng.integers(0, 3, (40, 25)).astype(np.float32)
    model = ALS(8, iterations=1, random_state=0, num_threads=1).fit(csr_array(dense))
    twin, moments = ALS.from_state(*model.state()), [model.fold_in(np.arange(25)).tobytes()]
    steps = [csr_array(rng.integers(0, 3, (40, 25)).astype(np.float32)) for _ in range(30)]
    for columns in steps:
        twin.partial_fit_items(np.arange(25), columns)
        moments.append(twin.fold_in(np.arange(25)).tobytes())
    start, done = threading.Barrier(3), threading.Event()
    seen: list[list[bytes]] = [[], []]

    def read(mine: list[bytes]) -> None:
        start.wait()
        while not done.is_set():
            mine.append(model.fold_in(np.arange(25)).tobytes())

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    start.wait()
    for columns in steps:
        model.partial_fit_items(np.arange(25), columns)
    done.set()
    for thread in threads:
        thread.join()
    for mine in seen:
        position = 0
        for answer in mine:
            position = moments.index(answer, position)


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize(
    ("indices", "shape", "error", "message"),
    [
        ([1, 1], (2, 20), ValueError, "_indices must be distinct, got 1 more than once"),
        ([21, 3], (2, 20), ValueError, "must leave no gap behind the 20 rows there are, got 21"),
        ([20, 22], (2, 20), ValueError, r"_indices must lie in \[0, 22\), got 22"),
        ([-1], (1, 20), ValueError, r"_indices must lie in \[0, 21\), got -1"),
        ([0.5], (1, 20), TypeError, "_indices must be 1-D integers"),
        ([1], (1, 19), ValueError, "matrix must have shape"),
        ([1], (2, 20), ValueError, "matrix must have shape"),
    ],
)
def test_partial_fit_refuses(
    side: str, indices: Any, shape: Any, error: type[Exception], message: str
) -> None:
    dense = np.random.default_rng(0).integers(0, 3, (20, 20)).astype(np.float32)
    model = ALS(4, iterations=1, random_state=0).fit(csr_array(dense))
    before, rows = model._require(), np.ones(shape, np.float32)
    refit = model.partial_fit_users if side == "user" else model.partial_fit_items
    with pytest.raises(error, match=message):
        refit(indices, csr_array(rows if side == "user" else rows.T))
    assert model._require() is before


def test_wrong_values_and_unfitted_models_are_refused() -> None:
    dense = np.random.default_rng(0).integers(0, 3, (20, 10)).astype(np.float32)
    model = ALS(4, iterations=1, random_state=0).fit(csr_array(dense))
    before = model._require()
    for call, error, message in (
        (lambda: model.partial_fit_users([0], np.ones((1, 10))), TypeError, "scipy sparse"),
        (lambda: model.fold_in_rows(csr_array((2, 9))), ValueError, "each of the 10 items"),
        (lambda: model.with_users([0], np.ones((1, 3))), ValueError, "must have 4 columns"),
        (lambda: model.with_users([0], np.full((1, 4), np.nan)), ValueError, "must be finite"),
        (
            lambda: model.partial_fit_items([0], csr_array(np.full((20, 1), np.inf))),
            ValueError,
            "finite weights, got inf",
        ),
        (lambda: ALS().partial_fit_users([0], dense), NotFittedError, "call fit"),
        (lambda: ALS().partial_fit_items([0], dense), NotFittedError, "call fit"),
        (lambda: ALS().fold_in_rows(dense), NotFittedError, "call fit"),
        (lambda: ALS().with_users([0], dense), NotFittedError, "call fit"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert model._require() is before
    meta = model.state()[1] | {"regularization": 0.0}
    plain = ALS.from_state(model.state()[0], meta).with_users(np.arange(20), np.zeros((20, 4)))
    before = plain._require()
    likes = csr_array(np.eye(20, 2, k=1, dtype=np.float32))  # the first item has none
    with pytest.raises(ValueError, match=r"regularization must be large enough.* of column 1 "):
        plain.partial_fit_items([0, 1], likes)
    assert plain._require() is before
