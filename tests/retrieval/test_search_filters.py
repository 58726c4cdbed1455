"""exclude, allow and deny in every combination: right answers, never an excluded id."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from native_calls import words

import recengine as rec
from recengine.retrieval import _planner

N, DIM = 200, 5


def catalogue(kind):
    """Return (vectors, ids): many ties; ids are ordinals, scattered int64, or str."""
    rng = np.random.default_rng(7)
    vectors = rng.integers(-2, 3, (N, DIM)).astype(np.float32)
    ids = {
        "ordinal": np.arange(N),
        "int64": rng.permutation(N) * 10**15 - 10**17,
        "str": np.array([f"item-{i}" for i in rng.permutation(N)], dtype=object),
    }[kind]
    return vectors, ids


VECTORS = catalogue("ordinal")[0]
INDEXES = {
    kind: rec.FlatIndex(*catalogue(kind), metric="dot") for kind in ("ordinal", "int64", "str")
}


def unknown(ids):
    """Return ids that the catalogue does not hold, of its kind."""
    return np.array(["nobody", ""], dtype=object) if ids.dtype == object else np.array([-7, 2**62])


def names(ids, rows, *, strange=False):
    chosen = ids[np.asarray(rows, np.int64)]
    return np.concatenate([chosen, unknown(ids)]) if strange else chosen


row_sets = st.sets(st.integers(0, N - 1), max_size=30) | st.builds(
    lambda gone: set(range(N)) - gone, st.sets(st.integers(0, N - 1), max_size=30)
)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["ordinal", "int64", "str"]),
    allow=st.none() | row_sets,
    deny=st.none() | row_sets,
    exclude=st.none() | st.lists(row_sets, min_size=1, max_size=4),
    deleted=st.sets(st.integers(0, N - 1), max_size=50),
    as_csr=st.booleans(),
    strange=st.booleans(),
    k=st.sampled_from([0, 1, 5, 60, N + 3]),
    min_score=st.none() | st.sampled_from([-3.0, 0.0, 2.0]),
)
def test_combinations_equal_oracle(
    kind, allow, deny, exclude, deleted, as_csr, strange, k, min_score
):
    ids = INDEXES[kind].ids
    index = rec.FlatIndex(VECTORS, ids=ids, metric="dot")
    index.delete(names(ids, sorted(deleted)))
    n_queries = 3 if exclude is None else len(exclude)
    queries = np.random.default_rng(n_queries).integers(-2, 3, (n_queries, DIM))
    allowed = np.ones(N, bool)
    allowed[sorted(deleted)] = False
    options = {"min_score": min_score}
    if allow is not None:
        allowed &= np.isin(np.arange(N), sorted(allow))
        options["allow"] = names(ids, sorted(allow, reverse=True), strange=strange)
    if deny is not None:
        allowed[sorted(deny)] = False
        options["deny"] = names(ids, sorted(deny), strange=strange)
    if exclude is not None and as_csr:
        rows = [sorted(entry, key=lambda row: row * 7 % N) for entry in exclude]  # not sorted
        options["exclude"] = (
            np.cumsum([0, *map(len, rows)]),
            np.concatenate([np.array(entry, np.int64) for entry in rows]),
        )
    elif exclude is not None:
        options["exclude"] = [names(ids, sorted(entry), strange=strange) for entry in exclude]
    want_rows, want_scores = oracles.search(
        "dot",
        queries,
        VECTORS,
        k,
        allowed=allowed,
        exclude=None if exclude is None else [sorted(entry) for entry in exclude],
        min_score=-np.inf if min_score is None else min_score,
    )
    got = index.search(queries, k, **options)
    np.testing.assert_array_equal(got.ordinals, want_rows)
    oracles.assert_same_bits(got.scores, want_scores)
    fill = None if kind == "str" else -1
    want_ids = [[fill if row < 0 else ids[row] for row in line] for line in want_rows]
    assert got.ids.tolist() == want_ids
    for i, line in enumerate(got.ids.tolist()):
        forbidden = set(names(ids, sorted(deleted | (deny or set()))).tolist())
        forbidden |= set(names(ids, sorted(exclude[i])).tolist()) if exclude else set()
        assert not forbidden & set(line)


@pytest.mark.parametrize("kind", ["ordinal", "int64", "str"])
def test_one_query_takes_one_id_array(kind):
    index, query = INDEXES[kind], np.ones(DIM)
    first = index.search(query, 3)
    for seen in (first.ids, list(first.ids), tuple(first.ids)):
        if isinstance(seen, tuple):
            continue  # a tuple is (indptr, indices)
        rest = index.search(query, 3, exclude=seen)
        assert not set(rest.ids) & set(first.ids)
    batch = index.search(query[None], 3, exclude=[first.ids])
    np.testing.assert_array_equal(batch.ids[0], index.search(query, 3, exclude=first.ids).ids)


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "coo_array", "csc_array", "lil_array"])
def test_every_sparse_form_is_read_the_same(form):
    index, queries = INDEXES["int64"], np.ones((3, DIM))
    seen = np.zeros((3, N), np.float32)
    seen[0, :50] = 1
    seen[2, 100:] = -2
    matrix = getattr(scipy.sparse, form)(seen)
    got = index.search(queries, N, exclude=matrix)
    rows = [np.flatnonzero(line) for line in seen]
    want = oracles.search("dot", queries, VECTORS, N, exclude=rows)
    np.testing.assert_array_equal(got.ordinals, want[0])
    indptr, indices = matrix.tocsr().indptr, matrix.tocsr().indices
    again = index.search(queries, N, exclude=(indptr.astype(np.int32), indices.astype(np.uint16)))
    oracles.assert_same_topk(again, got)


def test_stored_zeros_of_a_csr_exclude():
    stored = scipy.sparse.csr_array((np.zeros(N - 1), np.arange(N - 1), [0, N - 1]), shape=(1, N))
    got = INDEXES["ordinal"].search(np.ones((1, DIM)), 2, exclude=stored)
    assert got.ids.tolist() == [[N - 1, -1]]


def test_csr_may_be_narrower_than_the_catalogue():
    index = rec.FlatIndex(np.eye(3), metric="dot")
    seen = scipy.sparse.csr_array(np.array([[0, 0, 1]]))
    index.upsert([3], np.ones((1, 3)))
    assert index.search(np.ones((1, 3)), 4, exclude=seen).ids.tolist() == [[3, 0, 1, -1]]


@pytest.mark.parametrize("kind", ["int64", "str"])
def test_everything_filtered_is_all_padding(kind):
    index = INDEXES[kind]
    nothing = [
        {"allow": []},
        {"allow": unknown(index.ids)},
        {"deny": index.ids},
        {"allow": index.ids[:5], "deny": index.ids[:5]},
        {"exclude": [index.ids, index.ids]},
        {"min_score": 1e30},
        {"allow": index.ids, "deny": index.ids[1:], "exclude": [index.ids[:1]] * 2},
    ]
    for options in nothing:
        got = index.search(np.ones((2, DIM)), 3, **options)
        assert got.ids.tolist() == [[None if kind == "str" else -1] * 3] * 2, options
        assert (got.scores == -np.inf).all()
        assert (got.ordinals == -1).all()


def test_empty_filters_filter_nothing():
    index, queries = INDEXES["str"], np.ones((2, DIM))
    plain = index.search(queries, 5)
    for options in ({"deny": []}, {"exclude": [[], []]}, {"exclude": ([0, 0, 0], [])}):
        oracles.assert_same_topk(index.search(queries, 5, **options), plain)


@pytest.mark.parametrize(("n_queries", "share"), [(1, 9), (7, 9), (8, 5), (256, 5)])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_planner_lists_few_masks_many_and_passes_all(n, n_queries, share):
    index = rec.FlatIndex(VECTORS[:n], metric="dot")
    for n_kept in range(n + 1):
        keep = np.zeros(n, bool)
        keep[np.random.default_rng(n_kept).permutation(n)[:n_kept]] = True
        gone, kept = np.flatnonzero(~keep), np.flatnonzero(keep)
        for options in ({"deny": gone}, {"allow": kept}):
            got = _planner.select(index._live.generation, n_queries, **options)
            assert got.words is None or got.ordinals is None
            if share * n_kept <= n:
                np.testing.assert_array_equal(got.ordinals, kept)
            elif n_kept < n or "allow" in options:
                np.testing.assert_array_equal(got.words, words(keep))
            else:
                assert got.words is None
                assert got.ordinals is None


@pytest.mark.parametrize("n_allowed", [1, 12, 13, 99, 100, 101, N])
def test_gather_and_mask_give_the_same_bits(n_allowed):
    """The planner goes three ways, by how many survive; the answer does not depend on it."""
    index, queries = INDEXES["int64"], np.arange(4 * DIM).reshape(4, DIM)
    want = oracles.search("dot", queries, VECTORS, 7, allowed=np.arange(N) < n_allowed)
    shared, rest = index.ids[:n_allowed], index.ids[n_allowed:]
    survivors = rec.FlatIndex(VECTORS, ids=index.ids, metric="dot")
    survivors.delete(rest)
    for got in (
        index.search(queries, 7, allow=shared),
        index.search(queries, 7, deny=rest),
        index.search(queries, 7, allow=shared, deny=rest),
        index.search(queries, 7, exclude=[rest] * 4),
        survivors.search(queries, 7),
    ):
        np.testing.assert_array_equal(got.ordinals, want[0])
        oracles.assert_same_bits(got.scores, want[1])
