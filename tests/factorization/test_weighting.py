"""bm25_weight and tfidf_weight: implicit's functions, over anything sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csc_matrix, csr_array

from recengine import Interactions, bm25_weight, tfidf_weight


def bm25_oracle(dense: Any, k1: float = 100, b: float = 0.8) -> Any:
    wide = np.asarray(dense, np.float64)
    idf = np.log(len(wide) / (1.0 + (wide > 0).sum(0)))
    length = wide.sum(1, keepdims=True) / wide.sum(1).mean()
    below = np.where(wide > 0, k1 * (1 - b + b * length) + wide, 1)
    return wide * (k1 + 1) / below * idf


def tfidf_oracle(dense: Any) -> Any:
    wide = np.asarray(dense, np.float64)
    return np.sqrt(wide) * np.log(len(wide) / (1.0 + (wide > 0).sum(0)))


@pytest.mark.parametrize(("k1", "b"), [(100, 0.8), (1.2, 0.75), (0.5, 0), (2, 1)])
def test_weights_equal_oracle(make_matrix: Any, k1: float, b: float) -> None:
    matrix = make_matrix()
    for given_matrix in (matrix, matrix.T):
        dense = given_matrix.toarray()
        got = bm25_weight(given_matrix, k1, b)
        np.testing.assert_allclose(got.toarray(), bm25_oracle(dense, k1, b), rtol=1e-6, atol=1e-7)
        got = tfidf_weight(given_matrix)
        np.testing.assert_allclose(got.toarray(), tfidf_oracle(dense), rtol=1e-6, atol=1e-7)
        assert isinstance(got, csr_array)
        assert got.dtype == np.float32
        assert got.has_canonical_format


def test_weights_equal_implicit(make_matrix: Any) -> None:
    peer = pytest.importorskip("implicit.nearest_neighbours", reason="implicit is not installed")
    matrix = make_matrix(n_users=200, n_items=90)
    for ours, theirs in (
        (bm25_weight(matrix), peer.bm25_weight(matrix)),
        (bm25_weight(matrix.T, 1.2, 0.75), peer.bm25_weight(matrix.T, K1=1.2, B=0.75)),
        (tfidf_weight(matrix), peer.tfidf_weight(matrix)),
    ):
        np.testing.assert_allclose(ours.toarray(), theirs.toarray(), rtol=1e-6, atol=1e-7)


@given(
    cells=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0, 7.0])),
        max_size=40,
    )
)
def test_weights_sum_duplicates_and_drop_zeros(cells: list[Any]) -> None:
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    matrix = coo_array((np.array(values, float), (rows, columns)), shape=(6, 5))
    dense = matrix.toarray()
    if not dense.any():
        assert bm25_weight(matrix).nnz == tfidf_weight(matrix).nnz == 0
        return
    assert tfidf_weight(matrix).nnz == np.count_nonzero(dense)
    np.testing.assert_allclose(bm25_weight(matrix).toarray(), bm25_oracle(dense), atol=1e-6)
    np.testing.assert_allclose(tfidf_weight(matrix).toarray(), tfidf_oracle(dense), atol=1e-6)


def test_weights_leave_their_input(make_matrix: Any) -> None:
    matrix = make_matrix()
    before = matrix.copy()
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    got = bm25_weight(matrix)
    got.data[:] = 0
    got.indices[:] = 0
    assert (matrix != before).nnz == 0
    assert bm25_weight(csc_matrix(matrix)).data.any()
    wide = csr_array((matrix.data, matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)))
    assert (bm25_weight(wide) != bm25_weight(matrix)).nnz == 0


def test_weights_of_interactions() -> None:
    events = Interactions.from_arrays([5, 5, 6, 7], ["a", "b", "a", "c"], [1.0, 2.0, 3.0, 1.0])
    for weigh in (bm25_weight, tfidf_weight):
        assert (weigh(events) != weigh(events.to_csr())).nnz == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_weights_of_nothing(shape: tuple[int, int]) -> None:
    for weigh in (bm25_weight, tfidf_weight):
        got = weigh(csr_array(shape))
        assert got.shape == shape
        assert got.nnz == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0]],), TypeError, "matrix must be Interactions or a scipy sparse"),
        ((csr_array([[-1.0]]),), ValueError, "matrix must hold weights >= 0, got -1"),
        ((csr_array([[1.0]]), -1), ValueError, "k1 must be >= 0, got -1"),
        ((csr_array([[1.0]]), 1, -0.5), ValueError, r"b must be >= 0, got -0\.5"),
        ((csr_array([[1.0]]), 1, 1.5), ValueError, r"b must be <= 1, got 1\.5"),
        ((csr_array([[1.0]]), "1"), TypeError, "k1 must be a number, got str"),
    ],
)
def test_bm25_weight_refuses(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bm25_weight(*arguments)
