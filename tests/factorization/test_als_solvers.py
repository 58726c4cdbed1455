"""Every way to solve a row, at every SIMD level, against the dense float64 oracle."""

from __future__ import annotations

from typing import Any

import als_oracle
import numpy as np
import pytest
from scipy.sparse import csr_array

from recengine import _native
from recengine.factorization import ALS
from recengine.factorization._basis import Basis
from recengine.factorization._likes import as_likes
from recengine.factorization._objective import Objective

OPTIONS: list[dict[str, Any]] = [
    {"objective": "implicit", "regularization": 0.5, "alpha": 2.0},
    {"objective": "implicit", "regularization": 0.5, "alpha": 0.4},  # negative weights
    {"objective": "implicit", "regularization": 0.5},  # weights of 0
    {"objective": "ials", "regularization": 0.05, "unobserved_weight": 0.3},
]
LEVELS = _native.simd_levels()


def solved(
    model: ALS, matrix: Any, fixed: Any, start: Any, level: str, prior: Any = None, **solver: Any
) -> Any:
    """Return the users that the kernels of `level` solve."""
    objective: Objective = model._objective()
    likes = as_likes(matrix, model.alpha, signed=True)
    basis = Basis.of(fixed.T.astype(np.float64) @ fixed)
    rotated = np.empty((len(fixed), basis.dim), np.float32)
    _native.rotate_rows(fixed, basis.into, rotated, 0, len(fixed), level)
    spectrum = objective.unobserved_weight * basis.spectrum
    spectrum[fixed.shape[1] :] = 1.0
    users = start.copy()
    options = {"solver": "cholesky", "steps": 0, "block": 16} | solver
    half = _native.AlsHalf(
        likes.indptr,
        likes.indices,
        likes.confidences,
        objective.shift,
        rotated,
        spectrum,
        objective.ridges(likes.counts, matrix.shape[1]),
        basis.into,
        basis.out_of,
        prior,
        users,
        level=level,
        **options,
    )
    assert half.solve(0, 7) == -1
    assert half.solve(7, len(users)) == -1
    return users


def prior_oracle(model: ALS, dense: Any, fixed: Any, prior: Any) -> Any:
    """Return x of each row, x - prior being what a ridge towards 0 gives for what is left."""
    fixed, rows = fixed.astype(np.float64), []
    for weights, pull in zip(dense, prior.astype(np.float64), strict=True):
        observed = np.flatnonzero(weights)
        ridge = als_oracle.ridge(model, len(observed), len(fixed))
        c = model.alpha * weights[observed].astype(np.float64)
        shift, rest = (1.0, 1.0) if model.objective == "implicit" else (0.0, None)
        rest = model.unobserved_weight if rest is None else rest
        y = fixed[observed]
        system = rest * fixed.T @ fixed + y.T @ ((c - shift)[:, None] * y)
        system += ridge * np.eye(fixed.shape[1])
        rows.append(np.linalg.solve(system, y.T @ c + ridge * pull) if len(observed) else pull)
    return np.array(rows)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dim", [1, 7, 16, 33, 64])
def test_exact_rows_equal_oracle(
    make_matrix: Any, rng: Any, options: Any, dim: int, level: str
) -> None:
    # Rows of 1 to 160 entries: short ones, one block of entries and several.
    matrix = make_matrix(n_users=40, n_items=170, per_user=80)
    dense = matrix.toarray()
    fixed = rng.standard_normal((170, dim), dtype=np.float32)
    model = ALS(dim, solver="cholesky", **options)
    start = np.full((40, dim), np.nan, np.float32)  # an exact solve does not look at it
    want = np.array([als_oracle.solve_row(model, row, fixed) for row in dense])
    scale = np.abs(want).max()
    got = solved(model, matrix, fixed, start, level)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * scale)
    prior = rng.standard_normal((40, dim), dtype=np.float32)
    want = prior_oracle(model, dense, fixed, prior)
    got = solved(model, matrix, fixed, start, level, prior)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("solver", [{"solver": "cg", "steps": 80}, {"solver": "block"}])
