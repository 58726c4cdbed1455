"""Items in several tables, or coded in part: the answer is that of one table without codes."""

from __future__ import annotations

import native_calls as native
import numpy as np
import pytest

import recengine as rec
from recengine import _native
from recengine.retrieval import _coding, _delta, _score, _search
from recengine.retrieval._layout import Layout
from recengine.retrieval._table import Table

KINDS = ("gaussian", "ties", "duplicates", "equal")
LIMITS = ((), ("ordinals", "alive"), ("mask", "exclude", "bias"))


def make(rng, kind, n, dim):
    if kind == "ties":
        return native.f32(rng.integers(-1, 2, size=(n, dim)))
    vectors = rng.normal(size=(n, dim))
    if kind == "duplicates":
        vectors = vectors[rng.integers(0, max(1, n // 50), n)]
    if kind == "equal":
        vectors[:] = vectors[:1]
    return native.f32(vectors)


@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_coded_in_part_answers_as_one_without_codes(rng, kind, level, metric):
    api, number = _native.api(level), native.METRICS.index(metric)
    for n, n_coded, dim in ((40, 1, 3), (1000, 999, 16), (3000, 1700, 33), (5000, 4096, 8)):
        vectors, queries = make(rng, kind, n, dim), make(rng, kind, 14, dim)
        norms = _score.squared_norms(api, vectors)
        reach = _score.reach(number, norms)
        some = (part[:n_coded] for part in (vectors, norms, reach))
        codes = _coding.encode(*some, number, Layout()) | {"n_rows": n_coded}
        for limits in LIMITS:
            chosen = [name for name in limits if (metric, name) != ("l2", "bias")]
            options = native.random_limits(rng, n, len(queries), chosen)
            for n_queries, k, threads in ((1, 10, 1), (14, 1, 2), (2, n + 3, 3)):
                given = dict(options)
                if "exclude_indptr" in given:
                    indptr = given["exclude_indptr"][: n_queries + 1]
                    given |= {
                        "exclude_indptr": indptr,
                        "exclude_rows": given["exclude_rows"][: indptr[-1]],
                    }
                call = (api, number, queries[:n_queries], vectors, norms, reach, k)
                want = _search.search(*call, **given)
                got = _search.search(*call, codes=codes, num_threads=threads, **given)
                np.testing.assert_array_equal(got[0], want[0])
                np.testing.assert_array_equal(got[1].view(np.int32), want[1].view(np.int32))


def test_more_rows_with_codes_than_there_are_is_refused(rng):
    vectors = make(rng, "gaussian", 40, 4)
    api = _native.api()
    norms = _score.squared_norms(api, vectors)
    codes = _native.encode(vectors, norms, 1) | {"n_rows": 40}
    some = vectors[:33], norms[:33], np.ones(33, np.float32)
    with pytest.raises(ValueError, match="codes must"):
        _search.search(api, 1, vectors[:2], *some, 3, codes=codes)


@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_over_parts_is_that_over_their_items(rng, kind, level, metric):
    api, number = _native.api(level), native.METRICS.index(metric)
    n, dim = 2300, 16
    vectors, queries = make(rng, kind, n, dim), make(rng, kind, 14, dim)
    norms = _score.squared_norms(api, vectors)
    reach = _score.reach(number, norms)
    bias = None if metric == "l2" else native.f32(rng.choice([0, 0.5, -2], n))
    alive, mask = rng.random(n) < 0.7, native.words(rng.random(n) < 0.7)
    ordinals = np.arange(n)
    for cuts in ((1,), (2000,), (700, 703), (0, 1500)):
        shuffled = rng.permutation(n) if rng.random() < 0.5 else ordinals
        for k, n_queries, threads, lowest in ((10, 1, 1, -np.inf), (1, 14, 2, 0.0), (n, 2, 1, -1)):
            parts = []
            for rows in np.split(shuffled, cuts):
                some = vectors[rows], norms[rows], reach[rows]
                table = Table(
                    *some,
                    ordinals=rows.astype(np.int64),
                    ascending=bool((np.diff(rows) > 0).all()),
                    codes=_coding.encode(*some, number),
                )
                boost = None if bias is None else bias[rows]
                parts.append((table, native.words(alive[rows]), mask, None, boost))
            options = {"min_score": lowest, "num_threads": threads}
            call = queries[:n_queries], vectors, norms, reach, k
            limits = {"alive": native.words(alive), "mask": mask, "bias": bias}
            want = _search.search(api, number, *call, **limits, **options)
            got = _search.search_parts(api, number, call[0], parts, k, **options)
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_array_equal(got[1].view(np.int32), want[1].view(np.int32))


def test_no_parts_is_padding_and_what_is_no_table_is_refused(rng):
    queries = make(rng, "gaussian", 2, 4)
    ordinals, scores, stats = _search.search_parts(_native.api(), 1, queries, [], 3)
    assert ordinals.tolist() == [[-1] * 3] * 2
    assert (scores == -np.inf).all()
    assert stats["scanned"] == 0
    for wrong in (None, queries):
        with pytest.raises(TypeError):
            _search.search_parts(_native.api(), 1, queries, [(wrong, None, None, None, None)], 3)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_delta_gets_codes_as_it_grows_and_old_readers_keep_theirs(rng, one_by_one):
    n = 3 * _delta.LEAST_CODED + 7
    log = _delta.DeltaLog(8, 1, np.dtype(np.float32), n)
    vectors = make(rng, "gaussian", n, 8)
    norms = _score.squared_norms(_native.api(), vectors)
    reach = _score.reach(1, norms)
    length, step, seen = 0, 1 if one_by_one else 100, []
    while length < n:
        some = slice(length, min(n, length + step))
        numbers = np.arange(n)[some]
        length = log.append(length, numbers, vectors[some], norms[some], reach[some], None)
        seen.append(log.segment(length))
    coded = [0 if part.codes is None else part.codes["n_rows"] for part in seen]
    assert coded == sorted(coded)
    for part, n_coded in zip(seen, coded, strict=True):
        assert part.n_rows - _delta.LEAST_CODED < n_coded <= part.n_rows
    assert len(set(coded)) == (4 if one_by_one else 3)


def test_searches_beside_a_coded_delta_read_it_as_codes(rng):
    n = 3 * _delta.LEAST_CODED
    index = rec.FlatIndex(make(rng, "gaussian", 100_000, 16), metric="dot")
    fresh = make(rng, "gaussian", n + 5, 16)
    index.upsert(np.arange(n), fresh[:n])
    index.upsert(np.arange(200_000, 200_005), fresh[n:])
    query = make(rng, "gaussian", 1, 16)[0]
    got = index.search(query, 20)
    stats = index.stats
    assert stats["float32"] == 5
    index.compact()
    assert index.search(query, 20).ids.tolist() == got.ids.tolist()
