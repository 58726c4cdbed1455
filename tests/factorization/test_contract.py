"""What every model of this room promises, asked of each of them."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recengine import ALS, BPR, EASE, SGD, Interactions, ItemKNN, NotFittedError, UserKNN

Make = Callable[..., Any]
FACTORED: dict[str, Make] = {
    "ALS": lambda **options: ALS(4, 0.1, iterations=2, **options),
    "ALS, ials": lambda **options: ALS(4, 0.1, iterations=2, objective="ials", **options),
    "BPR": lambda **options: BPR(4, iterations=2, **options),
    "BPR, adaptive": lambda **options: BPR(4, iterations=2, negatives="adaptive", **options),
    "SGD": lambda **options: SGD(4, iterations=2, **options),
    "SGD, held out": lambda **options: SGD(4, iterations=9, validation_fraction=0.2, **options),
}
MODELS = FACTORED | {
    "EASE": lambda **options: EASE(5.0, **options),
    "ItemKNN": lambda **options: ItemKNN(6, **options),
    "ItemKNN, bm25": lambda **options: ItemKNN(6, similarity="bm25", **options),
    "UserKNN": lambda **options: UserKNN(6, **options),
    "UserKNN, tfidf": lambda **options: UserKNN(6, similarity="tfidf", shrinkage=2, **options),
}
SEEDED = set(FACTORED)
SHAPES = [(0, 0), (0, 3), (3, 0), (2, 3), (1, 3), (3, 1), (1, 1)]

pytestmark = pytest.mark.usefixtures("four_blocks")


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def new(name: str) -> Make:
    """Return a maker of models that begin with the same seed."""
    given = {"random_state": 0} if name in SEEDED else {}
    return lambda **options: MODELS[name](**{**given, **options})


@pytest.fixture
def dense(rng: np.random.Generator) -> Any:
    values = rng.integers(1, 5, (40, 24)) * (rng.random((40, 24)) < 0.4)
    values[3], values[:, 5] = 0, 0
    return values.astype(np.float32)


def assert_same(got: Any, want: Any) -> None:
    """Compare all that two models learned, bit by bit."""
    ours, theirs = got.state()[0], want.state()[0]
    assert ours.keys() == theirs.keys()
    for part in ours:
        np.testing.assert_array_equal(ours[part], theirs[part], err_msg=part)


def shuffled(dense: Any, index: Any) -> Any:
    """Return the CSR of `dense` with columns out of order, each value in two halves."""
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(dense)
    order = np.repeat(rng.permutation(len(rows)), 2)
    order = order[np.argsort(rows[order], kind="stable")]
    indptr = np.searchsorted(rows[order], np.arange(len(dense) + 1))
    data = dense[rows[order], columns[order]] / 2
    matrix = sparse.csr_array((data, columns[order], indptr), shape=dense.shape)
    matrix.indices, matrix.indptr = columns[order].astype(index), indptr.astype(index)
    return matrix


def test_fit_returns_the_model(new: Make, dense: Any) -> None:
    model = new()
    assert model.fit(sparse.csr_array(dense)) is model
    assert "40 users, 24 items" in repr(model)
    assert "not fitted" in repr(new())


def test_nothing_is_known_before_fit(new: Make) -> None:
    model = new()
    asked: dict[str, Callable[[], Any]] = {
        "state": model.state,
        "recommend": lambda: model.recommend(0),
        "recommend_for": lambda: model.recommend_for([0]),
        "similar_items": lambda: model.similar_items(0),
        "similar_users": lambda: model.similar_users(0),
        "fold_in": lambda: model.fold_in([0], [1.0]),
        "item_factors_": lambda: model.item_factors_,
        "item_weights_": lambda: model.item_weights_,
        "item_neighbours_": lambda: model.item_neighbours_,
        "user_neighbours_": lambda: model.user_neighbours_,
    }
    known = [ask for attribute, ask in asked.items() if hasattr(type(model), attribute)]
    assert len(known) >= 5
    for ask in known:
        with pytest.raises(NotFittedError, match="is not fitted: call fit"):
            ask()


@pytest.mark.parametrize(
    "make",
    [
        sparse.csr_matrix,
        sparse.coo_array,
        sparse.csc_array,
        lambda dense: sparse.csr_array(dense.astype(np.float64)),
        lambda dense: sparse.csr_array(dense.astype(np.int16)),
        lambda dense: shuffled(dense, np.int32),
        lambda dense: shuffled(dense, np.int64),
    ],
)
def test_fit_takes_any_sparse_matrix(new: Make, dense: Any, make: Any) -> None:
    assert_same(new().fit(make(dense)), new().fit(sparse.csr_array(dense)))


def test_fit_takes_interactions(new: Make) -> None:
    users, items = np.divmod(np.arange(0, 60, 2), 6)
    inter = Interactions.from_arrays(users, items, np.arange(30) % 5 + 1)
    assert_same(new().fit(inter), new().fit(inter.to_csr()))


def test_fit_leaves_its_input(new: Make, dense: Any) -> None:
    matrix = shuffled(dense, np.int64)
    parts = (matrix.data, matrix.indices, matrix.indptr)
    before = [part.copy() for part in parts]
    for part in parts:
        part.flags.writeable = False
    new().fit(matrix)
    for part, old in zip((matrix.data, matrix.indices, matrix.indptr), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("full", [False, True])
def test_small_and_empty_matrices(name: str, new: Make, shape: tuple[int, int], full: bool) -> None:
    dense = np.full(shape, float(full), np.float32)
    if name == "SGD, held out":  # it says that too little is left
        with pytest.raises(ValueError, match="validation_fraction must hold out some of the"):
            new().fit(sparse.csr_array((0, 3)))
        return
    model = new().fit(sparse.csr_array(dense))
    if name in FACTORED:
        assert model.user_factors_.shape[0] == shape[0]
        assert model.item_factors_.shape[0] == shape[1]
    assert all(np.isfinite(part).all() for part in model.state()[0].values())
    if min(shape):
        assert sorted(model.recommend(0, k=9).ids.tolist()) == [
            *[-1] * (9 - shape[1]),
            *range(shape[1]),
        ]


@pytest.mark.parametrize("name", FACTORED)
def test_users_without_entries_have_zeros(new: Make, dense: Any) -> None:
    model = new().fit(sparse.csr_array(dense))
    assert not model.user_factors_[3, :4].any()  # a last column meets the biases of items
    assert model.user_factors_[2, :4].any()


@pytest.mark.parametrize("name", FACTORED)
def test_factors_are_contiguous_float32_and_read_only(new: Make, dense: Any) -> None:
    model = new().fit(sparse.csr_array(dense))
    for factors in (model.user_factors_, model.item_factors_):
        assert factors.dtype == np.float32
        assert factors.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            factors[0] = 0


def test_bits_do_not_depend_on_threads(new: Make, make_matrix: Any) -> None:
    matrix = make_matrix(n_users=200, n_items=80)
    want = new(num_threads=1).fit(matrix)
    for num_threads in (2, 4, None):
        assert_same(new(num_threads=num_threads).fit(matrix), want)


def test_seed_decides(name: str, new: Make, dense: Any) -> None:
    matrix = sparse.csr_array(dense)
    assert_same(new().fit(matrix), new().fit(matrix))
    if name in SEEDED:
        assert_same(new(random_state=np.random.default_rng(0)).fit(matrix), new().fit(matrix))
        other = new(random_state=1).fit(matrix)
        assert (other.item_factors_ != new().fit(matrix).item_factors_).any()
        draw = np.random.default_rng(0)
        first, second = (new(random_state=draw).fit(matrix).item_factors_ for _ in range(2))
        assert (first != second).any()


def test_fits_at_once_equal_serial(new: Make, make_matrix: Any) -> None:
    matrices = [make_matrix(n_users=100) for _ in range(2)]
    want = [new(num_threads=2).fit(matrix) for matrix in matrices]
    got: list[Any] = [None, None]
    gate = threading.Barrier(2)

    def work(number: int) -> None:
        gate.wait()
        got[number] = new(num_threads=2).fit(matrices[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, serial in zip(got, want, strict=True):
        assert_same(mine, serial)


def test_state_round_trip(name: str, new: Make, dense: Any) -> None:
    model = new().fit(sparse.csr_array(dense))
    arrays, meta = model.state()
    again = type(model).from_state(arrays, json.loads(json.dumps(meta)))
    assert_same(again, model)
    assert again.state()[1] == meta
    assert repr(again) == repr(model)
    if name in FACTORED:
        folded = [each.fold_in([1, 4], [2.0, 3.0]) for each in (again, model)]
        np.testing.assert_array_equal(*folded)
    np.testing.assert_array_equal(again.recommend(2).scores, model.recommend(2).scores)


def test_pickle_keeps_the_model(name: str, new: Make, dense: Any) -> None:
    model = new().fit(sparse.csr_array(dense))
    again = pickle.loads(pickle.dumps(model))
    assert_same(again, model)
    np.testing.assert_array_equal(again.recommend(2).scores, model.recommend(2).scores)
    if name in FACTORED:
        np.testing.assert_array_equal(again.fold_in([0, 2], [1, 2]), model.fold_in([0, 2], [1, 2]))


def test_progress_draws_on_standard_error(new: Make, dense: Any, capfd: Any) -> None:
    matrix = sparse.csr_array(dense)
    new().fit(matrix)
    assert capfd.readouterr() == ("", "")
    model = new().fit(matrix, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert type(model).__name__ in err
    assert "%" in err


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.nan, ValueError, "matrix must hold finite .*, got nan"),
        (np.inf, ValueError, "matrix must hold finite .*, got inf"),
        (1e39, ValueError, r"matrix must hold .* that fit float32, got 1e\+39"),
        (1j, TypeError, "matrix must hold real numbers, got dtype complex128"),
    ],
)
def test_fit_refuses_values(new: Make, value: Any, error: Any, message: str) -> None:
    model = new()
    with pytest.raises(error, match=message):
        model.fit(sparse.csr_array(np.array([[1, value], [2, 0]])))
    with pytest.raises(NotFittedError):
        model.state()


def test_fit_refuses_other_things(new: Make, dense: Any) -> None:
    with pytest.raises(TypeError, match=r"matrix must be Interactions or a scipy sparse"):
        new().fit(dense)
    with pytest.raises(ValueError, match=r"matrix must be 2-D \(users, items\), got shape"):
        new().fit(sparse.coo_array(np.ones(3)))
    broken = sparse.csr_array(dense)
    broken.indices[0] = 1000
    with pytest.raises(ValueError, match=r"matrix must have indices in \[0, 24\), got 1000"):
        new().fit(broken)
    with pytest.raises(TypeError, match="progress must be a bool, got int"):
        new().fit(sparse.csr_array(dense), progress=1)


def test_recommend_orders_excludes_and_pads(new: Make, dense: Any) -> None:
    matrix = sparse.csr_array(dense)
    model = new().fit(matrix)
    ids, scores = model.recommend(0, k=24)
    assert sorted(ids.tolist()) == list(range(24))
    assert (np.diff(scores) <= 0).all()
    assert scores.dtype == np.float32
    for k in (0, 1, 7):
        np.testing.assert_array_equal(model.recommend(0, k=k).ids, ids[:k])
    seen = np.flatnonzero(dense[0])
    for row in (matrix[[0]], seen, seen.tolist()):
        left, rest = model.recommend(0, row, k=30)
        n_left = 24 - len(seen)
        np.testing.assert_array_equal(left[:n_left], ids[~np.isin(ids, seen)])
        assert left[n_left:].tolist() == [-1] * (6 + len(seen))
        assert (rest[n_left:] == -np.inf).all()
    with pytest.raises(ValueError, match=r"user_index must lie in \[0, 40\), got -1"):
        model.recommend(-1)
    with pytest.raises(ValueError, match="k must be >= 0, got -1"):
        model.recommend(0, k=-1)
    with pytest.raises(ValueError, match=r"user_items_row must lie in \[0, 24\), got 24"):
        model.recommend(0, [24])


@pytest.mark.parametrize("name", FACTORED)
@pytest.mark.parametrize(("ask", "n"), [("similar_items", 24), ("similar_users", 40)])
def test_similar_rows_are_others(new: Make, dense: Any, ask: str, n: int) -> None:
    similar = getattr(new().fit(sparse.csr_array(dense)), ask)
    ids, scores = similar(2, k=n + 3)
    assert sorted(ids[: n - 1].tolist()) == [row for row in range(n) if row != 2]
    assert ids[n - 1 :].tolist() == [-1] * 4
    assert (scores[n - 1 :] == -np.inf).all()
    assert (np.diff(scores[: n - 1]) <= 0).all()
    assert similar(2, k=0).ids.shape == (0,)
    with pytest.raises(ValueError, match=rf"_index must lie in \[0, {n}\), got {n}"):
        similar(n)
