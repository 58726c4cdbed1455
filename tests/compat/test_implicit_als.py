"""One program, written for implicit, run over both libraries: the answers are the same."""

from __future__ import annotations

import importlib
import inspect
import io
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from recengine.factorization import ALS

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

OURS, THEIRS = "recengine.compat.implicit.als", "implicit.als"
SETTINGS: list[dict[str, Any]] = [
    {"factors": 8, "regularization": 0.1, "iterations": 4},
    {"factors": 5, "regularization": 0.02, "alpha": 3.5, "iterations": 3, "num_threads": 2},
]


def fitted(library: str, matrix: Any, **options: Any) -> Any:
    module = importlib.import_module(library)
    model = module.AlternatingLeastSquares(use_cg=False, use_gpu=False, random_state=7, **options)
    assert model.fit(matrix, show_progress=False) is None
    return model


@pytest.fixture(params=SETTINGS, ids=["plain", "alpha"])
def pair(request: Any, matrix: Any) -> tuple[Any, Any]:
    """Return both libraries' models of one matrix, from one seed."""
    return fitted(OURS, matrix, **request.param), fitted(THEIRS, matrix, **request.param)


@pytest.fixture
def matrix(rng: np.random.Generator) -> Any:
    likes = random_array((70, 45), density=0.15, rng=rng, format="csr")
    likes.data[:] = rng.integers(1, 6, likes.nnz)
    return csr_matrix(likes.astype(np.float32))


def assert_same_answer(got: Any, want: Any, atol: float = 1e-4) -> None:
    """Same scores; same ids but where neighbours in the list score the same."""
    (got_ids, got_scores), (want_ids, want_scores) = got, want
    assert got_ids.shape == want_ids.shape
    assert got_ids.dtype.kind == want_ids.dtype.kind == "i"
    assert got_scores.dtype == want_scores.dtype == np.float32
    np.testing.assert_allclose(got_scores, want_scores, rtol=0, atol=atol)
    gaps = np.abs(np.diff(want_scores, axis=-1)) > 2 * atol  # what follows the last is not known
    clear = np.zeros(got_ids.shape, bool)
    clear[..., :-1] = gaps
    clear[..., 1:-1] &= gaps[..., :-1]
    assert clear[..., :-1].mean() > 0.5
    np.testing.assert_array_equal(got_ids[clear], want_ids[clear])


def test_signatures_are_those_of_implicit() -> None:
    ours, theirs = importlib.import_module(OURS), importlib.import_module(THEIRS)
    got = inspect.signature(ours.AlternatingLeastSquares).parameters
    want = inspect.signature(theirs.AlternatingLeastSquares).parameters
    assert [(p.name, p.kind) for p in got.values()] == [(p.name, p.kind) for p in want.values()]
    for name in want.keys() - {"use_gpu"}:  # its default there says whether CUDA was built in
        assert got[name].default == want[name].default, name
    assert got["use_gpu"].default is False


