"""A user of several vectors gets exactly the items with the best maximum, ties and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_same_topk, best, scores

from recengine import FlatIndex, Interests, search_interests, where


def brute_force(
    metric: str, vectors: np.ndarray, interests: Any, k: int, excluded: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    users, indptr = interests
    table = np.full((len(indptr) - 1, len(vectors)), -np.inf, np.float32)
    for user in range(len(indptr) - 1):
        own = users[indptr[user] : indptr[user + 1]]
        if len(own):
            table[user] = scores(metric, own, vectors).max(axis=0)
        if excluded is not None:
            table[user, excluded[user]] = -np.inf
    return best(table, k, allowed=table > -np.inf)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_answers_equal_brute_force(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    rng = np.random.default_rng(seed)
    metric = data.draw(st.sampled_from(["cosine", "dot", "l2"]), "metric")
    n_items, dim = data.draw(st.integers(1, 40), "n_items"), data.draw(st.integers(1, 5), "dim")
    counts = data.draw(st.lists(st.integers(0, 4), min_size=0, max_size=6), "counts")
    k = data.draw(st.integers(0, n_items + 3), "k")
    few = data.draw(st.booleans(), "few values, so many ties")
    draw = (lambda *s: rng.integers(-1, 2, s)) if few else (lambda *s: rng.standard_normal(s))
    vectors = draw(n_items, dim).astype(np.float32)
    interests = Interests(draw(sum(counts), dim).astype(np.float32), np.cumsum([0, *counts]))
    index = FlatIndex(vectors, metric=metric)
    found = search_interests(index, interests, k)
    assert found.ids.shape == (len(counts), k)
    assert_same_topk(found, brute_force(metric, vectors, interests, k))
    seen = [rng.permutation(n_items)[: rng.integers(0, n_items + 1)] for _ in counts]
    found = search_interests(index, interests, k, exclude=seen)
    assert_same_topk(found, brute_force(metric, vectors, interests, k, seen))


def test_forms_of_interests_and_exclusions_agree(rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((50, 4)).astype(np.float32)
    users = rng.standard_normal((3, 2, 4)).astype(np.float32)
    index = FlatIndex(vectors, [f"i{n}" for n in range(50)], columns={"odd": np.arange(50) % 2})
    pair = users.reshape(6, 4), np.array([0, 2, 4, 6])
    seen = [[0, 7], [], [3]]
    expected = search_interests(index, pair, 5, exclude=[[f"i{n}" for n in s] for s in seen])
    csr = sp.csr_array((np.ones(3), ([0, 0, 2], [0, 7, 3])), shape=(3, 50))
    for exclude in (csr, (np.array([0, 2, 2, 3]), np.array([0, 7, 3]))):
        assert_same_topk(search_interests(index, users, 5, exclude=exclude), expected)
    odd = search_interests(index, users, 5, where=where(odd=1), min_score=0.0)
    assert all(int(name[1:]) % 2 for name in odd.ids.ravel() if name is not None)
    assert (odd.scores[odd.scores > -np.inf] >= 0).all()


def test_a_user_without_vectors_gets_padding(rng: np.random.Generator) -> None:
    index = FlatIndex(rng.standard_normal((5, 3)).astype(np.float32), list("abcde"))
    found = search_interests(index, (np.empty((0, 3), np.float32), [0, 0, 0]), 2)
    assert found.ids.tolist() == [[None, None]] * 2
    assert np.isneginf(found.scores).all()
    assert search_interests(index, (np.empty((0, 3), np.float32), [0]), 2).ids.shape == (0, 2)


def test_a_deadline_is_told(rng: np.random.Generator) -> None:
    index = FlatIndex(rng.standard_normal((5000, 8)).astype(np.float32))
    users = rng.standard_normal((2, 2, 8))
    assert search_interests(index, users, 2, timeout=0.0).partial
    assert not search_interests(index, users, 2).partial


@pytest.mark.parametrize(
    ("interests", "error", "message"),
    [
        (np.ones((2, 3)), ValueError, r"must be \(vectors, indptr\) or \(n_users, m, dim\)"),
        ((np.ones((2, 3)), [0, 1]), ValueError, "must rise from 0 to 2, the number of vectors"),
        ((np.ones((2, 3)), [0, 2, 1, 2]), ValueError, "must rise from 0 to 2"),
        ((np.ones((2, 3)), [0.0, 2.0]), TypeError, "must be 1-D integers"),
        ((np.ones((2, 3)), [0], 1), ValueError, r"must be \(vectors, indptr\), got 3 entries"),
        (np.ones((1, 1, 4)), ValueError, r"queries must have dim 3"),
    ],
)
def test_interests_are_checked(interests: Any, error: type[Exception], message: str) -> None:
    index = FlatIndex(np.eye(3, dtype=np.float32))
    with pytest.raises(error, match=message):
        search_interests(index, interests)
    with pytest.raises(TypeError, match="out must not be given"):
        search_interests(index, np.ones((1, 1, 3)), out=None)
