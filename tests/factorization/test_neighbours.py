"""ItemKNN and UserKNN against dense NumPy and implicit, at any thread count."""

from __future__ import annotations

import threading
from typing import Any

import neighbour_oracle as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from recengine import Interactions, ItemKNN, NotFittedError, UserKNN
from recengine.factorization import _layout
from recengine.factorization._rows import as_events

OPTIONS: list[dict[str, Any]] = [
    {"similarity": "cosine"},
    {"similarity": "cosine", "shrinkage": 7.5},
    {"similarity": "tfidf"},
    {"similarity": "tfidf", "shrinkage": 0.5},
    {"similarity": "bm25"},
]


def parts(matrix: Any) -> list[tuple[Any, Any, str]]:
    """Return (model, documents, name of the attribute) for items and users."""
    dense = matrix.toarray()
    return [(ItemKNN, dense.T, "item_neighbours_"), (UserKNN, dense, "user_neighbours_")]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("neighbours", [1, 7, 1000])
def test_neighbours_equal_oracle(make_matrix: Any, options: Any, neighbours: int) -> None:
    matrix = make_matrix(n_users=90, n_items=70)
    for kind, documents, name in parts(matrix):
        got = getattr(kind(neighbours, **options).fit(matrix), name)
        scores = oracle.similarities(documents, **options)
        dense = got.toarray()
        np.testing.assert_allclose(dense[dense > 0], scores[dense > 0], rtol=1e-6)
        want = oracle.nearest(scores, neighbours)
        np.testing.assert_allclose(np.sort(dense, 1), np.sort(want, 1), rtol=1e-6, atol=1e-7)
        if options["similarity"] == "cosine":  # sums of integers: exact, ties and all
            np.testing.assert_array_equal(dense, want)
        assert isinstance(got, csr_array)
        assert got.has_canonical_format
        assert got.dtype == np.float32
        assert not got.diagonal().any()
        assert not got.data.flags.writeable


@given(
    cells=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 2)), max_size=50),
    neighbours=st.integers(1, 7),
    shrinkage=st.sampled_from([0.0, 1.5]),
)
def test_ties_fall_to_the_lower_index(cells: Any, neighbours: int, shrinkage: float) -> None:
    dense = np.zeros((7, 6), np.float32)
    for user, item, weight in cells:
        dense[user, item] = weight
    for kind, documents, name in parts(csr_array(dense)):
        model = kind(neighbours, shrinkage=shrinkage, num_threads=1).fit(csr_array(dense))
        want = oracle.nearest(oracle.similarities(documents, "cosine", shrinkage), neighbours)
        np.testing.assert_array_equal(getattr(model, name).toarray(), want)


@pytest.mark.parametrize("cache", [8, 2000, 2**19])
@pytest.mark.parametrize("density", [0.003, 0.2])
def test_neighbours_do_not_depend_on_blocks_or_threads(
    monkeypatch: pytest.MonkeyPatch, cache: int, density: float
) -> None:
    draw = np.random.default_rng(8)
    matrix = random_array((400, 900), density=density, rng=draw, dtype=np.float32).tocsr()
    monkeypatch.setattr(_layout, "_CACHE_BYTES", cache)
    scores = oracle.similarities(matrix.toarray().T, "cosine")
    models = [ItemKNN(5, num_threads=n).fit(matrix) for n in (1, 2, 5, None)]
    dense = models[0].item_neighbours_.toarray()
    np.testing.assert_allclose(dense, oracle.nearest(scores, 5), rtol=1e-6)
    for model in models[1:]:
        assert (model.item_neighbours_ != models[0].item_neighbours_).nnz == 0


def test_neighbours_do_not_depend_on_the_order_of_users(make_matrix: Any, rng: Any) -> None:
    matrix = make_matrix(n_users=200)
    want = ItemKNN(5).fit(matrix).item_neighbours_
    shuffled = matrix[rng.permutation(200)]
    assert (ItemKNN(5).fit(shuffled).item_neighbours_ != want).nnz == 0


