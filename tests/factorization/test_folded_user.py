"""A user kept warm: any events, one after the other, equal one fold-in of all of them."""

from __future__ import annotations

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
from recengine.factorization._rank_one import factor_of, factor_with_row, solution, with_rows

OBJECTIVES: list[dict[str, Any]] = [
    {"objective": "implicit", "regularization": 0.05},
    {"objective": "implicit", "regularization": 0.05, "alpha": 0.3},  # rank-one down, mostly
    {"objective": "ials", "regularization": 0.01},
    {"objective": "ials", "regularization": 0.01, "frequency_exponent": 0.0},
]
WEIGHTS = [0.0, 0.25, 0.5, 1.0, 4.0]


def fitted(options: dict[str, Any], dim: int = 8, n_items: int = 30) -> ALS:
    dense = np.random.default_rng(5).integers(0, 3, (40, n_items)).astype(np.float32)
    return ALS(dim, iterations=2, random_state=0, **options).fit(csr_array(dense))


@pytest.mark.parametrize("options", OBJECTIVES)
def test_a_thousand_events_equal_one_fold_in(options: Any, rng: Any) -> None:
    model = fitted(options, 24, 400)
    user, items, weights = model.user(), rng.integers(0, 400, 1000), rng.choice(WEIGHTS, 1000)
    for place in range(1000):
        got = user.observe(items[place], weights[place])
        if place % 111 == 0 or place == 999:
            want = model.fold_in(items[: place + 1], weights[: place + 1])
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
            assert user.factors is got
    row = np.bincount(items, weights, 400)
    want = als_oracle.solve_row(model, row, model.item_factors_)
    np.testing.assert_allclose(user.factors, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OBJECTIVES)
def test_a_user_with_a_history_goes_on_from_it(options: Any, rng: Any) -> None:
    model = fitted(options)
    items, weights = rng.integers(0, 30, 25), rng.choice(WEIGHTS, 25)
    user = model.user(items, weights)
    np.testing.assert_allclose(user.factors, model.fold_in(items, weights), rtol=1e-4, atol=1e-5)
    user.observe(3, 2.0)
    want = model.fold_in([*items, 3], [*weights, 2.0])
    np.testing.assert_allclose(user.factors, want, rtol=1e-4, atol=1e-5)
    assert not user.factors.flags.writeable


@settings(max_examples=50)
@given(
    options=st.sampled_from(OBJECTIVES),
    events=st.lists(st.tuples(st.integers(0, 29), st.sampled_from(WEIGHTS)), max_size=12),
)
def test_any_events_equal_the_oracle(options: Any, events: list[Any]) -> None:
    model = MODELS.setdefault(str(options), fitted(options))
    user, row = model.user(), np.zeros(30)
    for item, weight in events:
        user.observe(item, weight)
        row[item] += weight
    want = als_oracle.solve_row(model, row, model.item_factors_)
    np.testing.assert_allclose(user.factors, want, rtol=1e-4, atol=1e-5)


MODELS: dict[str, ALS] = {}


def test_a_user_keeps_the_items_of_the_moment(rng: Any) -> None:
    dense = rng.integers(0, 3, (40, 30)).astype(np.float32)
    model = ALS(4, iterations=1, random_state=0).fit(csr_array(dense))
    user, want = model.user([1, 2]), model.fold_in([1, 2, 3])
    model.fit(csr_array(dense[:, ::-1].copy()))
    np.testing.assert_allclose(user.observe(3), want, rtol=1e-4, atol=1e-6)
    assert not np.allclose(model.fold_in([1, 2, 3]), want, rtol=1e-4)


