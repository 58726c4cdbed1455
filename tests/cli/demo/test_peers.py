"""The comparison of the speed screen: the truth is the truth, and a wrong peer is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from recengine.cli.demo import peers, speed


@pytest.fixture
def case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return (
        rng.standard_normal((3000, 16), dtype=np.float32),
        rng.standard_normal((5, 16), dtype=np.float32),
    )


def test_truth_is_the_order_of_rounded_float64_scores(
    case: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "BLOCK", 700)
    vectors, queries = case
    vectors[10:20] = vectors[0]  # ties, which go by id
    queries[0] = vectors[0]
    ids, scores = peers.true_ids(vectors, queries, 12)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    np.testing.assert_allclose(scores, exact, rtol=1e-12)
    for row in range(len(queries)):
        rounded = exact[row].astype(np.float32)
        np.testing.assert_array_equal(ids[row], np.lexsort((np.arange(3000), -rounded))[:12])


def test_all_three_find_the_truth(case: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, queries = case
    truth, scores = peers.true_ids(vectors, queries, 10)
    with peers.by_onnxruntime(vectors, 10, 1) as graph:
        for search in (peers.flat_index(vectors, 10, 2), peers.by_numpy(vectors, 10), graph):
            assert peers.n_equal(search(queries), truth, scores, 1e-4) >= 48
            one = search(queries[:1])
            assert peers.n_equal(one, truth[:1], scores[:1], 1e-4) >= 9
    np.testing.assert_array_equal(peers.flat_index(vectors, 10, 1)(queries), truth)


def test_difference_beyond_rounding_is_refused() -> None:
    scores = np.array([[5.0, 4.0, 4.0 - 1e-7, 1.0]])
    truth = np.array([[0, 1]])
    assert peers.n_equal(truth, truth, scores, 0.0) == 2
    assert peers.n_equal(np.array([[0, 2]]), truth, scores, 1e-6) == 1
    with pytest.raises(AssertionError, match="query 0, place 1: item 2 instead of 1"):
        peers.n_equal(np.array([[0, 2]]), truth, scores, 0.0)
    with pytest.raises(AssertionError, match="item 3 instead of 1"):
        peers.n_equal(np.array([[0, 3]]), truth, scores, 1e-6)


def test_wrong_peer_stops_the_screen(case: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, queries = case
    right = peers.flat_index(vectors, speed.K, 1)
    searches = {"FlatIndex": right, "NumPy": lambda q: right(q)[:, ::-1]}
    with pytest.raises(AssertionError, match="instead of"):
        speed._compared(searches, vectors, queries)


def test_times_are_taken_in_turns() -> None:
    calls: list[str] = []
    searches = {name: lambda q, name=name: calls.append(name) for name in ("a", "b", "c")}
    times = speed._timed(searches, [np.zeros(1)] * 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}