def test_neighbours_equal_implicit(make_matrix: Any) -> None:
    peer = pytest.importorskip("implicit.nearest_neighbours", reason="implicit is not installed")
    from scipy.sparse import csr_matrix

    matrix = make_matrix(n_users=300, n_items=120)
    for options, theirs in (
        ({"similarity": "cosine"}, peer.CosineRecommender(K=120)),
        ({"similarity": "tfidf"}, peer.TFIDFRecommender(K=120)),
        ({"similarity": "bm25"}, peer.BM25Recommender(K=120)),
    ):
        with pytest.warns(match="Method expects CSR input"):
            theirs.fit(csr_matrix(matrix), show_progress=False)
        want = theirs.similarity.toarray()
        np.fill_diagonal(want, 0)
        got = ItemKNN(120, **options).fit(matrix).item_neighbours_.toarray()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", OPTIONS)
def test_recommend_equals_oracle(make_matrix: Any, options: Any) -> None:
    matrix = make_matrix()
    dense = matrix.toarray().astype(np.float64)
    items, users = ItemKNN(6, **options).fit(matrix), UserKNN(6, **options).fit(matrix)
    for model, want in (
        (items, dense @ items.item_neighbours_.toarray()),
        (users, users.user_neighbours_.toarray().astype(np.float64) @ dense),
    ):
        for user in (0, 31, 59):
            ids, scores = model.recommend(user, k=43)
            np.testing.assert_allclose(scores[:40], want[user][ids[:40]], rtol=1e-6, atol=1e-9)
            assert ids[40:].tolist() == [-1, -1, -1]
            ids, scores = model.recommend(user, matrix[[user]], k=12)
            assert not dense[user, ids].any()
            left = np.where(dense[user] > 0, -1, want[user])
            np.testing.assert_allclose(scores, np.sort(left)[::-1][:12], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_recommend_for_a_row_of_the_matrix(make_matrix: Any, options: Any) -> None:
    matrix = make_matrix()
    model = ItemKNN(6, **options).fit(matrix)
    for user in (3, 40):
        want = model.recommend(user, matrix[[user]], k=9)
        got = model.recommend_for(matrix[[user]], k=9)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.scores, want.scores)
        got = model.recommend_for(matrix[[user]], k=9, exclude_seen=False)
        np.testing.assert_array_equal(got.ids, model.recommend(user, k=9).ids)


@pytest.mark.parametrize("options", OPTIONS)
def test_user_neighbours_of_an_unknown_user_are_those_of_fit(
    make_matrix: Any, options: Any
) -> None:
    matrix = make_matrix()
    model = UserKNN(6, **options).fit(matrix)
    wider = UserKNN(7, **options).fit(matrix)
    for user in (3, 40):
        found, scores = wider._nearest_users(
            wider._require(), as_events(matrix[[user]], matrix.shape[1])
        )
        others = found != user
        got = np.zeros(matrix.shape[0], np.float32)
        got[found[others]] = scores[others]
        want = wider.user_neighbours_.toarray()[user]
        kept = np.argsort(-want, kind="stable")[: int(others.sum())]
        np.testing.assert_allclose(got[kept], want[kept], rtol=1e-6)
    ids, _ = model.recommend_for([0, 3, 3], k=5)
    assert not {0, 3} & set(ids.tolist())


