"""ALS with features: what they predict is where a row starts, its entries have the last word."""

from __future__ import annotations

import json
from typing import Any

import als_oracle
import numpy as np
import pytest
from scipy import sparse

from recengine import NotFittedError
from recengine.factorization import ALS
from recengine.factorization._feature_map import FeatureRegression
from recengine.factorization.als import SOLVERS

OBJECTIVES: list[dict[str, Any]] = [
    {"regularization": 0.7},
    {"objective": "ials", "regularization": 0.05, "unobserved_weight": 0.2},
]


@pytest.fixture
def matrix(make_matrix: Any) -> Any:
    """Return likes of 60 users and 40 items; user 3 and items 5 and 6 have none."""
    dense = make_matrix().toarray()
    dense[3], dense[:, 5:7] = 0, 0
    return sparse.csr_array(dense)


@pytest.fixture
def features(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "user_features": rng.standard_normal((60, 3)).astype(np.float32),
        "item_features": (np.arange(40)[:, None] % 4 == np.arange(4)).astype(np.float32),
    }


def solve_row(model: Any, weights: Any, fixed: Any, prior: Any) -> Any:
    """Return the row whose ridge is drawn towards `prior`; without entries `prior` itself."""
    n = np.count_nonzero(weights)
    if not n:
        return prior
    moved = np.asarray(fixed, np.float64)
    c = model.alpha * np.asarray(weights, np.float64)
    shift, w0 = (1.0, 1.0) if model.objective == "implicit" else (0.0, model.unobserved_weight)
    ridge = als_oracle.ridge(model, n, len(moved))
    system = w0 * moved.T @ moved + ridge * np.eye(moved.shape[1])
    system += moved.T @ (np.where(c > 0, c - shift, 0.0)[:, None] * moved)
    return np.linalg.solve(system, moved.T @ c + ridge * np.asarray(prior, np.float64))


def start(rng: Any, dim: int = 5) -> Any:
    return rng.random((60, dim), dtype=np.float32), rng.random((40, dim), dtype=np.float32)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_an_epoch_equals_the_oracle(matrix: Any, features: Any, rng: Any, options: Any) -> None:
    init, dense = start(rng), matrix.toarray()
    model = ALS(5, alpha=2.0, iterations=1, solver="cholesky", **options)
    model.fit(matrix, init, **features)
    for name, before, counts, got in (
        ("user_features", init[0], (dense > 0).sum(1), model.user_prior_),
        ("item_features", init[1], (dense > 0).sum(0), model.item_prior_),
    ):
        table = features[name]
        want = FeatureRegression(table, counts).fit(before).predict(table)
        np.testing.assert_array_equal(got, want)
    for lines, fixed, prior, got in (
        (dense, init[1], model.user_prior_, model.user_factors_),
        (dense.T, model.user_factors_, model.item_prior_, model.item_factors_),
    ):
        want = [solve_row(model, line, fixed, p) for line, p in zip(lines, prior, strict=True)]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("options", OBJECTIVES)
def test_rows_without_entries_are_their_prior(
    matrix: Any, features: Any, options: Any, solver: str
) -> None:
    model = ALS(5, iterations=3, random_state=0, solver=solver, **options)
    model.fit(matrix, **features)
    liked = matrix.toarray() > 0
    for factors, prior, cold in (
        (model.user_factors_, model.user_prior_, ~liked.any(1)),
        (model.item_factors_, model.item_prior_, ~liked.any(0)),
    ):
        assert cold.any()
        assert prior[cold].any(axis=1).all()
        np.testing.assert_array_equal((factors == prior).all(axis=1), cold)


def test_cold_items_are_near_items_of_their_kind(matrix: Any, features: Any) -> None:
    table = features["item_features"]
    model = ALS(5, 1.0, iterations=5, random_state=0).fit(matrix, item_features=table)
    assert model.user_prior_ is None
    warm = np.setdiff1d(np.arange(40), [5, 6])
    for item in (5, 6):
        cosines = model.item_factors_ @ model.item_factors_[item]
        cosines /= np.linalg.norm(model.item_factors_, axis=1)
        same = warm[warm % 4 == item % 4]
        assert cosines[same].mean() > cosines[np.setdiff1d(warm, same)].mean()