def test_every_public_method_has_implicit_s_signature() -> None:
    from implicit.cpu.als import AlternatingLeastSquares as Theirs

    from recengine.compat.implicit import AlternatingLeastSquares as Ours

    public = {name for parent in Theirs.__mro__[:3] for name in vars(parent)}
    methods = [n for n in public if n[0] != "_" and callable(getattr(Theirs, n))]
    assert len(methods) >= 14
    for name in methods:
        got = inspect.signature(getattr(Ours, name)).parameters.values()
        want = inspect.signature(getattr(Theirs, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in got] == [
            (p.name, p.kind, p.default) for p in want
        ], name


def test_factors_are_equal(pair: Any) -> None:
    ours, theirs = pair
    np.testing.assert_allclose(ours.user_factors, theirs.user_factors, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.item_factors, theirs.item_factors, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.user_norms, theirs.user_norms, rtol=1e-4)
    np.testing.assert_allclose(ours.item_norms, theirs.item_norms, rtol=1e-4)
    np.testing.assert_allclose(ours.YtY, theirs.YtY, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(ours.XtX, theirs.XtX, rtol=1e-5, atol=1e-3)
    for name in ("regularization", "alpha", "factors", "iterations", "use_cg", "dtype"):
        assert getattr(ours, name) == getattr(theirs, name)


RECOMMEND: list[dict[str, Any]] = [
    {},
    {"N": 3},
    {"filter_already_liked_items": False},
    {"filter_items": [3, 17, 4]},
    {"filter_items": np.array([0, 1])},
    {"recalculate_user": True},
    {"items": [40, 2, 9, 31, 5, 11], "N": 3, "filter_already_liked_items": False},
    {"items": np.arange(44, -1, -1), "N": 5},
]


@pytest.mark.parametrize("options", RECOMMEND, ids=[",".join(o) or "plain" for o in RECOMMEND])
def test_recommend_is_equal(pair: Any, matrix: Any, options: Any) -> None:
    one = [model.recommend(5, matrix[5], **options) for model in pair]
    assert one[0][0].ndim == 1
    assert_same_answer(*one)
    for users in ([4, 9, 4], np.arange(70), range(3)):
        rows = matrix[list(users)]
        several = [model.recommend(users, rows, **options) for model in pair]
        assert several[0][0].shape[0] == len(users)
        assert_same_answer(*several)


def test_batch_rows_are_the_single_answers(pair: Any, matrix: Any) -> None:
    ours, _ = pair
    ids, scores = ours.recommend(np.arange(70), matrix)
    for user in (0, 33, 69):
        one_ids, one_scores = ours.recommend(user, matrix[user])
        np.testing.assert_array_equal(one_ids, ids[user])
        np.testing.assert_array_equal(one_scores, scores[user])


def test_similar_rows_are_equal(pair: Any, matrix: Any) -> None:
    calls = [
        lambda m: m.similar_items(3),
        lambda m: m.similar_items([3, 0, 44], N=4),
        lambda m: m.similar_items(3, N=4, filter_items=[3, 5]),
        lambda m: m.similar_items(3, N=2, items=[40, 6, 2, 9]),
        lambda m: m.similar_items(3, 5, recalculate_item=True, item_users=matrix.T.tocsr()[3]),
        lambda m: m.similar_items(
            [8, 3], 5, recalculate_item=True, item_users=matrix.T.tocsr()[[8, 3]]
        ),
        lambda m: m.similar_users(np.int64(2)),
        lambda m: m.similar_users(np.array([2, 60]), N=3, filter_users=[2]),
        lambda m: m.similar_users(2, N=2, users=[1, 69, 3, 4]),
    ]
    for call in calls:
        assert_same_answer(call(pair[0]), call(pair[1]))


def test_recalculated_rows_are_equal(pair: Any, matrix: Any) -> None:
    columns = matrix.T.tocsr()
    for call in (
        lambda m: m.recalculate_user(3, matrix[3]),
        lambda m: m.recalculate_user([3, 3, 900], matrix[[3, 4, 5]]),
        lambda m: m.recalculate_item(3, columns[3]),
        lambda m: m.recalculate_item(range(45), columns),
    ):
        got, want = (call(model) for model in pair)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)


def test_partial_fits_are_equal(pair: Any, matrix: Any) -> None:
    columns = matrix.T.tocsr()
    for model in pair:
        before = model.similar_items(1, N=3)
        assert model.partial_fit_users([3, 72], matrix[[9, 10]]) is None
        model.partial_fit_items(np.array([1, 46]), columns[[5, 7]])
        after = model.similar_items(1, N=3)
        assert not np.array_equal(before[1], after[1])
    ours, theirs = pair
    assert ours.user_factors.shape == (73, ours.factors)
    assert ours.item_factors.shape == (47, ours.factors)
    np.testing.assert_allclose(ours.user_factors, theirs.user_factors, rtol=0, atol=2e-4)
    np.testing.assert_allclose(ours.item_factors, theirs.item_factors, rtol=0, atol=2e-4)
    assert_same_answer(ours.recommend(72, matrix[10]), theirs.recommend(72, matrix[10]))
    assert_same_answer(ours.similar_items(46), theirs.similar_items(46), atol=3e-4)


def test_explanations_are_equal(pair: Any, matrix: Any) -> None:
    for user, item in ((3, 7), (60, 0)):
        got, want = (model.explain(user, matrix, item, N=4) for model in pair)
        assert got[0] == pytest.approx(want[0], abs=1e-4)
        assert [i for i, _ in got[1]] == [i for i, _ in want[1]]
        assert [s for _, s in got[1]] == pytest.approx([s for _, s in want[1]], abs=1e-4)
        again = [
            m.explain(user, matrix, item, w[2], 4) for m, w in zip(pair, (got, want), strict=True)
        ]
        assert again[0][:2] == got[:2]
    ours, _ = pair
    total, top, _ = ours.explain(3, matrix, 7, N=1000)
    assert len(top) == matrix[3].nnz
    assert total == pytest.approx(sum(score for _, score in top))
    assert total == pytest.approx(
        float(ours.recalculate_user(3, matrix[3]) @ ours.item_factors[7]), abs=1e-5
    )


def test_deprecated_calls_warn_and_answer_the_same(pair: Any, matrix: Any) -> None:
    with pytest.warns(DeprecationWarning, match="rank_items is deprecated"):
        ranked = [model.rank_items(3, matrix[3], [9, 1, 30, 2]) for model in pair]
    assert_same_answer(*ranked)
    with pytest.warns(DeprecationWarning, match="recommend_all is deprecated"):
        ids = [model.recommend_all(matrix, N=2) for model in pair]
    assert ids[0].shape == ids[1].shape == (70, 2)
    assert (ids[0] == ids[1]).mean() > 0.95


def test_callbacks_get_the_same_epochs_and_losses(matrix: Any) -> None:
    seen: list[list[Any]] = []
    for library in (OURS, THEIRS):
        calls: list[Any] = []
        module = importlib.import_module(library)
        model = module.AlternatingLeastSquares(
            6, use_cg=False, iterations=3, calculate_training_loss=True, random_state=1
        )
        model.fit(matrix, show_progress=False, callback=lambda *call, to=calls: to.append(call))
        seen.append(calls)
    (ours, theirs) = seen
    assert [epoch for epoch, _, _ in ours] == [epoch for epoch, _, _ in theirs] == [0, 1, 2]
    assert all(seconds > 0 for _, seconds, _ in ours)
    assert [loss for *_, loss in ours] == pytest.approx([loss for *_, loss in theirs], rel=1e-4)


def test_a_callback_changes_no_bit(matrix: Any) -> None:
    whole = fitted(OURS, matrix, **SETTINGS[0])
    module = importlib.import_module(OURS)
    model = module.AlternatingLeastSquares(use_cg=False, random_state=7, **SETTINGS[0])
    losses: list[Any] = []
    model.fit_callback = lambda epoch, seconds, loss: losses.append(loss)
    model.fit(matrix, show_progress=False)
    assert losses == [None] * 4
    np.testing.assert_array_equal(model.item_factors, whole.item_factors)


def test_dislikes_are_dislikes(matrix: Any) -> None:
    signed = matrix.copy()
    signed.data[::3] *= -1
    ours, theirs = (fitted(library, signed, **SETTINGS[0]) for library in (OURS, THEIRS))
    np.testing.assert_allclose(ours.user_factors, theirs.user_factors, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.item_factors, theirs.item_factors, rtol=1e-4, atol=1e-4)


def test_conjugate_gradients_come_at_least_as_far(matrix: Any) -> None:
    losses = []
    arrays, meta = ALS(8, 0.1).fit(matrix).state()
    for library in (OURS, THEIRS):
        model = importlib.import_module(library).AlternatingLeastSquares(8, 0.1, random_state=7)
        assert model.use_cg
        model.fit(matrix, show_progress=False)
        parts = {"user_factors": model.user_factors, "item_factors": model.item_factors}
        losses.append(ALS.from_state(arrays | parts, meta).loss(matrix))
    assert losses[0] < losses[1] * 1.005


def test_a_second_fit_goes_on(matrix: Any) -> None:
    for library in (OURS, THEIRS):
        twice = fitted(library, matrix, factors=6, iterations=2)
        twice.fit(matrix, show_progress=False)
        once = fitted(library, matrix, factors=6, iterations=4)
        np.testing.assert_allclose(twice.item_factors, once.item_factors, atol=1e-5)


def test_assigned_factors_are_where_it_starts(matrix: Any, rng: Any) -> None:
    start = rng.random((45, 6), dtype=np.float32)
    models = []
    for library in (OURS, THEIRS):
        module = importlib.import_module(library)
        model = module.AlternatingLeastSquares(6, use_cg=False, iterations=1, random_state=3)
        model.item_factors = start.copy()
        model.fit(matrix, show_progress=False)
        models.append(model)
    np.testing.assert_allclose(models[0].user_factors, models[1].user_factors, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("write", "read"), [(OURS, THEIRS), (THEIRS, OURS), (OURS, OURS)])
def test_each_reads_the_others_files(matrix: Any, write: str, read: str, tmp_path: Any) -> None:
    from implicit.cpu.als import AlternatingLeastSquares as Theirs

    from recengine.compat.implicit import AlternatingLeastSquares as Ours

    model = fitted(write, matrix, factors=6, alpha=2.0, regularization=0.3, iterations=2)
    reader: Any = Ours if read == OURS else Theirs
    model.save(str(tmp_path / "model"))
    buffer = io.BytesIO()
    model.save(buffer)
    buffer.seek(0)
    for file in (str(tmp_path / "model"), buffer):
        again = reader.load(file)
        np.testing.assert_array_equal(again.user_factors, model.user_factors)
        np.testing.assert_array_equal(again.item_factors, model.item_factors)
        for name in ("alpha", "regularization", "factors", "iterations", "use_cg", "random_state"):
            assert getattr(again, name) == getattr(model, name), name
        assert_same_answer(again.recommend(3, matrix[3]), model.recommend(3, matrix[3]))
        assert again.dtype == np.float32


def test_ml_100k_gives_the_same_top_ten(ml_100k_folder: Any) -> None:
    from recengine.data.movielens import load_ml_100k

    likes = csr_matrix(load_ml_100k(ml_100k_folder).interactions.to_csr())
    ours, theirs = (
        fitted(library, likes, factors=32, regularization=0.05, iterations=5)
        for library in (OURS, THEIRS)
    )
    np.testing.assert_allclose(ours.user_factors, theirs.user_factors, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.item_factors, theirs.item_factors, rtol=1e-4, atol=1e-4)
    users = np.arange(likes.shape[0])
    assert_same_answer(ours.recommend(users, likes), theirs.recommend(users, likes))
    items = np.arange(likes.shape[1])
    assert_same_answer(ours.similar_items(items, N=5), theirs.similar_items(items, N=5))
