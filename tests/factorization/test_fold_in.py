"""fold_in: one user against fixed item factors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import als_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recengine import NotFittedError
from recengine.factorization import ALS
from recengine.factorization._fitted import fixed_side
from recengine.factorization._fold_in import FixedSide
from recengine.factorization._objective import Objective

OBJECTIVES: list[dict[str, Any]] = [
    {"objective": "implicit", "regularization": 0.05, "alpha": 2.0},
    {"objective": "ials", "regularization": 0.01},
    {"objective": "ials", "regularization": 0.02, "frequency_exponent": 0.5, "alpha": 3.0},
]


@pytest.mark.parametrize("options", OBJECTIVES)
@pytest.mark.parametrize("dim", [1, 3, 4, 16, 31, 64])
def test_fold_in_equals_the_training_solve(make_matrix: Any, options: Any, dim: int) -> None:
    matrix = make_matrix(n_items=150, per_user=50)
    model = ALS(dim, iterations=2, random_state=0, **options).fit(matrix)
    one_more = ALS(dim, iterations=1, solver="cholesky", **options).fit(
        matrix, init=(model.user_factors_, model.item_factors_)
    )
    for user in range(0, matrix.shape[0], 7):
        row = slice(matrix.indptr[user], matrix.indptr[user + 1])
        got = model.fold_in(matrix.indices[row], matrix.data[row])
        want = one_more.user_factors_[user]  # solved in float32, in another basis
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("options", OBJECTIVES)
def test_fold_in_equals_oracle(make_matrix: Any, options: Any) -> None:
    matrix = make_matrix(n_items=150, per_user=50)
    model = ALS(20, iterations=3, random_state=0, **options).fit(matrix)
    for row in matrix.toarray()[:20]:
        got = model.fold_in(np.flatnonzero(row), row[row > 0])
        want = als_oracle.solve_row(model, row, model.item_factors_)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        assert got.dtype == np.float32
        got = model.fold_in(np.flatnonzero(row))
        want = als_oracle.solve_row(model, row > 0, model.item_factors_)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def model() -> ALS:
    dense = np.random.default_rng(3).integers(0, 3, (30, 12)).astype(np.float32)
    return ALS(5, 0.1, iterations=3, random_state=0).fit(csr_array(dense))


@settings(max_examples=60)
@given(
    events=st.lists(st.tuples(st.integers(0, 11), st.sampled_from([0.0, 0.25, 1.0, 3.0]))),
)
def test_fold_in_sums_repeats_and_drops_zeros(model: ALS, events: list[Any]) -> None:
    row = np.zeros(12, np.float32)
    for item, weight in events:
        row[item] += weight
    got = model.fold_in([item for item, _ in events], [weight for _, weight in events])
    want = als_oracle.solve_row(model, row, model.item_factors_)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_fold_in_without_events_is_zero(model: ALS) -> None:
    for nothing in ([], np.empty(0, np.int64)):
        np.testing.assert_array_equal(model.fold_in(nothing), np.zeros(5, np.float32))
    np.testing.assert_array_equal(model.fold_in([3, 4], [0, 0]), np.zeros(5, np.float32))


def test_fold_in_does_not_depend_on_order(model: ALS, rng: Any) -> None:
    items, weights = np.arange(12), rng.random(12)
    want = model.fold_in(items, weights)
    order = rng.permutation(12)
    np.testing.assert_array_equal(model.fold_in(items[order], weights[order]), want)


def test_fold_in_takes_any_integers_and_leaves_them(model: ALS) -> None:
    want = model.fold_in([1, 5, 2])
    for dtype in (np.int8, np.uint16, np.int32, np.uint64):
        given_items = np.array([1, 5, 2], dtype)
        given_items.flags.writeable = False
        np.testing.assert_array_equal(model.fold_in(given_items), want)
    np.testing.assert_array_equal(model.fold_in(np.array([1, 9, 5, 9, 2])[::2]), want)


@pytest.mark.parametrize(
    ("indices", "weights", "error", "message"),
    [
        ([12], None, ValueError, r"indices must lie in \[0, 12\), got 12"),
        ([-1], None, ValueError, r"indices must lie in \[0, 12\), got -1"),
        ([1.0], None, TypeError, "indices must be 1-D integers"),
        ([[1]], None, TypeError, "indices must be 1-D integers"),
        ([1], [1, 2], ValueError, r"weights must have shape \(1,\), got \(2,\)"),
        ([1], [np.nan], ValueError, "weights must hold finite weights, got nan"),
        ([1], [np.inf], ValueError, "weights must hold finite weights, got inf"),
        ([1], [1e39], ValueError, "weights must hold weights that fit float32, got 1e"),
        ([1], ["a"], TypeError, "weights must hold real numbers"),
    ],
)
def test_fold_in_refuses(
    model: ALS, indices: Any, weights: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.fold_in(indices, weights)


def test_fold_in_needs_fit() -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        ALS().fold_in([0])


def test_fold_in_refuses_a_singular_system() -> None:
    dense = np.array([[1, 0], [0, 1]], np.float32)
    fitted = ALS(1, 0.0, iterations=1, random_state=0).fit(csr_array(dense))
    arrays, meta = fitted.state()
    arrays |= {"item_factors": np.zeros((2, 1), np.float32), "item_gram": np.zeros((1, 1))}
    with pytest.raises(ValueError, match=r"regularization must be large enough.* got 0: .*folded"):
        ALS.from_state(arrays, meta).fold_in([0])


def test_fold_in_takes_dislikes(make_matrix: Any) -> None:
    """Of weight −c a pair weighs c and asks for 0: what a training of these rows solves."""
    matrix = make_matrix(n_items=150, per_user=50).copy()
    matrix.data[::3] *= -1
    for options in OBJECTIVES:
        model = ALS(20, iterations=2, random_state=0, **options).fit(matrix)
        init = model.user_factors_, model.item_factors_
        again = ALS(20, iterations=1, solver="cholesky", **options).fit(matrix, init=init)
        got = model.fold_in_rows(matrix)
        np.testing.assert_allclose(got, again.user_factors_, rtol=1e-3, atol=1e-5)
        liked = slice(*matrix.indptr[:2])
        one = model.fold_in(matrix.indices[liked], matrix.data[liked])
        np.testing.assert_array_equal(one, got[0])


def side(n_items: int = 4, dim: int = 3) -> FixedSide:
    objective = Objective(1.0, 0.0, 1.0, 0.1, 0.0)
    return fixed_side(objective, np.ones((n_items, dim), np.float32), np.eye(dim))


def test_native_side_refuses_wrong_parts() -> None:
    _, (items, spectrum, into, out_of, *numbers) = side().__reduce__()
    for parts in (
        (items, spectrum[:8], into, out_of),
        (np.ones((4, 17), np.float32), spectrum, into, out_of),
        (items, spectrum, into[:, :2], out_of),
        (items, spectrum, into, out_of[:, :8]),
        (items, spectrum, into[:0], out_of),
    ):
        with pytest.raises(ValueError, match=r"spectrum must have|must be panels"):
            FixedSide(*map(np.ascontiguousarray, parts), *numbers)


def test_native_side_survives_pickling() -> None:
    for again in (pickle.loads(pickle.dumps(side())), copy.deepcopy(side())):
        np.testing.assert_array_equal(
            again.fold_in(np.array([2, 1]), None), side().fold_in(np.array([2, 1]), None)
        )


def test_native_fold_in_refuses_wrong_calls() -> None:
    weights = np.ones(2, np.float32)
    for rows in ([0, 4], [-1, 0]):
        with pytest.raises(ValueError, match=r"indices must lie in \[0, 4\), got (4|-1)"):
            side().fold_in(np.array(rows), weights)
    with pytest.raises(ValueError, match="must agree in shape"):
        side().fold_in(np.array([0]), weights)
    with pytest.raises(ValueError, match=r"prior must have shape \(3,\)"):
        side().fold_in(np.array([0, 1]), weights, weights)


@pytest.mark.parametrize(
    ("indptr", "indices", "threads", "message"),
    [
        ([0, 1], [0, 1], 1, "indptr must rise from 0 to 2"),
        ([1, 2], [0, 1], 1, "indptr must rise from 0 to 2"),
        ([0, 2, 1, 2], [0, 1], 1, "indptr must rise from 0 to 2"),
        ([], [], 1, "indptr must rise from 0 to 0"),
        ([0, 2], [0, 4], 1, r"indices must lie in \[0, 4\), got 4"),
        ([0, 2], [-1, 0], 1, r"indices must lie in \[0, 4\), got -1"),
        ([0, 2], [0, 1], 0, "num_threads must be >= 1, got 0"),
    ],
)
def test_native_solve_rows_refuses_wrong_calls(
    indptr: Any, indices: Any, threads: int, message: str
) -> None:
    weights = np.ones(len(indices), np.float32)
    rows = np.array(indptr, np.int64), np.array(indices, np.int32), weights
    with pytest.raises(ValueError, match=message):
        side().solve_rows(*rows, threads)
    with pytest.raises(ValueError, match=r"priors must have shape \(1, 3\)"):
        side().solve_rows(
            np.array([0, 2]), np.arange(2, dtype=np.int32), np.ones(2, np.float32), 1,
            np.ones((2, 3), np.float32),
        )  # fmt: skip


def test_plain_events_are_read_where_they_lie_and_others_alike(model: ALS, rng: Any) -> None:
    items = rng.integers(0, 12, 30)
    weights = rng.integers(0, 4, 30).astype(np.float32)
    want = model.fold_in(items.tolist(), weights.tolist())
    spread = np.zeros((30, 2), np.float32)
    spread[:, 0] = weights
    for array in (items, weights):
        array.flags.writeable = False
    np.testing.assert_array_equal(model.fold_in(items, weights), want)
    np.testing.assert_array_equal(model.fold_in(items, spread[:, 0]), want)
    np.testing.assert_array_equal(model.fold_in(items.astype(np.int32), weights), want)
    for bad in (np.nan, -np.inf):
        wrong = weights.copy()
        wrong[3] = bad
        with pytest.raises(ValueError, match=f"weights must hold finite weights, got {bad}"):
            model.fold_in(items, wrong)
    with pytest.raises(ValueError, match=r"indices must lie in \[0, 12\), got 12"):
        model.fold_in(np.array([0, 12]), weights[:2])
    with pytest.raises(ValueError, match="alpha times the largest weight must fit float32"):
        model.fold_in(np.array([1, 1]), np.full(2, 3e38, np.float32))


def test_a_long_history_gives_its_memory_back(make_matrix: Any) -> None:
    from recengine import _native

    wide = ALS(64, iterations=1, random_state=0).fit(make_matrix(n_items=150, per_user=50))
    items = np.tile(np.arange(150), 8_000)  # 46 MB of scratch
    want = wide.fold_in(np.arange(150), np.full(150, 8_000, np.float32))
    np.testing.assert_array_equal(wide.fold_in(items), want)
    wide.fold_in(items[:150])
    held = _native.scratch_bytes()
    assert held < 80 * 2**20
    for _ in range(3):
        wide.fold_in(items[:150])
    assert _native.scratch_bytes() == held


def test_fold_in_from_threads_equals_serial(model: ALS) -> None:
    rows = [np.random.default_rng(n).choice(12, 1 + n % 12, replace=False) for n in range(64)]
    want = [model.fold_in(row) for row in rows]
    got: list[Any] = [None] * 4
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        got[number] = [[model.fold_in(row) for row in rows] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for repeats in got:
        for answers in repeats:
            np.testing.assert_array_equal(answers, want)


def test_fold_in_loads_neither_numba_nor_scipy() -> None:
    program = """
import sys
import numpy as np
from recengine.factorization import ALS
meta = dict(factors=2, regularization=0.1, alpha=1.0, iterations=1, solver="cholesky",
            objective="implicit", unobserved_weight=None, frequency_exponent=None,
            random_state=None)
items = np.eye(2, dtype=np.float32)
arrays = dict(user_factors=items, item_factors=items, item_gram=np.eye(2))
assert ALS.from_state(arrays, meta).fold_in([0]).shape == (2,)
loaded = {"numba", "scipy", "rich", "onnxruntime", "polars"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
