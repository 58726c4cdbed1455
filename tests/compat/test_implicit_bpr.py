"""One program, written for implicit's BPR, run over both libraries."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recengine import DeviceError

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

OURS, THEIRS = "recengine.compat.implicit.bpr", "implicit.bpr"


@pytest.fixture
def matrix(rng: np.random.Generator) -> Any:
    """Return the likes of four groups of users for four groups of items, and two empty lines."""
    same = (np.arange(80)[:, None] % 4) == (np.arange(60) % 4)
    likes = rng.random((80, 60)) < np.where(same, 0.5, 0.03)
    likes[11], likes[:, 7] = False, False
    return csr_matrix(likes.astype(np.float32))


def model_of(library: str, **options: Any) -> Any:
    module = importlib.import_module(library)
    return module.BayesianPersonalizedRanking(use_gpu=False, random_state=5, **options)


def auc(scores: Any, likes: Any) -> float:
    """Return the mean share of (liked, other) pairs that a user's scores order rightly."""
    shares = []
    for row, liked in zip(scores, likes > 0, strict=True):
        if liked.any():
            shares.append((row[liked][:, None] > row[~liked]).mean())
    return float(np.mean(shares))


def test_signatures_are_those_of_implicit() -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking as Theirs

    from recengine.compat.implicit import BayesianPersonalizedRanking as Ours

    factory = importlib.import_module(THEIRS).BayesianPersonalizedRanking
    got, want = inspect.signature(Ours).parameters, inspect.signature(factory).parameters
    assert [(p.name, p.kind) for p in got.values()] == [(p.name, p.kind) for p in want.values()]
    for name in want.keys() - {"use_gpu"}:  # its default there says whether CUDA was built in
        assert got[name].default == want[name].default, name
    public = {name for parent in Theirs.__mro__[:3] for name in vars(parent)}
    methods = [n for n in public if n[0] != "_" and callable(getattr(Theirs, n))]
    assert len(methods) >= 11
    for name in methods:
        ours = inspect.signature(getattr(Ours, name)).parameters.values()
        theirs = inspect.signature(getattr(Theirs, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in ours] == [
            (p.name, p.kind, p.default) for p in theirs
        ], name


def test_both_learn_the_groups_in_factors_of_one_layout(matrix: Any) -> None:
    models = [model_of(library, factors=8, learning_rate=0.1) for library in (OURS, THEIRS)]
    likes, aucs = matrix.toarray(), []
    for model in models:
        assert model.user_factors is None
        assert model.fit(matrix, show_progress=False) is None
        assert model.user_factors.shape == (80, 9)
        assert model.item_factors.shape == (60, 9)
        assert model.user_factors.dtype == model.item_factors.dtype == np.float32
        np.testing.assert_array_equal(model.user_factors[:, -1], 1)
        assert not model.user_factors[11, :-1].any()
        aucs.append(auc(model.user_factors @ model.item_factors.T, likes))
        ids, scores = model.recommend(3, matrix[3], N=5)
        assert ids.shape == (5,)
        np.testing.assert_allclose(
            scores, model.item_factors[ids] @ model.user_factors[3], rtol=1e-4
        )
        assert not set(ids) & set(matrix[3].indices)
        assert model.recommend([3, 0], matrix[[3, 0]], N=4)[0].shape == (2, 4)
        neighbours, cosines = model.similar_items(2, N=6)
        assert neighbours[0] == 2
        assert cosines[0] == pytest.approx(1, abs=1e-5)
        assert np.mean(neighbours % 4 == 2) > 0.6
        with pytest.raises(NotImplementedError):
            model.recalculate_user(3, matrix[3])
    assert min(aucs) > 0.9
    assert aucs[0] > aucs[1] - 0.03


def test_one_seed_gives_one_answer_at_any_thread_count(matrix: Any) -> None:
    factors = []
    for threads in (0, 1, 2):
        model = model_of(OURS, factors=4, iterations=3, num_threads=threads)
        model.fit(matrix, show_progress=False)
        factors.append(model.item_factors)
    np.testing.assert_array_equal(factors[0], factors[1])
    np.testing.assert_array_equal(factors[0], factors[2])


def test_weights_do_not_count_and_zeros_are_no_likes(matrix: Any) -> None:
    heavy = matrix.copy()
    heavy.data[::2] = 7
    heavy = heavy.tolil()
    heavy[11, 3] = 1
    heavy = heavy.tocsr()
    heavy[11, 3] = 0
    assert heavy.nnz > matrix.nnz
    models = []
    for likes in (matrix, csr_matrix(heavy)):
        model = model_of(OURS, factors=4, iterations=2)
        model.fit(likes, show_progress=False)
        models.append(model)
    np.testing.assert_array_equal(models[0].item_factors, models[1].item_factors)


def test_callbacks_count_pairs(matrix: Any) -> None:
    full = matrix.toarray()
    full[0] = 1
    likes = csr_matrix(full)
    for library in (OURS, THEIRS):
        calls: list[Any] = []
        model = model_of(library, factors=8, learning_rate=0.1, iterations=20)
        model.fit(likes, show_progress=False, callback=lambda *call, to=calls: to.append(call))
        assert [epoch for epoch, *_ in calls] == list(range(20))
        assert all(seconds > 0 for _, seconds, *_ in calls)
        assert all(isinstance(count, int) for call in calls for count in call[2:])
        assert all(0 <= correct <= likes.nnz - skipped for *_, correct, skipped in calls)
        assert calls[-1][2] > calls[0][2]
        if library == OURS:
            assert {skipped for *_, skipped in calls} == {60}


def test_a_second_fit_goes_on(matrix: Any) -> None:
    model = model_of(OURS, factors=8, iterations=1, learning_rate=0.05)
    model.fit(matrix, show_progress=False)
    first = auc(model.user_factors @ model.item_factors.T, matrix.toarray())
    for _ in range(30):
        model.fit(matrix, show_progress=False)
    assert auc(model.user_factors @ model.item_factors.T, matrix.toarray()) > first + 0.05


@pytest.mark.parametrize(("write", "read"), [(OURS, THEIRS), (THEIRS, OURS), (OURS, OURS)])
def test_each_reads_the_others_files(matrix: Any, write: str, read: str, tmp_path: Any) -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking as Theirs

    from recengine.compat.implicit import BayesianPersonalizedRanking as Ours

    model = model_of(write, factors=6, learning_rate=0.03, regularization=0.2, iterations=2)
    model.fit(matrix, show_progress=False)
    model.save(str(tmp_path / "model"))
    reader: Any = Ours if read == OURS else Theirs
    again = reader.load(str(tmp_path / "model.npz"))
    for name in ("factors", "learning_rate", "regularization", "iterations", "random_state"):
        assert getattr(again, name) == getattr(model, name), name
    np.testing.assert_array_equal(again.item_factors, model.item_factors)
    got, want = (m.recommend([0, 3], matrix[[0, 3]], N=8) for m in (again, model))
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)
    assert (got[0] == want[0]).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"use_gpu": True}, DeviceError, "use_gpu must be False, got True"),
        ({"dtype": np.float64}, ValueError, "dtype must be float32, got float64"),
        ({"verify_negative_samples": False}, ValueError, "verify_negative_samples must be True"),
        ({"factors": 0}, ValueError, "factors must be >= 1, got 0"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be > 0, got 0"),
        ({"num_threads": -1}, ValueError, "num_threads must be >= 0, got -1"),
    ],
)
def test_options_that_are_not_done_are_refused(
    options: Any, error: type[Exception], message: str
) -> None:
    from recengine.compat.implicit import BayesianPersonalizedRanking

    with pytest.raises(error, match=message):
        BayesianPersonalizedRanking(**options)


def test_wrong_matrices_are_refused_and_change_nothing(matrix: Any) -> None:
    model = model_of(OURS, factors=4, iterations=1)
    model.fit(matrix, show_progress=False)
    before = model.item_factors
    with pytest.raises(ValueError, match=r"init\[0\] must have 3 rows, got 80"):
        model.fit(matrix[:3], show_progress=False)
    with pytest.raises(ValueError, match="matrix must hold weights >= 0, got -1"):
        model.fit(-matrix, show_progress=False)
    with pytest.raises(ValueError, match="user_items must be a sparse matrix"):
        model.fit(matrix.toarray(), show_progress=False)
    assert model.item_factors is before