def test_entries_have_the_last_word(matrix: Any, features: Any, rng: Any) -> None:
    init, many = start(rng), (matrix.toarray() > 0).sum(0) >= 10
    distance = []
    for alpha in (1.0, 1e2, 1e4):
        plain, drawn = (
            ALS(5, 5.0, alpha, iterations=1, solver="cholesky").fit(
                matrix, init, item_features=table
            )
            for table in (None, features["item_features"])
        )
        np.testing.assert_array_equal(plain.user_factors_, drawn.user_factors_)
        assert plain.item_prior_ is None
        warm = drawn.item_factors_[many]
        gap = np.linalg.norm(warm - plain.item_factors_[many], axis=1)
        distance.append(float((gap / np.linalg.norm(warm, axis=1)).max()))
    assert distance[0] > 0.01
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-2
    strong = ALS(5, 1e6, iterations=1).fit(matrix, init, item_features=features["item_features"])
    np.testing.assert_allclose(strong.item_factors_, strong.item_prior_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_loss_is_that_of_the_distance_to_the_prior(
    matrix: Any, features: Any, options: Any
) -> None:
    model = ALS(5, iterations=2, random_state=0, **options).fit(matrix, **features)
    dense = matrix.toarray()
    users, items = model.user_factors_.astype(float), model.item_factors_.astype(float)
    scores, observed = users @ items.T, dense > 0
    if model.objective == "implicit":
        weights = np.where(observed, dense, 1.0)
        total, weight = (weights * (observed - scores) ** 2).sum(), weights.sum()
    else:
        w0 = model.unobserved_weight
        total = (dense * (1 - scores) ** 2).sum() + w0 * (scores**2).sum()
        weight = dense.sum() + w0 * scores.size
    for counts, n_other, factors, prior in (
        (observed.sum(1), 40, users, model.user_prior_),
        (observed.sum(0), 60, items, model.item_prior_),
    ):
        ridges = np.array([als_oracle.ridge(model, int(n), n_other) for n in counts])
        total += (ridges * ((factors - prior) ** 2).sum(1)).sum()
    assert model.loss(matrix) == pytest.approx(total / weight, rel=1e-6)


def test_callbacks_get_that_loss(matrix: Any, features: Any) -> None:
    losses: list[float] = []
    model = ALS(5, iterations=2, random_state=0)
    model.fit(matrix, callback=lambda epoch, loss: losses.append(loss), **features)
    assert losses[-1] == model.loss(matrix)


def test_factors_are_the_same_bits_at_any_thread_count(matrix: Any, features: Any) -> None:
    models = [
        ALS(5, iterations=3, random_state=0, num_threads=n).fit(matrix, **features)
        for n in (1, 2, 5)
    ]
    for other in models[1:]:
        np.testing.assert_array_equal(other.user_factors_, models[0].user_factors_)
        np.testing.assert_array_equal(other.item_factors_, models[0].item_factors_)


def test_sparse_features_do_what_dense_ones_do(matrix: Any, features: Any) -> None:
    table = features["item_features"]
    got, want = (
        ALS(5, iterations=2, random_state=0).fit(matrix, item_features=form(table))
        for form in (sparse.csr_matrix, np.asarray)
    )
    np.testing.assert_allclose(got.item_factors_, want.item_factors_, rtol=1e-4, atol=1e-5)
    new = sparse.coo_array(table[:2])
    np.testing.assert_allclose(
        got.item_from_features(new), want.item_from_features(table[:2]), rtol=1e-4, atol=1e-5
    )


def test_new_rows_get_what_old_ones_of_these_features_have(matrix: Any, features: Any) -> None:
    model = ALS(5, iterations=2, random_state=0).fit(matrix, **features)
    users = model.user_from_features(features["user_features"][[9, 2]])
    items = model.item_from_features(features["item_features"][::-1])
    np.testing.assert_allclose(users, model.user_prior_[[9, 2]], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(items, model.item_prior_[::-1], rtol=1e-5, atol=1e-7)
    assert users.dtype == np.float32
    assert model.item_from_features(np.empty((0, 4))).shape == (0, 5)


def test_from_state_keeps_the_priors(matrix: Any, features: Any) -> None:
    model = ALS(5, iterations=2, random_state=0).fit(matrix, **features)
    arrays, meta = model.state()
    again = ALS.from_state(arrays, json.loads(json.dumps(meta)))
    np.testing.assert_array_equal(again.user_prior_, model.user_prior_)
    np.testing.assert_array_equal(again.item_prior_, model.item_prior_)
    table = features["item_features"][:3]
    np.testing.assert_array_equal(again.item_from_features(table), model.item_from_features(table))
    assert again.loss(matrix) == model.loss(matrix)
    more = np.concatenate([model.user_factors_, np.ones((2, 5), np.float32)])
    grown = ALS.from_state(arrays | {"user_factors": more}, meta)
    np.testing.assert_array_equal(grown.user_prior_[:60], model.user_prior_)
    assert not grown.user_prior_[60:].any()


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("item_prior", np.ones((41, 5)), "item_prior must have at most 40 rows, got 41"),
        ("item_prior", np.ones((40, 4)), "item_prior must have 5 columns, got 4"),
        ("item_prior", np.full((40, 5), np.nan), "item_prior must be finite"),
        ("item_map_weights", np.ones((4, 3)), "item_map must hold finite weights"),
        ("item_map_weights", np.full((4, 5), np.inf), "item_map must hold finite weights"),
        ("user_map_intercept", np.ones(4), "user_map must hold finite weights"),
    ],
)
def test_from_state_refuses_other_priors(
    matrix: Any, features: Any, part: str, value: Any, message: str
) -> None:
    arrays, meta = ALS(5, iterations=1, random_state=0).fit(matrix, **features).state()
    with pytest.raises(ValueError, match=message):
        ALS.from_state(arrays | {part: value}, meta)
    with pytest.raises(ValueError, match=f"arrays must hold {part[:4]}_map_weights"):
        ALS.from_state({k: v for k, v in arrays.items() if k != f"{part[:4]}_map_weights"}, meta)


