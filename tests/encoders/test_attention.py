"""Attention and interests of ragged histories, against plain float64 loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import attention, interests, pool_history
from recengine.encoders import ragged

DIM = 6


def attended(q: Any, k: Any, v: Any, mask: Any, t: float) -> np.ndarray:
    """softmax(Q Kᵀ / (T √d) + mask) V of one matrix of queries, entry by entry."""
    out = np.zeros((len(q), v.shape[1]))
    for i, query in enumerate(q):
        logits = [float(query @ key) / (t * math.sqrt(len(query))) + mask[i, j]
                  for j, key in enumerate(k)]  # fmt: skip
        allowed = [logit for logit in logits if logit > -math.inf]
        if allowed:
            raised = [math.exp(logit - max(allowed)) for logit in logits]
            out[i] = sum(w * row for w, row in zip(raised, v, strict=True)) / sum(raised)
    return out


def pooled(vectors: Any, rows: Any, weights: Any, query: Any, t: float) -> np.ndarray:
    """One user by the formula of `pool_history`."""
    kept = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight > 0]
    if not kept:
        return np.zeros(vectors.shape[1])
    h = vectors[[row for row, _ in kept]].astype(np.float64)
    w = np.array([weight for _, weight in kept])
    mean = (w @ h) / w.sum()
    if query is None:
        return mean
    q = {"last": h[-1], "mean": mean}[query] if isinstance(query, str) else query
    logits = h @ q / (t * math.sqrt(h.shape[1])) + np.log(w)
    shares = np.exp(logits - logits.max())
    return (shares / shares.sum()) @ h


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((40, DIM)).astype(np.float32)


@pytest.fixture
def histories(rng: np.random.Generator) -> list[np.ndarray]:
    lengths = [0, 1, 5, 0, 17, 2, 0]
    return [rng.integers(0, 40, length) for length in lengths]


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 1.0, 30.0])
def test_attention_equals_the_formula(rng: np.random.Generator, temperature: float) -> None:
    q, k = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 4))
    v, mask = rng.standard_normal((2, 5, 7)), rng.standard_normal((2, 3, 5))
    mask[rng.random(mask.shape) < 0.4] = -np.inf
    mask[1, 2] = -np.inf
    found = attention(q, k, v, mask, temperature)
    assert (found.dtype, found.shape) == (np.float32, (2, 3, 7))
    for one in range(2):
        expected = attended(q[one], k[one], v[one], mask[one], temperature)
        np.testing.assert_allclose(found[one], expected, rtol=1e-6, atol=1e-7)
    assert not found[1, 2].any()
    hidden = np.where(np.isneginf(mask), -np.inf, 0.0)
    np.testing.assert_array_equal(
        attention(q, k, v, ~np.isneginf(mask)), attention(q, k, v, hidden)
    )


def test_attention_of_huge_logits_is_the_nearest_value() -> None:
    q, k = [[1e20, 0.0]], [[1e20, 0.0], [-1e20, 0.0], [0.0, 1e20]]
    found = attention(q, k, [[1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(found, [[1.0]])


def test_attention_without_keys_is_zero() -> None:
    found = attention(np.ones((2, 3)), np.empty((0, 3)), np.empty((0, 4)))
    np.testing.assert_array_equal(found, np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": np.ones((2, 4))}, ValueError, "keys must have the dim of queries, 4, got 3"),
        ({"values": np.ones((3, 2))}, ValueError, "values must have a row per key, 5, got 3"),
        ({"keys": np.full((5, 3), np.nan)}, ValueError, "keys must be finite, got nan"),
        ({"queries": np.ones(3)}, ValueError, r"queries must be \(..., rows, dim\)"),
        ({"values": np.full((5, 2), "a")}, TypeError, "values must hold real numbers"),
        ({"mask": np.full((2, 5), np.nan)}, ValueError, "mask must hold finite numbers and -inf"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0, got 0"),
    ],
)
def test_attention_refuses(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "queries": np.ones((2, 3)), "keys": np.ones((5, 3)), "values": np.ones((5, 2)),
    }  # fmt: skip
    with pytest.raises(error, match=message):
        attention(**(arguments | change))


# --- pooling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["last", "mean", None, np.arange(DIM) / 3.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_pooling_equals_the_formula(
    vectors: np.ndarray,
    histories: list[np.ndarray],
    rng: np.random.Generator,
    query: Any,
    temperature: float,
) -> None:
    strength = [rng.choice([0.0, 0.5, 1.0, 7.0], len(rows)) for rows in histories]
    strength[2][-1] = 0.0  # so the last event that counts is another one
    ages = [rng.uniform(0, 90, len(rows)) for rows in histories]
    found = pool_history(
        vectors, histories, query,
        weights=strength, ages=ages, half_life=30.0, temperature=temperature,
    )  # fmt: skip
    for user, rows in enumerate(histories):
        weights = strength[user] * 0.5 ** (ages[user] / 30.0)
        expected = pooled(vectors, rows, weights, query, temperature)
        np.testing.assert_allclose(found[user], expected, rtol=1e-6, atol=1e-6)
    assert not found[[0, 3, 6]].any()
    flat = np.concatenate(histories), np.concatenate(strength), np.concatenate(ages)
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in histories])])
    again = pool_history(
        vectors, (indptr, flat[0]), query,
        weights=flat[1], ages=flat[2], half_life=30.0, temperature=temperature,
    )  # fmt: skip
    np.testing.assert_array_equal(again, found)


@given(st.lists(st.lists(st.integers(0, 39), max_size=12), min_size=1, max_size=9), st.data())
@settings(deadline=None, max_examples=40)
def test_a_user_has_the_same_bits_alone_and_in_any_batch(
    histories: list[list[int]], data: st.DataObject
) -> None:
    vectors = np.random.default_rng(3).standard_normal((40, DIM)).astype(np.float32)
    block = data.draw(st.sampled_from([1, 20, ragged.BLOCK]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "BLOCK", block)
        for query in ("last", "mean", None):
            together = pool_history(vectors, histories, query)
            alone = [pool_history(vectors, [history], query)[0] for history in histories]
            np.testing.assert_array_equal(together, alone)
        found = interests(vectors, histories, 3)
    apart = [interests(vectors, [history], 3).vectors for history in histories]
    np.testing.assert_array_equal(found.vectors, np.concatenate(apart))
    assert np.diff(found.indptr).tolist() == [len(one) for one in apart]


def test_one_event_is_itself_and_a_query_each_is_taken(vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(pool_history(vectors, [[7], [9]]), vectors[[7, 9]])
    queries = np.stack([vectors[1], -vectors[1]]) * 100
    near, far = pool_history(vectors, [[1, 2], [1, 2]], queries)
    np.testing.assert_allclose(near, vectors[1], atol=1e-5)
    np.testing.assert_allclose(far, vectors[2], atol=1e-5)


def test_no_users_and_no_items_are_defined(vectors: np.ndarray) -> None:
    assert pool_history(vectors, []).shape == (0, DIM)
    assert pool_history(vectors[:0], [[], []]).tolist() == [[0.0] * DIM] * 2
    assert interests(vectors, [[], []]).indptr.tolist() == [0, 0, 0]
    assert interests(vectors, []).vectors.shape == (0, DIM)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"histories": [[40]]}, ValueError, r"histories must lie in \[0, 40\), got 40"),
        ({"histories": [[0.5]]}, TypeError, "histories must be 1-D integers"),
        ({"histories": 3}, TypeError, r"histories must be \(indptr, rows\) or a list of arrays"),
        ({"histories": ([0, 2], [1])}, ValueError, "must rise from 0 to the number of events, 1"),
        ({"histories": [[[1]]]}, ValueError, r"one 1-D array per user, got shape \(1, 1\)"),
        ({"weights": [1.0]}, ValueError, r"weights must have one entry per event \(2\)"),
        ({"weights": [[1.0, 1.0]]}, ValueError, "weights must have the lengths of histories"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights must be finite and >= 0, got -1"),
        ({"ages": [1.0, 2.0]}, ValueError, "ages and half_life must be given together"),
        ({"ages": [1.0, np.inf], "half_life": 1}, ValueError, "ages must be finite and >= 0"),
        ({"half_life": 0, "ages": [1, 2]}, ValueError, "half_life must be > 0"),
    ],
)
def test_histories_are_checked(
    vectors: np.ndarray, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"vectors": vectors, "histories": [[1], [2]]} | change
    for function in (pool_history, interests):
        with pytest.raises(error, match=message):
            function(**arguments)


def test_a_query_is_checked(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="query must be 'last', 'mean', None or vectors"):
        pool_history(vectors, [[1]], "first")
    with pytest.raises(ValueError, match="or have a row per user, 1, got 2"):
        pool_history(vectors, [[1]], vectors[:2])
    with pytest.raises(ValueError, match="query must have 6 columns, got 3"):
        pool_history(vectors, [[1]], np.ones(3))
    with pytest.raises(ValueError, match="temperature must be > 0"):
        pool_history(vectors, [[1]], temperature=0)


# --- interests ------------------------------------------------------------------------------------


def test_interests_are_the_groups_there_are(rng: np.random.Generator) -> None:
    """Three directions with noise: three means, the heaviest first."""
    centres = np.eye(3, DIM)
    kind = np.repeat([0, 1, 2], [3, 9, 6])
    noise = 0.05 * rng.standard_normal((18, DIM))
    vectors = (centres[kind] + noise).astype(np.float32)
    rows = rng.permutation(18)
    found = interests(vectors, [rows, rows[:0], rows[:1]], 3)
    assert found.indptr.tolist() == [0, 3, 3, 4]
    expected = [vectors[kind == one].astype(np.float64).mean(axis=0) for one in (1, 2, 0)]
    np.testing.assert_allclose(found.vectors[:3], expected, rtol=1e-5, atol=1e-6)
    weights = np.where(kind[rows] == 0, 9.0, 1.0)
    heavy = interests(vectors, [rows], 3, weights=weights)
    np.testing.assert_allclose(heavy.vectors[0], expected[2], rtol=1e-5, atol=1e-6)


def test_no_more_interests_than_directions(vectors: np.ndarray) -> None:
    found = interests(vectors, [[3, 3, 3], [4, 5]], 4)
    assert found.indptr.tolist() == [0, 1, 3]
    np.testing.assert_allclose(found.vectors[0], vectors[3], rtol=1e-6)
    one = interests(vectors, [[4, 5, 6]], 1).vectors
    np.testing.assert_array_equal(one, pool_history(vectors, [[4, 5, 6]], None))
    with pytest.raises(ValueError, match="most must be >= 1, got 0"):
        interests(vectors, [[1]], 0)
