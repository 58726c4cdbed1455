"""SGD against a float64 oracle; held-out ratings, predictions, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recengine import SGD, NotFittedError

csr_array = sparse.csr_array


def ratings(rng: Any, n_users: int = 60, n_items: int = 40) -> Any:
    """Return ratings from −2 to 3 with biases, factors and noise; the first stored one is 0."""
    truth = rng.standard_normal((n_users, 3)) @ rng.standard_normal((3, n_items))
    truth += rng.standard_normal(n_users)[:, None] + rng.standard_normal(n_items)
    seen = rng.random((n_users, n_items)) < 0.35
    users, items = np.nonzero(seen)
    values = np.clip(truth[users, items] + 0.1 * rng.standard_normal(len(users)), -2, 3)
    values[0] = 0
    return csr_array((values.astype(np.float32), (users, items)), shape=seen.shape)


def oracle(model: SGD, matrix: Any, x: Any, y: Any, seed: int) -> tuple[Any, Any, Any, list[float]]:
    """Return (users, items, user biases, RMSE by epoch), rating by rating in Python."""
    n, generator = 4, np.random.default_rng(seed)
    x, y = x[:, :-1].astype(np.float64), y.astype(np.float64)
    bias, rate = np.zeros(len(x)), model.learning_rate
    keep = 1 - rate * model.regularization
    dense, stored = matrix.toarray().astype(np.float64), np.zeros(matrix.shape, np.bool_)
    rows = np.repeat(np.arange(len(x)), np.diff(matrix.indptr))
    stored[rows, matrix.indices] = True
    mean = dense[stored].mean()
    x[~stored.any(1)], y[~stored.any(0)] = 0, 0
    shards = np.searchsorted(matrix.indptr, np.arange(n + 1) * matrix.nnz // n)
    shards[0], shards[-1] = 0, len(x)
    rmses = []
    for _ in range(model.iterations):
        blocks = np.repeat(np.arange(n, dtype=np.int32), len(y) // n)
        generator.shuffle(blocks)
        errors = []
        for turn in range(n):
            for shard in range(n):
                mine = stored & (blocks == (shard + turn) % n)
                mine[: shards[shard]], mine[shards[shard + 1] :] = False, False
                for u, i in zip(*np.nonzero(mine), strict=True):
                    error = dense[u, i] - mean - bias[u] - y[i, -1] - x[u] @ y[i, :-1]
                    errors.append(error)
                    old = x[u].copy()
                    x[u] = keep * old + rate * error * y[i, :-1]
                    y[i] = keep * y[i] + rate * error * np.append(old, 1)
                    bias[u] = keep * bias[u] + rate * error
        rmses.append(float(np.sqrt(np.mean(np.square(errors)))))
    return x, y, bias, rmses


@pytest.mark.usefixtures("four_blocks")
@pytest.mark.parametrize("dim", [1, 8, 13])
def test_fit_equals_oracle(rng: Any, dim: int) -> None:
    matrix = ratings(rng)
    x = rng.standard_normal((60, dim + 1)).astype(np.float32) * np.float32(0.3)
    y = rng.standard_normal((40, dim + 1)).astype(np.float32) * np.float32(0.3)
    x[:, -1] = 1
    model = SGD(dim, 0.03, 0.1, 2, random_state=5).fit(matrix, init=(x, y))
    users, items, bias, rmses = oracle(model, matrix, x, y, 5)
    np.testing.assert_allclose(model.user_factors_[:, :-1], users, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.item_factors_, items, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.user_biases_, bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.rmses_, rmses, rtol=1e-5)
    assert model.mean_ == pytest.approx(matrix.data.mean(), rel=1e-6)


def test_predict_adds_up_and_knows_less_of_the_unknown(rng: Any) -> None:
    matrix = ratings(rng)
    model = SGD(6, iterations=3, random_state=0).fit(matrix)
    users, items = np.array([3, 3, -1, -1, 59]), np.array([1, -1, 1, -1, 39])
    x, y = model.user_factors_[:, :-1], model.item_factors_[:, :-1]
    want = [
        model.mean_ + model.user_biases_[3] + model.item_biases_[1] + x[3] @ y[1],
        model.mean_ + model.user_biases_[3],
        model.mean_ + model.item_biases_[1],
        model.mean_,
        model.mean_ + model.user_biases_[59] + model.item_biases_[39] + x[59] @ y[39],
    ]
    got = model.predict(users, items)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.dtype == np.float32
    assert model.predict([], []).shape == (0,)
    ranked = model.recommend(3, k=40)
    same = model.predict(np.full(40, 3), ranked.ids)
    np.testing.assert_allclose(ranked.scores, same, rtol=1e-5)
    many = np.tile(users, 4000), np.tile(items, 4000)  # more than one block
    np.testing.assert_array_equal(model.predict(*many), np.tile(got, 4000))
    nobody = SGD(2, random_state=0).fit(csr_array((0, 3)))
    np.testing.assert_array_equal(nobody.predict([-1], [2]), [0])


def test_rows_without_ratings_have_zeros(rng: Any) -> None:
    dense = ratings(rng).toarray()
    dense[4], dense[:, 7] = 0, 0
    model = SGD(4, iterations=2, random_state=0).fit(csr_array(dense))
    assert not model.user_factors_[4, :-1].any()
    assert not model.item_factors_[7].any()
    assert model.user_biases_[4] == 0
    assert model.predict([4], [7])[0] == np.float32(model.mean_)


def test_stored_zeros_are_ratings(rng: Any) -> None:
    stored = csr_array(([0.0, 4.0, 2.0], ([0, 0, 1], [0, 1, 1])), shape=(2, 2))
    assert SGD(2, random_state=0).fit(stored).mean_ == 2
    gone = stored.copy()
    gone.eliminate_zeros()
    assert SGD(2, random_state=0).fit(gone).mean_ == 3


def test_held_out_ratings_choose_the_epoch(rng: Any) -> None:
    matrix, heard = ratings(rng), []
    options: dict[str, Any] = {"validation_fraction": 0.2, "random_state": 3}
    model = SGD(8, 0.05, 0.0, 200, **options)
    model.fit(matrix, callback=lambda epoch, rmse: heard.append((epoch, rmse)))
    found = int(np.argmin(model.rmses_))
    assert len(model.rmses_) == found + 4 < 200  # three more, none better
    np.testing.assert_array_equal([rmse for _, rmse in heard], model.rmses_)
    shorter = SGD(8, 0.05, 0.0, found + 1, **options).fit(matrix)
    np.testing.assert_array_equal(shorter.item_factors_, model.item_factors_)
    np.testing.assert_array_equal(shorter.user_biases_, model.user_biases_)
    patient = SGD(8, 0.05, 0.0, 200, patience=9, **options).fit(matrix)
    assert len(patient.rmses_) >= len(model.rmses_) + 6
    held = np.random.default_rng(3).random(matrix.nnz) < 0.2
    rows = np.repeat(np.arange(60), np.diff(matrix.indptr))
    error = model.predict(rows[held], matrix.indices[held]) - matrix.data[held]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(model.rmses_.min(), rel=1e-5)
    assert model.mean_ == pytest.approx(matrix.data[~held].mean(), rel=1e-5)


def test_callback_ends_training(rng: Any) -> None:
    matrix = ratings(rng)
    model = SGD(4, iterations=9, random_state=0).fit(matrix, callback=lambda epoch, _: epoch == 2)
    assert len(model.rmses_) == 2
    same = SGD(4, iterations=2, random_state=0).fit(matrix)
    np.testing.assert_array_equal(same.item_factors_, model.item_factors_)


@pytest.mark.parametrize("n", [1, 5, 30])
@pytest.mark.parametrize("regularization", [0.05, 1.0])
def test_fold_in_solves_the_normal_equations(rng: Any, n: int, regularization: float) -> None:
    model = SGD(6, 0.02, regularization, 5, random_state=0).fit(ratings(rng))
    rows, given = rng.permutation(40)[:n], rng.integers(-2, 4, n)
    items = model.item_factors_.astype(np.float64)
    design = np.column_stack([items[rows, :-1], np.ones(n)])
    target = given - model.mean_ - items[rows, -1]
    system = design.T @ design + regularization * n * np.eye(7)
    want = np.linalg.solve(system, design.T @ target)
    got = model.fold_in(rows, given)
    np.testing.assert_allclose(got[:-1], want[:-1], rtol=1e-4, atol=1e-6)
    assert got[-1] == 1
    said = model.predict_for(rows, given, [0, 7, -1])
    scores = model.mean_ + want[-1] + items[[0, 7]] @ np.append(want[:-1], 1)
    np.testing.assert_allclose(said, [*scores, model.mean_ + want[-1]], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.fold_in(rows[::-1], given[::-1]), got)


def test_fold_in_of_nothing_and_of_repeats(rng: Any) -> None:
    model = SGD(3, 0.02, 0.0, 2, random_state=0).fit(ratings(rng))
    np.testing.assert_array_equal(model.fold_in([], []), [0, 0, 0, 1])
    np.testing.assert_array_equal(
        model.fold_in([2, 5, 2], [1, 2, 3]), model.fold_in([2, 5], [4, 2])
    )
    flat = SGD(3, 0.02, 0.0, 2, random_state=0).fit(csr_array(np.ones((1, 1))))
    assert np.isfinite(flat.fold_in([0], [3])).all()  # nothing to fit, nothing to regularize


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factors": 0}, ValueError, "factors must be >= 1, got 0"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be > 0, got 0"),
        (
            {"learning_rate": 1, "regularization": 1},
            ValueError,
            r"learning_rate \* regularization must be < 1, got 1 \* 1",
        ),
        ({"iterations": 0}, ValueError, "iterations must be >= 1, got 0"),
        ({"validation_fraction": -0.1}, ValueError, "validation_fraction must be >= 0, got -0.1"),
        ({"validation_fraction": 1}, ValueError, "validation_fraction must be < 1, got 1"),
        ({"patience": 2}, ValueError, "patience must be None unless ratings are held out, got 2"),
        (
            {"patience": 0, "validation_fraction": 0.1},
            ValueError,
            "patience must be >= 1, got 0",
        ),
    ],
)
def test_init_refuses(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SGD(**options)


def test_fit_and_predict_refuse(rng: Any) -> None:
    matrix = ratings(rng)
    with pytest.raises(ValueError, match=r"learning_rate must be small enough.*got 1e"):
        SGD(4, 1e20, 0, 9, random_state=0).fit(matrix)
    few = csr_array(np.ones((1, 1)))
    with pytest.raises(ValueError, match="validation_fraction must hold out some of the 1 ratings"):
        SGD(4, validation_fraction=0.5, random_state=0).fit(few)
    with pytest.raises(NotFittedError, match="call fit"):
        SGD().predict([0], [0])
    model = SGD(4, iterations=1, random_state=0).fit(matrix)
    with pytest.raises(ValueError, match=r"user_indices must lie in \[-1, 60\), got -2"):
        model.predict([-2], [0])
    with pytest.raises(ValueError, match=r"item_indices must lie in \[-1, 40\), got 40"):
        model.predict([0], [40])
    with pytest.raises(TypeError, match="user_indices must be 1-D integers, got float64"):
        model.predict([0.5], [0])
    with pytest.raises(ValueError, match=r"item_indices must have shape \(1,\), as user_indices"):
        model.predict([0], [0, 1])
    with pytest.raises(ValueError, match=r"ratings must have shape \(1,\), got \(2,\)"):
        model.fold_in([0], [1, 2])
    pair = SGD(1, 0.01, 0, 1, random_state=0).fit(csr_array(np.array([[1.0, 2.0]])))
    with pytest.raises(ValueError, match=r"ratings must keep factors within float32, got 3e"):
        pair.fold_in([0, 1], [3e38, -3e38])
    with pytest.raises(ValueError, match="ratings must hold finite ratings, got nan"):
        model.fold_in([0], [np.nan])


@pytest.mark.usefixtures("ml_100k_folder")
def test_ratings_of_ml_100k_are_predicted() -> None:
    from recengine.data import load_ml_100k
    from recengine.evaluation.metrics import rmse

    inter = load_ml_100k().interactions
    fold = np.random.default_rng(0).permutation(len(inter)) % 5
    errors = []
    for number in range(5):
        test = inter.select(np.flatnonzero(fold == number))
        train = inter.select(np.flatnonzero(fold != number))
        model = SGD(random_state=number).fit(train)
        errors.append(rmse(model.predict(test.user_indices, test.item_indices), test.weights))
    assert np.mean(errors) <= 0.92  # measured: 0.906
