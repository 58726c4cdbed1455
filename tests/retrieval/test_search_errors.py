"""Wrong arguments, by type and message, through the public door."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import recengine as rec

NAN, INF = float("nan"), float("inf")


def index(ids=(5, 6, 7)):
    return rec.FlatIndex(np.eye(3, 4), ids=list(ids))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rec.FlatIndex(np.ones(3)), ValueError, r"vectors must be 2-D"),
        (lambda: rec.FlatIndex(np.ones((2, 0))), ValueError, r"vectors must have dim >= 1"),
        (lambda: rec.FlatIndex([["a"]]), TypeError, r"vectors must hold real numbers"),
        (lambda: rec.FlatIndex([[1j]]), TypeError, r"vectors must hold real numbers"),
        (
            lambda: rec.FlatIndex([[1, NAN]]),
            ValueError,
            r"vectors must be finite, got nan at \(0, 1\)",
        ),
        (
            lambda: rec.FlatIndex([[1], [INF]]),
            ValueError,
            r"vectors must be finite, got inf at \(1, 0\)",
        ),
        (lambda: rec.FlatIndex([[1e39]]), ValueError, r"vectors must fit float32"),
        (
            lambda: rec.FlatIndex(np.eye(2), metric="ip"),
            ValueError,
            r"metric must be one of 'cosine', 'dot', 'l2', got 'ip'",
        ),
        (
            lambda: rec.FlatIndex(np.eye(2), ids=[1]),
            ValueError,
            r"ids must have one entry per vector \(2\), got 1",
        ),
        (lambda: rec.FlatIndex(np.eye(2), ids=[3, 3]), ValueError, r"ids must be unique, got 3"),
        (
            lambda: rec.FlatIndex(np.eye(2), ids=["a", "a"]),
            ValueError,
            r"ids must be unique, got 'a'",
        ),
        (lambda: rec.FlatIndex(np.eye(2), ids=[0, -1]), ValueError, r"ids must not contain -1"),
        (
            lambda: rec.FlatIndex(np.eye(2), ids=[1, "a"]),
            TypeError,
            r"ids must be all integers or all strings",
        ),
        (lambda: rec.FlatIndex(np.eye(2), ids=[1.0, 2.0]), TypeError, r"ids must be"),
        (
            lambda: rec.FlatIndex(np.eye(2), ids="ab"),
            TypeError,
            r"ids must be a sequence of ids, got str",
        ),
        (
            lambda: rec.FlatIndex(np.eye(2), ids=2),
            TypeError,
            r"ids must be a sequence of ids, got int",
        ),
        (lambda: rec.FlatIndex(np.eye(2), ids=[0, 2**63]), ValueError, r"ids must fit int64"),
    ],
)
def test_constructor_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.ones(3),), {}, ValueError, r"queries must have dim 4"),
        ((np.ones((1, 1, 4)),), {}, ValueError, r"queries must be \(dim,\) or \(n, dim\)"),
        ((1.0,), {}, ValueError, r"queries must have dim 4, got shape"),
        (([NAN] * 4,), {}, ValueError, r"queries must be finite"),
        (([INF] * 4,), {}, ValueError, r"queries must be finite"),
        ((["a"] * 4,), {}, TypeError, r"queries must hold real numbers"),
        ((np.ones(4), -1), {}, ValueError, r"k must be >= 0, got -1"),
        ((np.ones(4), 2.5), {}, TypeError, r"k must be an integer, got float"),
        ((np.ones(4), True), {}, TypeError, r"k must be an integer, got bool"),
        ((np.ones(4),), {"num_threads": 0}, ValueError, r"num_threads must be >= 1, got 0"),
        ((np.ones(4),), {"num_threads": "2"}, TypeError, r"num_threads must be an integer"),
        ((np.ones(4),), {"min_score": NAN}, ValueError, r"min_score must be finite"),
        ((np.ones(4),), {"min_score": "0"}, TypeError, r"min_score must be a number"),
        ((np.ones(4),), {"timeout": -1}, ValueError, r"timeout must be >= 0, got -1"),
        ((np.ones(4),), {"timeout": INF}, ValueError, r"timeout must be finite"),
        (
            (np.ones(4),),
            {"allow": ["a"]},
            TypeError,
            r"allow must be integers as in the index, got 'a'",
        ),
        ((np.ones(4),), {"allow": 5}, TypeError, r"allow must be a sequence of ids, got int"),
        ((np.ones(4),), {"deny": [[5]]}, ValueError, r"deny must be 1-D"),
        ((np.ones(4),), {"deny": [-1]}, ValueError, r"deny must not contain -1"),
        ((np.ones(4),), {"deny": "ab"}, TypeError, r"deny must be a sequence of ids, got str"),
        ((np.ones(4),), {"exclude": 5}, TypeError, r"exclude must be a sequence of ids, got int"),
        (
            (np.ones((2, 4)),),
            {"exclude": [[5]]},
            ValueError,
            r"exclude must hold one id array per query \(2\), got 1",
        ),
        (
            (np.ones((2, 4)),),
            {"exclude": [5, 6]},
            TypeError,
            r"one id array per query.*go into deny or allow",
        ),
        ((np.ones((2, 4)),), {"exclude": ["ab", "cd"]}, TypeError, r"an entry of type str"),
        (
            (np.ones((2, 4)),),
            {"exclude": "ab"},
            TypeError,
            r"exclude must be a list of id arrays, got str",
        ),
        (
            (np.ones((2, 4)),),
            {"exclude": 7},
            TypeError,
            r"exclude must be a list of id arrays, got int",
        ),
        (
            (np.ones(4),),
            {"exclude": ([0, 1], [0], [1])},
            ValueError,
            r"must be \(indptr, indices\), got 3",
        ),
        (
            (np.ones(4),),
            {"exclude": ([0], [0])},
            ValueError,
            r"exclude indptr must have 2 entries, got 1",
        ),
        ((np.ones(4),), {"exclude": ([0, 2], [0])}, ValueError, r"exclude indptr must rise from 0"),
        (
            (np.ones((2, 4)),),
            {"exclude": ([0, 2, 1], [0])},
            ValueError,
            r"exclude indptr must rise from 0",
        ),
        (
            (np.ones(4),),
            {"exclude": ([0, 1], [3])},
            ValueError,
            r"exclude must hold ordinals in \[0, 3\), got 3",
        ),
        (
            (np.ones(4),),
            {"exclude": ([0, 1], [-1])},
            ValueError,
            r"exclude must hold ordinals in \[0, 3\), got -1",
        ),
        (
            (np.ones(4),),
            {"exclude": ([0, 1], [0.5])},
            TypeError,
            r"exclude indices must be 1-D integers",
        ),
        (
            (np.ones(4),),
            {"exclude": scipy.sparse.csr_array((2, 3))},
            ValueError,
            r"one row per query \(1\)",
        ),
    ],
)
def test_search_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        index().search(*arguments, **options)


@pytest.mark.parametrize(
    ("queries", "candidates", "k", "error", "message"),
    [
        (np.ones(4), 5, None, TypeError, r"candidates must be a sequence of ids, got int"),
        (np.ones(4), "ab", None, TypeError, r"candidates must be a sequence of ids, got str"),
        (
            np.ones(4),
            ["ab"],
            None,
            TypeError,
            r"candidates must be integers as in the index",
        ),
        (np.ones((2, 4)), [[5]], None, ValueError, r"candidates must hold one id array per query"),
        (np.ones((2, 4)), [5, 6], None, TypeError, r"candidates must hold one id array per query"),
        (np.ones(4), [5, -1], None, ValueError, r"candidates must not contain -1"),
        (np.ones(4), [5], -2, ValueError, r"k must be >= 0, got -2"),
        (np.ones(5), [5], None, ValueError, r"queries must have dim 4"),
    ],
)
def test_rank_refuses(queries, candidates, k, error, message):
    with pytest.raises(error, match=message):
        index().rank(queries, candidates, k)


def test_rank_reads_candidates_of_any_iterable_once():
    want = index().rank(np.ones(4), [7, 5, 5])
    got = index().rank(np.ones(4), (item for item in (7, 5, 5)))
    assert got.ids.tolist() == want.ids.tolist() == [5, 7, -1]
    for several in ((ids for ids in ([5], [6])), [[5], (item for item in [6])]):
        with pytest.raises(TypeError, match=r"candidates must .*got .*generator"):
            index().rank(np.ones((2, 4)), several)


@pytest.mark.parametrize(
    ("ids", "vectors", "error", "message"),
    [
        ([8], np.ones((1, 3)), ValueError, r"vectors must have 4 columns, got 3"),
        ([8], np.ones((2, 4)), ValueError, r"vectors must have 1 rows, got 2"),
        ([8, 8], np.ones((2, 4)), ValueError, r"ids must be distinct, got 8 twice"),
        ([-1], np.ones((1, 4)), ValueError, r"ids must not contain -1"),
        ([8], np.full((1, 4), NAN), ValueError, r"vectors must be finite"),
        (["a"], np.ones((1, 4)), TypeError, r"ids must be integers as in the index, got 'a'"),
        (8, np.ones((1, 4)), TypeError, r"ids must be a sequence of ids, got int"),
    ],
)
def test_upsert_refuses_and_changes_nothing(ids, vectors, error, message):
    target = index()
    with pytest.raises(error, match=message):
        target.upsert(ids, vectors)
    assert target.ids.tolist() == [5, 6, 7]
    assert target.n_ordinals == 3


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([5, 9], rec.UnknownItemError, r"ids must be in the index, got 9"),
        ([5, 5], ValueError, r"ids must be distinct, got 5 twice"),
        (["a"], TypeError, r"ids must be integers as in the index, got 'a'"),
        (5, TypeError, r"ids must be a sequence of ids, got int"),
    ],
)
def test_delete_refuses_and_changes_nothing(ids, error, message):
    target = index()
    with pytest.raises(error, match=message):
        target.delete(ids)
    assert target.ids.tolist() == [5, 6, 7]


def test_str_index_refuses_int_ids():
    target = index("abc")
    for name, call in (
        ("allow", lambda: target.search(np.ones(4), allow=[1])),
        ("deny", lambda: target.search(np.ones(4), deny=[1])),
        ("exclude", lambda: target.search(np.ones(4), exclude=[1])),
        ("exclude", lambda: target.search(np.ones((2, 4)), exclude=[["a"], [1]])),
        ("candidates", lambda: target.rank(np.ones(4), [1])),
        ("deny", lambda: target.filter(deny=[1])),
        ("bias", lambda: target.search(np.ones(4), bias={1: 2.0})),
        ("ids", lambda: target.upsert([1], np.ones((1, 4)))),
        ("ids", lambda: target.delete([1])),
        ("ids", lambda: target.ordinals([1])),
    ):
        with pytest.raises(TypeError, match=f"^{name} must be strings as in the index, got 1$"):
            call()
