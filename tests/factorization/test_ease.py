"""EASE against the dense closed form, at any thread count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recengine import EASE, NotFittedError
from recengine.factorization import _ease, _layout
from recengine.factorization._likes import as_likes


def ease_oracle(dense: Any, regularization: float) -> Any:
    """Return B of Steck 2019, equation 8, by a general inverse in float64."""
    wide = np.asarray(dense, np.float64)
    inverse = np.linalg.inv(wide.T @ wide + regularization * np.eye(wide.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("n_items", [1, 2, 40, 256, 257, 600])
@pytest.mark.parametrize("regularization", [0.5, 200.0])
def test_weights_equal_oracle(make_matrix: Any, n_items: int, regularization: float) -> None:
    matrix = make_matrix(n_users=150, n_items=max(n_items, 3))[:, :n_items]
    got = EASE(regularization).fit(matrix).item_weights_
    np.testing.assert_allclose(
        got, ease_oracle(matrix.toarray(), regularization), rtol=1e-5, atol=1e-6
    )
    assert not got.diagonal().any()
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert not got.flags.writeable


def test_weights_minimise_the_objective(make_matrix: Any, rng: Any) -> None:
    dense = make_matrix().toarray().astype(np.float64)
    weights = EASE(3.0).fit(csr_array(dense)).item_weights_.astype(np.float64)

    def loss(b: Any) -> float:
        return float(((dense - dense @ b) ** 2).sum() + 3.0 * (b**2).sum())

    for _ in range(20):
        other = rng.standard_normal(weights.shape) * 1e-2
        np.fill_diagonal(other, 0)
        assert loss(weights) < loss(weights + other)


@given(
    cells=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 2)), max_size=50)
)
def test_weights_of_any_small_matrix_equal_oracle(cells: Any) -> None:
    dense = np.zeros((7, 6), np.float32)
    for user, item, weight in cells:
        dense[user, item] = weight
    got = EASE(0.1, num_threads=1).fit(csr_array(dense)).item_weights_
    np.testing.assert_allclose(got, ease_oracle(dense, 0.1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cache", [8, 5000, 2**19])
def test_gram_does_not_depend_on_threads_or_blocks(
    make_matrix: Any, monkeypatch: pytest.MonkeyPatch, cache: int
) -> None:
    likes = as_likes(make_matrix(n_users=300, n_items=200), 0.3)
    want = _ease.item_gram(likes, 1)
    dense = np.zeros(likes.shape)
    dense[np.repeat(np.arange(300), likes.counts), likes.indices] = likes.confidences
    np.testing.assert_allclose(want, np.triu(dense.T @ dense), rtol=1e-12)
    monkeypatch.setattr(_layout, "_CACHE_BYTES", cache)
    for num_threads in (1, 2, 5):
        np.testing.assert_array_equal(_ease.item_gram(likes, num_threads), want)


def test_fit_num_threads_agnosticism(make_matrix: Any) -> None:
    matrix = make_matrix(n_users=300, n_items=200)
    models = [EASE(5.0, num_threads=n).fit(matrix) for n in (1, 2, 4, None)]
    for model in models[1:]:
        np.testing.assert_array_equal(model.item_weights_, models[0].item_weights_)


def test_threads_of_blas_move_weights_by_rounding_only(tmp_path: Path) -> None:
    program = """
