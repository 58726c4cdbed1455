"""Where the answer is ours: each row of the table in `recengine.compat.implicit`."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array, csr_matrix

from recengine import DeviceError, NotFittedError
from recengine.compat.implicit import AlternatingLeastSquares


@pytest.fixture
def matrix(rng: np.random.Generator) -> Any:
    return csr_matrix((rng.random((12, 9)) < 0.4).astype(np.float32))


@pytest.fixture
def model(matrix: Any) -> AlternatingLeastSquares:
    model = AlternatingLeastSquares(4, 0.1, iterations=2, random_state=0)
    model.fit(matrix, show_progress=False)
    return model


def test_too_few_items_are_padded_by_no_item(model: Any, matrix: Any) -> None:
    left = 9 - matrix[0].nnz
    ids, scores = model.recommend(0, matrix[0], N=20)
    assert ids.shape == scores.shape == (20,)
    assert set(ids[:left]) == set(range(9)) - set(matrix[0].indices)
    np.testing.assert_array_equal(ids[left:], -1)
    np.testing.assert_array_equal(scores[left:], -np.inf)
    ids, scores = model.similar_items([0, 1], N=11)
    assert sorted(ids[0]) == [-1, -1, *range(9)]
    ids, scores = model.recommend(0, matrix[0], N=20, items=[0, 1, 1, 2])
    assert len(ids) == 3
    assert set(ids) - {-1} == {0, 1, 2} - set(matrix[0].indices)


def test_nothing_asked_nothing_answered(model: Any, matrix: Any) -> None:
    assert model.recommend(0, matrix[0], N=0)[0].shape == (0,)
    assert model.recommend([0, 1], matrix[:2], N=0)[0].shape == (2, 0)
    assert model.recommend([], matrix[:0])[0].shape == (0, 10)
    assert model.recommend(0, matrix[0], items=[])[0].shape == (0,)
    assert model.recalculate_user([], matrix[:0]).shape == (0, 4)


@pytest.mark.parametrize("bad", [-1, 12, [0, -1], np.array([3, 99])])
def test_ids_outside_the_model_are_refused(model: Any, matrix: Any, bad: Any) -> None:
    rows = matrix[:1] if np.isscalar(bad) else matrix[:2]
    with pytest.raises(IndexError, match=r"userid must be in \[0, 12\), got (-1|12|99)"):
        model.recommend(bad, rows)
    with pytest.raises(IndexError, match=r"userid must be in \[0, 12\)"):
        model.similar_users(bad)
    with pytest.raises(IndexError, match=r"itemid must be in \[0, 9\)"):
        model.similar_items(bad)
    with pytest.raises(IndexError, match=r"items must be in \[0, 9\), got"):
        model.recommend(0, matrix[0], items=np.atleast_1d(bad))
    with pytest.raises(IndexError, match=r"userid must be in \[0, 12\)"):
        model.explain(int(np.min(bad) if np.min(bad) < 0 else np.max(bad)), matrix, 0)
    with pytest.raises(IndexError, match="userids must be >= 0, got -1"):
        model.partial_fit_users([2, -1], matrix[:2])


def test_filtered_items_may_be_unknown(model: Any, matrix: Any) -> None:
    ids, _ = model.recommend(0, matrix[0], N=9, filter_items=[2, 77])
    assert 2 not in ids
    for given in (np.array([1, 2]), [1, 2]):
        with pytest.raises(ValueError, match="items must be None where filter_items is given"):
            model.recommend(0, matrix[0], items=np.array([1, 2]), filter_items=given)
    model.recommend(0, matrix[0], items=np.array([1, 2]), filter_items=[])
    with pytest.raises(ValueError, match="users must be None where filter_users is given"):
        model.similar_users(0, users=[1, 2], filter_users=[3])


def test_equal_scores_come_by_id(matrix: Any) -> None:
    model = AlternatingLeastSquares(2)
    model.user_factors, model.item_factors = np.ones((12, 2)), np.ones((9, 2))
    ids, scores = model.recommend(0, None, N=9, filter_already_liked_items=False)
    np.testing.assert_array_equal(ids, np.arange(9))
    assert len(set(scores)) == 1


def test_requests_before_fit_say_so(matrix: Any) -> None:
    model = AlternatingLeastSquares()
    assert model.user_factors is None
    assert model.item_factors is None
    for call in (
        lambda: model.recommend(0, matrix[0]),
        lambda: model.similar_items(0),
        lambda: model.similar_users(0),
        lambda: model.recalculate_user(0, matrix[0]),
        lambda: model.partial_fit_items([0], matrix.T.tocsr()[0]),
        lambda: model.explain(0, matrix, 0),
        lambda: model.user_norms,
    ):
        with pytest.raises(NotFittedError, match=r"no (user|item)_factors: call fit\(user_items\)"):
            call()


def test_explicit_zeros_are_no_events(model: Any, matrix: Any) -> None:
    zeros = csr_matrix(
        (
            np.concatenate([matrix.data, [0.0]]).astype(np.float32),
            np.concatenate([matrix.indices, [0]]),
            np.concatenate([matrix.indptr[:-1], [matrix.nnz + 1]]),
        ),
        shape=matrix.shape,
    )
    again = AlternatingLeastSquares(4, 0.1, iterations=2, random_state=0)
    again.fit(zeros, show_progress=False)
    np.testing.assert_array_equal(again.item_factors, model.item_factors)
    row = csr_matrix(([1.0, 0.0], ([0, 0], [3, 5])), shape=(1, 9))
    assert set(model.recommend(0, row, N=8)[0]) == set(range(9)) - {3}
    np.testing.assert_array_equal(
        model.recalculate_user(0, row), model.recalculate_user(0, row > 0)
    )
    assert [item for item, _ in model.explain(0, row, 1)[1]] == [3]


@pytest.mark.parametrize("form", [csr_array, csc_array, csr_matrix])
def test_any_sparse_format_will_do(model: Any, matrix: Any, form: Any) -> None:
    want = model.recommend([0, 1], matrix[:2], recalculate_user=True)
    got = model.recommend([0, 1], form(matrix[:2]), recalculate_user=True)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"use_gpu": True}, DeviceError, "use_gpu must be False, got True"),
        ({"dtype": np.float64}, ValueError, "dtype must be float32, got float64"),
        ({"use_native": False}, ValueError, "use_native must be True, got False"),
        ({"factors": 0}, ValueError, "factors must be >= 1, got 0"),
        ({"regularization": -1}, ValueError, "regularization must be >= 0, got -1"),
        ({"num_threads": -1}, ValueError, "num_threads must be >= 0, got -1"),
        ({"random_state": "x"}, TypeError, "random_state must be an integer, got str"),
    ],
)
def test_options_that_are_not_done_are_refused(
    options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AlternatingLeastSquares(**options)


def test_wrong_matrices_are_refused(model: Any, matrix: Any) -> None:
    with pytest.raises(ValueError, match="user_items must be a sparse matrix"):
        model.recommend(0, None)
    with pytest.raises(ValueError, match="user_items must be a sparse matrix"):
        model.recommend(0, matrix[0].toarray())
    with pytest.raises(ValueError, match=r"1 row for every id \(1\).*got shape \(12, 9\)"):
        model.recommend(0, matrix)
    with pytest.raises(ValueError, match=r"item_users must have 1 row for every id \(2\)"):
        model.recalculate_item([0, 1], matrix.T.tocsr()[:1])
    with pytest.raises(ValueError, match="at most 9 columns"):
        model.recommend(0, csr_matrix((1, 10)))
    with pytest.raises(TypeError, match="userid must be an int or 1-D integers, got float64"):
        model.similar_users(0.5)
    with pytest.raises(ValueError, match=r"init\[0\] must have 3 rows, got 12"):
        model.fit(matrix[:3], show_progress=False)


def test_factors_are_read_only_and_assigning_drops_what_was_derived(model: Any) -> None:
    with pytest.raises(ValueError, match="read-only"):
        model.item_factors[0] = 0
    before, gram, norms = model.similar_items(0), model.YtY, model.item_norms
    mine = -model.item_factors[::-1].copy()
    model.item_factors = mine
    mine[:] = 0
    assert not np.array_equal(model.similar_items(0)[1], before[1])
    np.testing.assert_array_equal(model.item_norms, norms[::-1])
    np.testing.assert_allclose(model.YtY, gram)
    with pytest.raises(ValueError, match="item_factors must be finite"):
        model.item_factors = np.full((9, 4), np.nan)


def test_zero_vectors_have_cosine_zero(model: Any) -> None:
    factors = model.item_factors.copy()
    factors[2] = 0
    model.item_factors = factors
    assert model.item_norms[2] == np.float32(1e-10)
    np.testing.assert_array_equal(model.similar_items(2)[1][:9], 0)


def test_models_are_copied_and_pickled(model: Any, matrix: Any) -> None:
    want = model.recommend(0, matrix[0])
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        got = again.recommend(0, matrix[0])
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_a_generator_is_not_saved(model: Any, tmp_path: Any) -> None:
    model.random_state = np.random.default_rng(0)
    model.save(tmp_path / "m.npz")
    assert AlternatingLeastSquares.load(str(tmp_path / "m.npz")).random_state is None


def test_legacy_random_states_are_taken(matrix: Any) -> None:
    factors = []
    for _ in range(2):
        model = AlternatingLeastSquares(3, random_state=np.random.RandomState(5), iterations=1)
        model.fit(matrix, show_progress=False)
        factors.append(model.item_factors)
    np.testing.assert_array_equal(*factors)


def test_the_loss_is_logged(matrix: Any, caplog: Any) -> None:
    model = AlternatingLeastSquares(3, iterations=2, calculate_training_loss=True)
    with caplog.at_level(logging.INFO, "recengine"):
        model.fit(matrix, show_progress=False)
    assert [record.message[:8] for record in caplog.records] == ["epoch 0,", "epoch 1,"]


def test_progress_is_drawn_on_standard_error(matrix: Any, capfd: Any) -> None:
    for callback in (None, lambda *call: None):
        AlternatingLeastSquares(3, iterations=2).fit(matrix, callback=callback)
        out, err = capfd.readouterr()
        assert "ALS" in err
        assert not out


def test_models_live_on_the_cpu(model: Any) -> None:
    assert model.to_cpu() is model
    with pytest.raises(DeviceError, match="has no GPU version"):
        model.to_gpu()