def test_similar_rows_are_the_neighbours(make_matrix: Any) -> None:
    matrix = make_matrix()
    items, users = ItemKNN(4).fit(matrix), UserKNN(4).fit(matrix)
    for got, row in (
        (items.similar_items(5, k=6), items.item_neighbours_[[5]].toarray()[0]),
        (users.similar_users(5, k=6), users.user_neighbours_[[5]].toarray()[0]),
    ):
        want = np.lexsort((np.arange(len(row)), -row))[:4]
        assert got.ids.tolist() == [*want, -1, -1]
        np.testing.assert_array_equal(got.scores[:4], row[want])
        assert np.isneginf(got.scores[4:]).all()


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[4]])
def test_state_round_trip(make_matrix: Any, kind: Any, options: Any) -> None:
    model = kind(5, **options).fit(make_matrix())
    arrays, meta = model.state()
    again = kind.from_state(arrays, meta)
    for user in (0, 9):
        np.testing.assert_array_equal(again.recommend(user).scores, model.recommend(user).scores)
        np.testing.assert_array_equal(
            again.recommend_for([1, user]), model.recommend_for([1, user])
        )
    assert repr(again) == repr(model)
    with pytest.raises(ValueError, match="arrays must hold matrix_indptr"):
        kind.from_state({k: v for k, v in arrays.items() if k != "matrix_indptr"}, meta)
    with pytest.raises(ValueError, match="meta must hold k1"):
        kind.from_state(arrays, {k: v for k, v in meta.items() if k != "k1"})
    bad = arrays | {"neighbours_indices": arrays["neighbours_indices"] + 60}
    with pytest.raises(ValueError, match="arrays must describe neighbours of shape"):
        kind.from_state(bad, meta)


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3), (1, 1)])
def test_fit_of_nothing(kind: Any, similarity: str, shape: tuple[int, int]) -> None:
    model = kind(similarity=similarity).fit(csr_array(shape))
    ids, scores = model.recommend_for([], k=4)
    want = [*range(shape[1]), -1, -1, -1, -1][:4]
    assert ids.tolist() == want
    assert scores.tolist() == [0.0 if item >= 0 else -np.inf for item in want]


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
def test_fit_keeps_its_own_copy_and_takes_any_layout(make_matrix: Any, kind: Any) -> None:
    matrix = make_matrix()
    want = kind(5).fit(matrix).recommend(3)
    wide = csr_array(
        (matrix.data.astype(np.float64), matrix.indices.astype(np.int64), matrix.indptr),
        shape=matrix.shape,
    )
    for given_matrix in (wide, matrix.tocsc(), matrix.tocoo(copy=True), matrix.copy()):
        model = kind(5).fit(given_matrix)
        given_matrix.data[:] = 0
        np.testing.assert_array_equal(model.recommend(3).scores, want.scores)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    np.testing.assert_array_equal(kind(5).fit(matrix).recommend(3).ids, want.ids)
    events = Interactions.from_arrays([1, 1, 2, 3], [7, 8, 7, 8])
    assert kind(5).fit(events).recommend(0, k=2).ids.tolist() == [0, 1]


def test_answers_from_threads_equal_serial(make_matrix: Any) -> None:
    matrices = [make_matrix(n_users=150) for _ in range(4)]
    want = [ItemKNN(5).fit(matrix).item_neighbours_ for matrix in matrices]
    got: list[Any] = [None] * 4
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        got[number] = ItemKNN(5, num_threads=2).fit(matrices[number]).item_neighbours_

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((mine != serial).nnz == 0 for mine, serial in zip(got, want, strict=True))


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"neighbours": 0}, ValueError, "neighbours must be >= 1, got 0"),
        ({"neighbours": 2.0}, TypeError, "neighbours must be an integer, got float"),
        ({"similarity": "dot"}, ValueError, "similarity must be one of 'cosine', 'bm25', 'tfidf'"),
        ({"shrinkage": -1}, ValueError, "shrinkage must be >= 0, got -1"),
        ({"similarity": "bm25", "shrinkage": 1}, ValueError, "shrinkage must be 0 for similarity="),
        ({"k1": 1.0}, ValueError, r'k1 must be None unless similarity="bm25", got 1\.0'),
        ({"b": 1.0}, ValueError, r'b must be None unless similarity="bm25", got 1\.0'),
        ({"similarity": "bm25", "b": 1.5}, ValueError, r"b must be <= 1, got 1\.5"),
        ({"num_threads": 0}, ValueError, "num_threads must be >= 1, got 0"),
    ],
)
def test_models_refuse(kind: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
def test_requests_refuse(make_matrix: Any, kind: Any) -> None:
    with pytest.raises(NotFittedError, match=f"this {kind.__name__} is not fitted"):
        kind().recommend(0)
    with pytest.raises(ValueError, match="matrix must hold weights >= 0, got -1"):
        kind().fit(csr_array([[-1.0]]))
    model = kind().fit(make_matrix())
    with pytest.raises(ValueError, match=r"user_index must lie in \[0, 60\), got 60"):
        model.recommend(60)
    with pytest.raises(ValueError, match=r"user_items_row must lie in \[0, 40\), got 40"):
        model.recommend_for([40])
    with pytest.raises(ValueError, match=r"user_items_row must have shape \(1, 40\)"):
        model.recommend_for(csr_array((1, 3)))
    with pytest.raises(TypeError, match="exclude_seen must be a bool, got int"):
        model.recommend_for([0], exclude_seen=1)
    with pytest.raises(ValueError, match="k must be >= 0, got -1"):
        model.recommend_for([0], k=-1)