def test_steps_and_blocks_end_at_the_oracle(
    make_matrix: Any, rng: Any, options: Any, solver: Any, level: str
) -> None:
    matrix = make_matrix(n_users=30, n_items=120, per_user=50)
    fixed = rng.standard_normal((120, 37), dtype=np.float32) * np.float32(0.2)
    prior = rng.standard_normal((30, 37), dtype=np.float32)
    model = ALS(37, **options)
    want = prior_oracle(model, matrix.toarray(), fixed, prior)
    users = np.zeros((30, 37), np.float32)
    for _ in range(1 if "steps" in solver else 150):
        users = solved(model, matrix, fixed, users, level, prior, **solver)
    np.testing.assert_allclose(users, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("solver", ["cg", "block"])
@pytest.mark.parametrize("options", OPTIONS)
def test_loss_never_rises(make_matrix: Any, options: Any, solver: str) -> None:
    losses: list[float] = []
    size = {"block_size": 16} if solver == "block" else {}
    model = ALS(24, iterations=8, solver=solver, random_state=0, **options, **size)
    model.fit(make_matrix(per_user=20), callback=lambda _, loss: losses.append(loss))
    assert len(losses) == 8
    assert np.diff(losses).max() <= 1e-6 * losses[0]


@pytest.mark.parametrize("solver", ["cg", "cholesky", "block"])
def test_solvers_come_to_one_loss(make_matrix: Any, solver: str) -> None:
    matrix = make_matrix(n_users=200, n_items=90, per_user=12)
    options: dict[str, Any] = {"regularization": 0.5, "random_state": 0}
    want = ALS(20, solver="cholesky", iterations=40, **options).fit(matrix).loss(matrix)
    got = ALS(20, solver=solver, iterations=40, **options).fit(matrix).loss(matrix)
    assert got == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("options", OPTIONS)
def test_dislikes_weigh_against(make_matrix: Any, rng: Any, options: Any) -> None:
    matrix = make_matrix(n_users=30, n_items=50, per_user=12)
    disliked = rng.random(matrix.nnz) < 0.3
    signed = csr_array(
        (np.where(disliked, -matrix.data, matrix.data), matrix.indices, matrix.indptr)
    )
    signed.resize(matrix.shape)
    fixed = rng.standard_normal((50, 9), dtype=np.float32)
    model = ALS(9, solver="cholesky", **options)
    got = solved(model, signed, fixed, np.zeros((30, 9), np.float32), LEVELS[-1])
    rest = 1.0 if model.objective == "implicit" else model.unobserved_weight
    shift = 1.0 if model.objective == "implicit" else 0.0
    y = fixed.astype(np.float64)
    for user, row in enumerate(signed.toarray()):
        at = np.flatnonzero(row)
        c = model.alpha * row[at].astype(np.float64)
        system = rest * y.T @ y + y[at].T @ ((np.abs(c) - shift)[:, None] * y[at])
        system += als_oracle.ridge(model, len(at), 50) * np.eye(9)
        want = np.linalg.solve(system, y[at].T @ np.maximum(c, 0))
        np.testing.assert_allclose(got[user], want, rtol=1e-3, atol=1e-4)
    fitted = ALS(9, iterations=3, random_state=0, **options).fit(signed)
    scores = fitted.user_factors_ @ fitted.item_factors_.T
    dense = signed.toarray()
    assert scores[dense < 0].mean() < scores[dense > 0].mean()
    weight = np.where(dense != 0, model.alpha * np.abs(dense), 0.0)
    parts = weight * ((dense > 0) - scores) ** 2
    parts += rest * scores**2 - shift * (dense != 0) * scores**2
    pulls = [
        als_oracle.ridge(fitted, int((row != 0).sum()), len(other))
        * (factors.astype(float) ** 2).sum()
        for lines, own, other in (
            (dense, fitted.user_factors_, fitted.item_factors_),
            (dense.T, fitted.item_factors_, fitted.user_factors_),
        )
        for row, factors in zip(lines, own, strict=True)
    ]
    size = weight.sum() + rest * dense.size - shift * (dense != 0).sum()
    assert fitted.loss(signed) == pytest.approx((parts.sum() + sum(pulls)) / size, rel=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_gram_and_loss_are_float64(rng: Any, level: str) -> None:
    rows = rng.standard_normal((203, 37), dtype=np.float32)
    gram = np.zeros((37, 37))
    _native.add_gram(rows, gram, 3, 203, level)
    want = np.tril(rows[3:].astype(np.float64).T @ rows[3:].astype(np.float64))
    np.testing.assert_allclose(gram, want, rtol=1e-12, atol=1e-10)
    likes = as_likes(csr_array(rng.integers(0, 3, (203, 40)).astype(np.float32)), 1.5)
    columns = rng.standard_normal((40, 37), dtype=np.float32)
    got = _native.als_loss(
        likes.indptr, likes.indices, likes.confidences, 0.25, rows, columns, 0, 203, level
    )
    users = np.repeat(np.arange(203), likes.counts)
    score = np.einsum(
        "ij,ij->i", rows[users].astype(np.float64), columns[likes.indices].astype(np.float64)
    )
    want = (likes.confidences * (1 - score) ** 2 - 0.25 * score**2).sum()
    assert got == pytest.approx(want, rel=1e-12)


def test_systems_beyond_float32_are_solved_in_float64(rng: Any) -> None:
    # One direction is 1e-4 of the others: float32 loses its pivot, and four digits of the factors.
    fixed = rng.standard_normal((60, 12), dtype=np.float32)
    fixed[:, 1] = fixed[:, 0] + np.float32(1e-4) * fixed[:, 1]
    matrix = csr_array((rng.random((8, 60)) < 0.7).astype(np.float32))
    model = ALS(12, 1e-9, solver="cholesky")
    got = solved(model, matrix, fixed, np.zeros((8, 12), np.float32), LEVELS[-1])
    for user, row in enumerate(matrix.toarray()):
        want = als_oracle.solve_row(model, row, fixed)
        np.testing.assert_allclose(fixed @ got[user], fixed @ want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "lu"}, "solver must be cholesky, cg or block, got 'lu'"),
        ({"steps": -1}, "steps must be >= 0, got -1"),
        ({"block": 8}, "block must be a positive multiple of 16, got 8"),
        ({"fixed": np.zeros((4, 15), np.float32)}, "a multiple of 16 columns, got 15"),
        ({"fixed": np.zeros((1, 16), np.float32)}, r"must lie in \[0, 1\)"),
        ({"indptr": np.array([0, 2, 1], np.int64)}, "indptr must rise"),
        ({"indptr": np.array([0, 3], np.int64)}, "one entry a row, and one"),
        ({"indptr": np.array([0, 1, 9], np.int64)}, "indptr must rise"),
        ({"confidences": np.ones(2, np.float32)}, "of one length"),
        ({"ridges": np.ones(3)}, "ridges must have one entry a row"),
        ({"spectrum": np.ones(3)}, "spectrum must have one entry a column"),
        ({"prior": np.zeros((2, 4), np.float32)}, "prior must have the shape of solved"),
        ({"into_basis": np.zeros((1, 16, 16), np.float32)}, "into_basis must be panels"),
    ],
)
def test_native_door_refuses(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "indptr": np.array([0, 1, 3], np.int64),
        "indices": np.array([0, 1, 3], np.int32),
        "confidences": np.ones(3, np.float32),
        "shift": 0.0,
        "fixed": np.zeros((4, 16), np.float32),
        "spectrum": np.ones(16),
        "ridges": np.ones(2),
        "into_basis": np.zeros((1, 5, 16), np.float32),
        "out_of_basis": np.zeros((1, 16, 16), np.float32),
        "prior": None,
        "solved": np.zeros((2, 5), np.float32),
        "solver": "cholesky",
        "steps": 0,
        "block": 16,
    }
    with pytest.raises(ValueError, match=message):
        _native.AlsHalf(**(given | change))
    half = _native.AlsHalf(**given)
    with pytest.raises(ValueError, match=r"start and stop must lie in \[0, 2\]|start"):
        half.solve(0, 3)
