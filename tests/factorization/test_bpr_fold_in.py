"""fold_in of BPR: one user against fixed items."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import bpr_oracle
import numpy as np
import pytest
from scipy.sparse import csr_array

from recengine import BPR
from recengine.factorization._sgd_fold_in import fold_likes


@pytest.fixture
def model(make_matrix: Any) -> BPR:
    return BPR(9, 0.1, 0.02, 30, random_state=2, weighted=True).fit(make_matrix(n_users=150))


@pytest.mark.parametrize("liked", [[3], [7, 2, 30], list(range(0, 40, 2)), list(range(39))])
def test_fold_in_equals_oracle(model: BPR, rng: Any, liked: list[int]) -> None:
    weights = rng.random(len(liked)) + 0.5
    got = model.fold_in(liked, weights)
    order = np.argsort(liked)
    scale = model.state()[1]["scale"]
    want = bpr_oracle.fold_in(
        model,
        np.array(liked)[order].tolist(),
        (weights[order] * scale).tolist(),
        model.item_factors_.astype(np.float64),
        30,
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32
    assert got[-1] == 1
    np.testing.assert_array_equal(model.fold_in(liked[::-1], weights[::-1]), got)


def test_fold_in_of_nothing_or_all_is_zero(model: BPR) -> None:
    for liked in ([], np.arange(40)):
        np.testing.assert_array_equal(model.fold_in(liked), [*[0] * 9, 1])
    np.testing.assert_array_equal(model.fold_in([3, 5], [1, 0]), model.fold_in([3]))


def test_fold_in_finds_the_group(make_matrix: Any) -> None:
    matrix = make_matrix(n_users=200, n_items=60, per_user=14)
    model = BPR(8, 0.1, 0.01, 60, random_state=0).fit(matrix)
    liked = matrix.toarray() > 0
    trained, folded = [], []
    for user in range(40):
        mine = liked[user]
        for vector, into in (
            (model.user_factors_[user], trained),
            (model.fold_in(np.flatnonzero(mine)), folded),
        ):
            scores = model.item_factors_ @ vector
            into.append((scores[mine][:, None] > scores[~mine]).mean())
    assert np.mean(folded) > np.mean(trained) - 0.05
    assert np.mean(folded) > 0.85


def test_weights_of_fold_in_count_only_where_asked(make_matrix: Any, model: BPR) -> None:
    plain = BPR(9, iterations=3, random_state=2).fit(make_matrix())
    np.testing.assert_array_equal(plain.fold_in([1, 2], [1, 9]), plain.fold_in([1, 2]))
    assert (model.fold_in([1, 2], [1, 9]) != model.fold_in([1, 2])).any()


def test_long_histories_take_fewer_passes(rng: Any) -> None:
    items = rng.standard_normal((30_000, 4)).astype(np.float32)
    arrays = {
        "user_factors": np.ones((1, 4), np.float32),
        "item_factors": items,
        "losses": np.zeros(1),
        "aucs": np.zeros(1),
    }
    meta = BPR(3, iterations=2).fit(csr_array((1, 1))).state()[1]
    model = BPR.from_state(arrays, meta)
    liked = np.arange(25_000)
    rows = liked.astype(np.int64)
    want = fold_likes(items, rows, np.ones(25_000, np.float32), 0.02, 0.003, 1)
    np.testing.assert_array_equal(model.fold_in(liked), want)


def test_fold_in_refuses(model: BPR) -> None:
    with pytest.raises(ValueError, match=r"indices must lie in \[0, 40\), got 40"):
        model.fold_in([40])
    with pytest.raises(ValueError, match="weights must hold weights >= 0, got -1"):
        model.fold_in([1], [-1])
    arrays, meta = model.state()
    long = BPR.from_state(arrays, meta | {"learning_rate": 1e6, "regularization": 0})
    with pytest.raises(ValueError, match=r"weights must be of the order of those of fit, got 1e"):
        long.fold_in([1, 2], [1e38, 1e38])
    with pytest.raises(ValueError, match=r"weights must have shape \(1,\), got \(2,\)"):
        model.fold_in([1], [1, 2])


def test_native_fold_in_guards_its_memory() -> None:
    items, ones = np.ones((5, 3), np.float32), np.ones(2, np.float32)
    for rows in ([1, 5], [2, 1], [-1, 0], [2, 2]):
        with pytest.raises(ValueError, match=r"indices must ascend within \[0, 5\)"):
            fold_likes(items, np.array(rows), ones, 0.1, 0.1, 1)
    with pytest.raises(ValueError, match="must agree in shape"):
        fold_likes(items, np.array([1]), ones, 0.1, 0.1, 1)
    with pytest.raises(ValueError, match="passes must be >= 1, got 0"):
        fold_likes(items, np.array([1, 2]), ones, 0.1, 0.1, 0)


def test_fold_in_does_not_import_numba() -> None:
    program = """
import sys, numpy as np
from recengine import BPR
meta = dict(factors=2, learning_rate=0.1, regularization=0.1, iterations=5, negatives="uniform",
            weighted=False, random_state=None, scale=1.0)
arrays = dict(user_factors=np.ones((1, 3)), item_factors=np.eye(3), losses=[], aucs=[])
model = BPR.from_state(arrays, meta)
model.fold_in([0]); model.recommend(0, k=2); model.similar_items(0, 2)
assert not {"numba", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