def test_features_are_refused_by_name(matrix: Any, features: Any) -> None:
    model = ALS(5, iterations=1, random_state=0)
    with pytest.raises(NotFittedError, match="call fit"):
        model.item_from_features(np.ones((1, 4)))
    with pytest.raises(ValueError, match="item_features must have 40 rows, got 60"):
        model.fit(matrix, item_features=features["user_features"])
    with pytest.raises(ValueError, match="user_features must be finite"):
        model.fit(matrix, user_features=np.full((60, 1), np.nan))
    with pytest.raises(ValueError, match="checkpoint must be None where features are given"):
        model.fit(matrix, checkpoint="c", item_features=features["item_features"])
    model.fit(matrix, item_features=features["item_features"])
    with pytest.raises(ValueError, match="features must have 4 columns, got 3"):
        model.item_from_features(np.ones((2, 3)))
    with pytest.raises(ValueError, match="model was fitted without user_features"):
        model.user_from_features(np.ones((2, 3)))


def test_films_nobody_has_seen_are_ranked_by_their_genres(ml_100k_folder: Any) -> None:
    from recengine.data import load_ml_100k

    inter, items, _ = load_ml_100k(ml_100k_folder)
    kinds = [str(text).split() for text in items["genres"]]
    names = sorted({name for kind in kinds for name in kind})
    decade = np.asarray(items["year"], np.int64)[:, None] // 10 == np.arange(192, 200)
    table = np.hstack([[[name in kind for name in names] for kind in kinds], decade])
    likes = inter.to_csr()
    cold = np.random.default_rng(0).permutation(likes.shape[1])[:168]
    seen = likes.toarray() > 0
    hidden, left = seen[:, cold], seen.copy()
    left[:, cold] = False
    model = ALS(32, 10.0, iterations=8, random_state=0)
    model.fit(sparse.csr_array(left.astype(np.float32)), item_features=table.astype(np.float32))
    scores = model.user_factors_ @ model.item_factors_[cold].T
    shares = [
        (score[liked][:, None] > score[~liked]).mean()
        for score, liked in zip(scores, hidden, strict=True)
        if liked.any()
    ]
    assert np.mean(shares) > 0.65  # 0.5 is chance


def test_rows_that_came_after_the_fit_have_no_prior(matrix: Any, features: Any) -> None:
    model = ALS(5, iterations=1, random_state=0).fit(matrix, **features)
    model.partial_fit_users([60], matrix[[0]])
    np.testing.assert_array_equal(model.user_prior_[60], 0)
    np.testing.assert_array_equal(model.user_prior_[:60], model.state()[0]["user_prior"])
    again = ALS.from_state(*model.state())
    more = sparse.vstack([matrix, matrix[[0]]])
    assert again.loss(more) == model.loss(more)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_online_solves_know_the_prior(matrix: Any, features: Any, options: Any) -> None:
    model = ALS(5, iterations=2, random_state=0, **options).fit(matrix, **features)
    init = model.user_factors_, model.item_factors_
    row, user = matrix[[0]], features["user_features"][0]
    prior = model.user_from_features(user[None])[0]
    want = solve_row(model, row.toarray()[0], init[1], prior)
    alike = {"rtol": 1e-4, "atol": 1e-5}
    for known in (user, user.tolist(), user[None], sparse.csr_array(user[None])):
        got = model.fold_in(row.indices, row.data, features=known)
        np.testing.assert_allclose(got, want, **alike)
    np.testing.assert_array_equal(model.fold_in_rows(row, features=user[None]), got[None])
    np.testing.assert_array_equal(model.fold_in([], features=user), prior)
    assert (model.fold_in(row.indices, row.data) != got).any()
    with pytest.raises(ValueError, match="features must be those of one user, got 2 rows"):
        model.fold_in([], features=features["user_features"][:2])
    with pytest.raises(ValueError, match="features must have a row for each of the 1 of matrix"):
        model.fold_in_rows(row, features=features["user_features"][:2])

    dense = matrix.toarray()
    model.partial_fit_items([0, 5], sparse.csr_array(dense[:, [0, 5]]))
    want = solve_row(model, dense[:, 0], init[0], model.item_prior_[0])
    np.testing.assert_allclose(model.item_factors_[0], want, **alike)
    np.testing.assert_array_equal(model.item_factors_[5], model.item_prior_[5])
    model.partial_fit_users([3, 60], sparse.csr_array(dense[[3, 0]]))
    np.testing.assert_array_equal(model.user_factors_[3], model.user_prior_[3])
    want = solve_row(model, dense[0], model.item_factors_, np.zeros(5))
    np.testing.assert_allclose(model.user_factors_[60], want, **alike)