@pytest.mark.parametrize(
    ("index", "weight", "error", "message"),
    [
        (30, 1.0, ValueError, r"index must lie in \[0, 30\), got 30"),
        (-1, 1.0, ValueError, "index must be >= 0, got -1"),
        (1.5, 1.0, TypeError, "index must be an integer, got float"),
        (1, -1.0, ValueError, "weight must be >= 0, got -1"),
        (1, np.nan, ValueError, "weight must be finite, got nan"),
        (1, 1e39, ValueError, r"weight must fit float32, got 1e\+39"),
        (4, 3.4028e38, ValueError, "alpha times the largest weight must fit float32, got alpha 2"),
        (1, 3e38, ValueError, "alpha times the largest weight must fit float32, got alpha 2"),
        (1, "a", TypeError, "weight must be a number, got str"),
    ],
)
def test_observe_refuses_and_changes_nothing(
    index: Any, weight: Any, error: type[Exception], message: str
) -> None:
    user = fitted({"alpha": 2.0}).user([1, 4], [1.0, 2.0])
    before = user.factors
    with pytest.raises(error, match=message):
        user.observe(index, weight)
    assert user.factors is before
    want = fitted({"alpha": 2.0}).fold_in([1, 4, 5], [1.0, 2.0, 1.0])
    np.testing.assert_allclose(user.observe(5), want, rtol=1e-4, atol=1e-6)


def test_user_refuses_what_fold_in_refuses() -> None:
    model = fitted({})
    for indices, weights, error in (([30], None, ValueError), ([1], [-1.0], ValueError)):
        with pytest.raises(error):
            model.user(indices, weights)
    with pytest.raises(NotFittedError, match="call fit"):
        ALS().user([0])
    arrays, meta = ALS(1, 0.0, iterations=1).fit(csr_array(np.eye(2, dtype=np.float32))).state()
    arrays |= {"item_factors": np.zeros((2, 1), np.float32), "item_gram": np.zeros((1, 1))}
    user = ALS.from_state(arrays, meta).user()
    with pytest.raises(ValueError, match="regularization must be large enough"):
        user.observe(0)
    np.testing.assert_array_equal(user.factors, [0])


def test_events_from_threads_are_all_there() -> None:
    model = fitted({"regularization": 0.1})
    user, gate, failures = model.user(), threading.Barrier(4), []

    def work(number: int) -> None:
        try:
            gate.wait()
            for item in range(30):
                user.observe((item + number) % 30, 1.0)
        except BaseException as error:  # what a thread raises would be lost
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    want = model.fold_in(np.arange(30), np.full(30, 4.0))
    np.testing.assert_allclose(user.factors, want, rtol=1e-4, atol=1e-6)


def test_factor_with_row_equals_a_new_factor_or_says_that_it_is_unsafe(rng: Any) -> None:
    rows = rng.standard_normal((40, 17)).astype(np.float32)
    weights = np.ones(40)
    system, rhs = with_rows(np.zeros((17, 17)), np.zeros(17), rows, weights, weights)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(np.triu(system), np.triu(wide.T @ wide), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rhs, wide.sum(0), rtol=1e-12, atol=1e-12)
    factor = factor_of(system, 0.5)
    assert factor is not None
    for weight in (2.0, -0.5, 1e6):
        got = factor_with_row(factor, rows[3], weight)
        assert got is not None
        changed, _ = with_rows(system, rhs, rows[3:4], np.array([weight]), np.zeros(1))
        want = factor_of(changed, 0.5)
        np.testing.assert_allclose(np.triu(got), np.triu(want), rtol=1e-9, atol=1e-9)
        whole = wide.T @ wide + weight * np.outer(wide[3], wide[3]) + 0.5 * np.eye(17)
        np.testing.assert_allclose(
            solution(got, rhs), np.linalg.solve(whole, rhs), rtol=1e-5, atol=1e-6
        )
    assert factor_with_row(factor, rows[3], -1e6) is None
    assert factor_with_row(factor, rows[3], np.inf) is None
    assert factor_of(-np.eye(3), 0.5) is None
    assert solution(np.full((3, 3), 1e-200), np.ones(3)) is None


def test_native_functions_refuse_other_shapes() -> None:
    square, row, vector = np.eye(3), np.ones(3, np.float32), np.ones(3)
    for call in (
        lambda: with_rows(np.eye(4), vector, row[None], np.ones(1), np.ones(1)),
        lambda: with_rows(square, vector, row[None, :2].copy(), np.ones(1), np.ones(1)),
        lambda: with_rows(square, vector, row[None], np.ones(2), np.ones(1)),
        lambda: factor_with_row(square, row[:2], 1.0),
        lambda: solution(square, vector[:2]),
    ):
        with pytest.raises(ValueError, match="must agree in shape"):
            call()
    with pytest.raises(ValueError, match="must be square"):
        factor_of(np.ones((2, 3)), 0.0)
