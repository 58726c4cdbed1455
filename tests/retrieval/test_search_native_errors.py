"""A wrong call straight into the native search raises; it never reads outside its arrays."""

from __future__ import annotations

import numpy as np
import pytest

from recengine import _native
from recengine.retrieval import _score, _search

N, DIM, N_QUERIES = 70, 6, 3
I64, F32 = np.int64, np.float32


def arguments():
    """Return (positional by name, options) of a call that is right."""
    vectors = np.ones((N, DIM), F32)
    norms = _score.squared_norms(_native.api(), vectors)
    return {
        "api": _native.api(),
        "metric": 1,
        "queries": np.ones((N_QUERIES, DIM), F32),
        "vectors": vectors,
        "sq_norms": norms,
        "reach": _score.reach(1, norms),
        "k": 4,
    }


SEARCH_WRONG = {
    "api is not a capsule": {"api": object()},
    "api is None": {"api": None},
    "metric above": {"metric": 3},
    "metric below": {"metric": -1},
    "queries float64": {"queries": np.ones((N_QUERIES, DIM))},
    "queries 1-D": {"queries": np.ones(DIM, F32)},
    "queries strided": {"queries": np.ones((N_QUERIES, 2 * DIM), F32)[:, ::2]},
    "queries wrong dim": {"queries": np.ones((N_QUERIES, DIM + 1), F32)},
    "queries None": {"queries": None},
    "vectors None": {"vectors": None},
    "nothing at all": {"queries": None, "vectors": None, "sq_norms": None, "reach": None},
    "vectors Fortran": {"vectors": np.asfortranarray(np.ones((N, DIM), F32))},
    "norms short": {"sq_norms": np.ones(N - 1)},
    "norms float32": {"sq_norms": np.ones(N, F32)},
    "norms None": {"sq_norms": None},
    "reach short": {"reach": np.ones(N - 1, F32)},
    "reach float64": {"reach": np.ones(N)},
    "reach None": {"reach": None},
    "k negative": {"k": -1},
    "k float": {"k": 1.5},
    "alive short": {"alive": np.zeros(1, np.uint64)},
    "alive int64": {"alive": np.zeros(2, I64)},
    "ordinals short": {"ordinals": np.zeros(N - 1, I64)},
    "mask int64": {"mask": np.zeros(2, I64)},
    "rows above": {"rows": np.array([N], I64)},
    "rows below": {"rows": np.array([-1], I64)},
    "rows falling": {"rows": np.array([3, 2], I64)},
    "rows twice": {"rows": np.array([3, 3], I64)},
    "rows int32": {"rows": np.array([1], np.int32)},
    "exclude without rows": {"exclude_indptr": np.zeros(N_QUERIES + 1, I64)},
    "exclude without indptr": {"exclude_rows": np.zeros(1, I64)},
    "exclude indptr short": {"exclude_indptr": np.zeros(2, I64), "exclude_rows": np.zeros(0, I64)},
    "exclude indptr beyond": {
        "exclude_indptr": np.array([0, 0, 0, 9], I64),
        "exclude_rows": np.zeros(1, I64),
    },
    "exclude indptr below": {
        "exclude_indptr": np.array([-5, 0, 0, 1], I64),
        "exclude_rows": np.zeros(1, I64),
    },
    "exclude indptr falling": {
        "exclude_indptr": np.array([0, 99, -7, 1], I64),
        "exclude_rows": np.zeros(1, I64),
    },
    "bias short": {"bias": np.zeros(N - 1, F32)},
    "bias float64": {"bias": np.zeros(N)},
    "bias with l2": {"metric": 2, "bias": np.zeros(N, F32)},
    "threads zero": {"num_threads": 0},
}


@pytest.mark.parametrize("wrong", SEARCH_WRONG.values(), ids=SEARCH_WRONG.keys())
def test_search_refuses(wrong):
    given = {**arguments(), **wrong}
    with pytest.raises((ValueError, TypeError)):
        _search.search(**given)


RANK_WRONG = {
    "indptr short": {"indptr": np.array([0, 0], I64)},
    "indptr beyond": {"indptr": np.array([0, 0, 0, 9], I64)},
    "indptr falling": {"indptr": np.array([0, 99, -7, 2], I64)},
    "rows above": {"rows": np.array([0, N], I64)},
    "rows below": {"rows": np.array([-1, 0], I64)},
    "rows float": {"rows": np.zeros(2)},
    "norms short": {"sq_norms": np.ones(N - 1)},
    "queries wrong dim": {"queries": np.ones((N_QUERIES, DIM - 1), F32)},
    "metric": {"metric": 9},
    "bias short": {"bias": np.zeros(3, F32)},
    "threads": {"num_threads": 0},
    "api": {"api": 1},
}


@pytest.mark.parametrize("wrong", RANK_WRONG.values(), ids=RANK_WRONG.keys())
def test_rank_refuses(wrong):
    given = arguments()
    del given["k"], given["reach"]
    given |= {"indptr": np.array([0, 1, 2, 2], I64), "rows": np.array([0, 1], I64)}
    assert _score.rank(**given).shape == (2,)
    with pytest.raises((ValueError, TypeError)):
        _score.rank(**{**given, **wrong})


@pytest.mark.parametrize(
    "call",
    [
        lambda: _score.squared_norms(_native.api(), np.ones((2, 2))),
        lambda: _score.squared_norms(_native.api(), np.ones(2, F32)),
        lambda: _score.squared_norms(None, np.ones((2, 2), F32)),
        lambda: _score.pairwise(_native.api(), 0, np.ones((2, 2), F32), np.ones((2, 3), F32)),
        lambda: _score.pairwise(_native.api(), 5, np.ones((2, 2), F32), np.ones((2, 2), F32)),
        lambda: _score.pairwise(_native.api(), 0, np.ones((2, 2)), np.ones((2, 2), F32)),
        lambda: _score.pairwise(_native.api(), 0, None, np.ones((2, 2), F32)),
        lambda: _score.pairwise(
            _native.api(), 0, np.ones((2, 2), F32), np.ones((2, 2), F32), num_threads=0
        ),
        lambda: _score.reach(3, np.ones(2)),
        lambda: _score.reach(0, np.ones(2, F32)),
        lambda: _score.reach(0, None),
        lambda: _native.api("sse9"),
    ],
)
def test_small_doors_refuse(call):
    with pytest.raises((ValueError, TypeError)):
        call()