import sys
import numpy as np
from scipy.sparse import random_array
from recengine import EASE
matrix = random_array((900, 700), density=0.05, rng=np.random.default_rng(1)).tocsr()
np.save(sys.argv[1], EASE(2.0).fit(matrix).item_weights_)
"""
    found = []
    for n_threads in ("1", "2"):
        path = tmp_path / f"{n_threads}.npy"
        environment = os.environ | {"OPENBLAS_NUM_THREADS": n_threads}
        subprocess.run(
            [sys.executable, "-c", program, str(path)], check=True, timeout=120, env=environment
        )
        found.append(np.load(path))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6 * np.abs(found[0]).max())


def test_recommend_equals_oracle(make_matrix: Any) -> None:
    matrix = make_matrix()
    model = EASE(10.0).fit(matrix)
    want = matrix.toarray().astype(np.float64) @ model.item_weights_.astype(np.float64)
    for user in (0, 31, 59):
        ids, scores = model.recommend(user, k=42)
        np.testing.assert_allclose(scores[:40], want[user][ids[:40]], rtol=1e-5, atol=1e-7)
        assert (np.diff(scores[:40]) <= 0).all()
        assert ids[40:].tolist() == [-1, -1]
        seen = matrix[[user]]
        got = model.recommend(user, seen, k=9)
        assert not set(got.ids.tolist()) & set(seen.indices.tolist())
        again = model.recommend_for(seen, k=9)
        np.testing.assert_array_equal(again.ids, got.ids)
        np.testing.assert_array_equal(again.scores, got.scores)
        again = model.recommend_for(seen, k=9, exclude_seen=False)
        np.testing.assert_array_equal(again.ids, ids[:9])
    ids, _ = model.recommend_for([1, 5, 5], k=3)
    want_one = 2 * model.item_weights_[5].astype(np.float64) + model.item_weights_[1]
    want_one[[1, 5]] = -np.inf
    assert ids.tolist() == np.argsort(-want_one)[:3].tolist()


def test_similar_items_follow_the_row(make_matrix: Any) -> None:
    model = EASE(10.0).fit(make_matrix())
    row = model.item_weights_[7].copy()
    row[7] = -np.inf
    ids, scores = model.similar_items(7, k=41)
    np.testing.assert_array_equal(scores[:39], row[ids[:39]])
    assert ids[39:].tolist() == [-1, -1]
    assert sorted(ids[:39].tolist()) == [item for item in range(40) if item != 7]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_fit_of_nothing(shape: tuple[int, int]) -> None:
    model = EASE().fit(csr_array(shape))
    assert model.item_weights_.shape == (shape[1], shape[1])
    assert model.recommend_for([], k=2).ids.tolist() == [*range(shape[1]), -1, -1][:2]


def test_state_round_trip(make_matrix: Any) -> None:
    model = EASE(3.0, max_items=60).fit(make_matrix())
    arrays, meta = model.state()
    again = EASE.from_state(arrays, meta)
    np.testing.assert_array_equal(again.recommend(4).scores, model.recommend(4).scores)
    assert again.item_weights_ is arrays["item_weights"]
    assert again.max_items == 60
    assert repr(again) == repr(model) == "EASE(regularization=3) <60 users, 40 items>"
    own = EASE.from_state(arrays | {"item_weights": arrays["item_weights"].copy()}, meta)
    assert not own.item_weights_.flags.writeable
    for name in arrays:
        with pytest.raises(ValueError, match=f"arrays must hold {name}"):
            EASE.from_state({k: v for k, v in arrays.items() if k != name}, meta)
    for name in meta:
        with pytest.raises(ValueError, match=f"meta must hold {name}"):
            EASE.from_state(arrays, {k: v for k, v in meta.items() if k != name})
    with pytest.raises(ValueError, match="item_weights must have 40 columns, got 39"):
        EASE.from_state(arrays | {"item_weights": np.zeros((40, 39))}, meta)


def test_ease_refuses(make_matrix: Any) -> None:
    matrix = make_matrix()
    with pytest.raises(ValueError, match="regularization must be >= 0, got -1"):
        EASE(-1)
    with pytest.raises(ValueError, match="max_items must be >= 1, got 0"):
        EASE(max_items=0)
    with pytest.raises(NotFittedError, match="this EASE is not fitted"):
        EASE().recommend(0)
    message = r"max_items must be >= the number of items \(40\), got 39: .* GiB .*use ItemKNN"
    with pytest.raises(ValueError, match=message):
        EASE(max_items=39).fit(matrix)
    with pytest.raises(
        ValueError, match=r"\(1000000\), got 20000: their weights take 11175\.9 GiB"
    ):
        EASE().fit(csr_array((3, 1_000_000)))
    for singular in (csr_array(np.ones((3, 4))), csr_array((3, 4))):
        with pytest.raises(ValueError, match=r"regularization must be large enough .* got 0"):
            EASE(0).fit(singular)
    model = EASE(1.0).fit(matrix)
    for call, message in (
        (lambda: model.recommend(60), r"user_index must lie in \[0, 60\), got 60"),
        (lambda: model.similar_items(-1), r"item_index must lie in \[0, 40\), got -1"),
        (lambda: model.recommend_for([40]), r"user_items_row must lie in \[0, 40\), got 40"),
        (lambda: model.recommend_for([0], k=-1), "k must be >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="exclude_seen must be a bool, got str"):
        model.recommend_for([0], exclude_seen="no")
