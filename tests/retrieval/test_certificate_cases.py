"""The certified scan on the data that is worst for it, against the float64 oracle.

Every case runs with codes and without (`native_calls.search` compares them), at every SIMD level,
under every metric, for one query (the coarse grid) and for a batch. RECENGINE_EXAMPLES=n sets
how many examples Hypothesis tries.
"""

from __future__ import annotations

import os

import native_calls as native
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

each_metric = pytest.mark.parametrize("metric", native.METRICS)

EXAMPLES = int(os.environ.get("RECENGINE_EXAMPLES", "60"))
DIMS = (1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 127, 128, 1000, 4096)


def gaussian(rng, n, dim):
    return rng.standard_normal((n, dim))


def denormals(rng, n, dim):
    return rng.standard_normal((n, dim)) * 1e-42


def uneven_norms(rng, n, dim):
    return rng.standard_normal((n, dim)) * 10.0 ** rng.choice([-30, 0, 30], (n, 1))


def cone(spread, scale):
    """Items around one direction, nearly equal."""

    def make(rng, n, dim):
        axis = rng.standard_normal(dim)
        return scale * (axis + spread * rng.standard_normal((n, dim)))

    return make


def giant_coordinate(rng, n, dim):
    table = rng.standard_normal((n, dim))
    table[:, dim // 2] *= 1e20
    return table


def giant_item(rng, n, dim):
    """One outlier coordinate in one item makes every other code coarse, were steps shared."""
    table = rng.standard_normal((n, dim))
    table[n // 2, dim // 2] = 1e25
    return table


def duplicates(rng, n, dim):
    return rng.standard_normal((3, dim))[rng.integers(0, 3, n)]


def all_equal(rng, n, dim):
    return np.tile(rng.standard_normal((1, dim)), (n, 1))


def small_integers(rng, n, dim):
    return rng.integers(-1, 2, (n, dim)).astype(float)


def neighbours(rng, n, dim):
    """Scores a bit apart: float32 neighbours of one item."""
    return 1.0 + rng.integers(-1, 2, (n, dim)) * 2.0**-23


FAMILIES = {
    "gaussian": gaussian,
    "denormals": denormals,
    "uneven norms": uneven_norms,
    "cone 1e-4": cone(1e-4, 1.0),
    "cone 1e-7": cone(1e-7, 1.0),
    "cone 1e-4 at 1e15": cone(1e-4, 1e15),
    "cone 1e-7 at 1e-12": cone(1e-7, 1e-12),
    "giant coordinate": giant_coordinate,
    "giant item": giant_item,
    "duplicates": duplicates,
    "all equal": all_equal,
    "small integers": small_integers,
    "neighbours": neighbours,
}


def queries_for(rng, vectors, n):
    """Return n queries: items, near items, along the mean and against it, zero, unlike anything."""
    wide = vectors.astype(float)
    mean = wide.mean(axis=0)
    size = np.abs(wide).max() or 1.0
    dim = vectors.shape[1]
    rows = [
        wide[0],
        mean,
        rng.standard_normal(dim) * size,
        -mean,
        np.zeros(dim),
        wide[-1] * 1e-20,
        np.nextafter(vectors[len(vectors) // 2], np.float32(np.inf)).astype(float),
        mean + 1e-6 * size * rng.standard_normal(dim),
        rng.standard_normal(dim),
        *(wide[rng.integers(0, len(wide), 4)] + 1e-3 * size * rng.standard_normal((4, dim))),
    ]
    return native.f32(np.clip(np.array(rows[:n]), -3e38, 3e38))


def expect_oracle(metric, queries, vectors, ks, options=None, allowed=None, **wanted):
    """Search at every level, for one query, a few and the batch; compare ids and score bits."""
    table = oracles.scores(metric, queries, vectors)
    for k in ks:
        want = oracles.best(table, k, allowed=allowed, **wanted)
        for level in native.LEVELS:
            for n in {1, 3, len(queries)}:
                got = native.search(level, metric, queries[:n], vectors, k, **(options or {}))
                oracles.assert_same_topk(got[:2], (want[0][:n], want[1][:n]))


@each_metric
@pytest.mark.parametrize("family", FAMILIES)
def test_worst_cases_equal_oracle(rng, family, metric):
    for dim in DIMS:
        n = 150 if dim <= 128 else 70
        vectors = native.f32(FAMILIES[family](rng, n, dim))
        expect_oracle(metric, queries_for(rng, vectors, 13), vectors, (1, 10, 100))


@each_metric
@pytest.mark.parametrize("family", ["duplicates", "all equal", "cone 1e-7", "small integers"])
def test_thousands_of_ties_keep_the_first(rng, family, metric):
    """Ties run across the k boundary and across blocks, panels and the threads' parts."""
    vectors = native.f32(FAMILIES[family](rng, 5000, 12))
    queries = queries_for(rng, vectors, 13)
    expect_oracle(metric, queries, vectors, (1, 10, 100), {"num_threads": 2})


@each_metric
@pytest.mark.parametrize("family", ["gaussian", "cone 1e-4", "uneven norms", "duplicates"])
def test_min_score_edges_equal_oracle(rng, family, metric):
    vectors = native.f32(FAMILIES[family](rng, 300, 24))
    queries = queries_for(rng, vectors, 13)
    table = oracles.scores(metric, queries, vectors)
    best = np.clip(table[0].max(), -3e38, 3e38)
    top = np.clip(np.sort(table[2])[-5], -3e38, 3e38)
    for floor in (
        np.float32(0),
        np.float32(-1e-45),
        np.float32(1e-45),
        best,
        np.nextafter(best, np.float32(np.inf)),
        top,
        np.nextafter(top, np.float32(np.inf)),
        np.nextafter(top, np.float32(-np.inf)),
        np.float32(-oracles.FLT_MAX),
        np.float32(oracles.FLT_MAX),
    ):
        limit = {"min_score": float(floor)}
        expect_oracle(metric, queries, vectors, (10,), limit, **limit)


@each_metric
@pytest.mark.parametrize("family", ["gaussian", "cone 1e-7", "giant coordinate", "duplicates"])
def test_forbidden_items_neither_come_nor_raise_tau(rng, family, metric):
    """The best of each query are excluded, masked, or both: what follows them must be complete."""
    vectors = native.f32(FAMILIES[family](rng, 400, 33))
    queries = queries_for(rng, vectors, 13)
    order = oracles.best(oracles.scores(metric, queries, vectors), 400)[0]
    indptr, rows = native.csr([np.sort(order[i, :37]) for i in range(13)])
    allowed = np.ones((13, 400), bool)
    np.put_along_axis(allowed, order[:, :37], False, axis=1)
    masked = rng.random(400) < 0.6
    masked[order[0, :50]] = False
    table = oracles.scores(metric, queries, vectors)
    for mask in (None, masked):
        options = {"exclude_indptr": indptr, "exclude_rows": rows}
        may = allowed
        if mask is not None:
            options["mask"], may = native.words(mask), allowed & mask
        for k in (1, 10, 100):
            want = oracles.best(table, k, allowed=may)
            for level in native.LEVELS:
                got = native.search(level, metric, queries, vectors, k, **options)
                oracles.assert_same_topk(got[:2], want)


@st.composite
def mixtures(draw):
    """Rows of several families side by side, rescaled, in any order; queries of the same kinds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim = draw(st.sampled_from([1, 2, 3, 5, 8, 17, 64, 129]))
    parts = draw(st.lists(st.sampled_from(sorted(FAMILIES)), min_size=1, max_size=3))
    scales = st.sampled_from([1.0, 1.0, 1e-38, 1e-30, 1e-12, 1e15, 1e18])
    rows = [FAMILIES[name](rng, draw(st.integers(1, 90)), dim) * draw(scales) for name in parts]
    table = np.clip(np.concatenate(rows), -1e38, 1e38)
    if draw(st.booleans()):
        table[:, draw(st.integers(0, dim - 1))] = draw(st.sampled_from([0.0, 1.0, -1e6]))
    if draw(st.booleans()):
        table = np.concatenate([table, -table])
    vectors = native.f32(table[rng.permutation(len(table))])
    queries = queries_for(rng, vectors, 13)[rng.permutation(13)[: draw(st.integers(1, 13))]]
    mixed = rng.integers(0, 2, queries.shape) * draw(st.sampled_from([1e-38, 1e-7, 1.0, 1e7]))
    return vectors, native.f32(np.clip(queries + mixed, -3e38, 3e38))


@each_metric
@settings(max_examples=EXAMPLES)
@given(case=mixtures(), data=st.data())
def test_mixtures_of_worst_cases_equal_oracle(metric, case, data):
    vectors, queries = case
    n, k = len(vectors), data.draw(st.sampled_from([1, 2, 10, 100]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    options, wanted = {}, {}
    bias = None
    if metric != "l2" and data.draw(st.booleans()):
        spread = np.abs(oracles.scores(metric, queries, vectors)).max()
        factor = data.draw(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3]))
        bias = native.f32(np.clip(rng.standard_normal(n) * spread * factor, -1e38, 1e38))
        options["bias"] = bias
    table = oracles.scores(metric, queries, vectors, bias)
    if data.draw(st.booleans()):
        floor = float(rng.choice(table.ravel()))
        options["min_score"] = wanted["min_score"] = floor
    if data.draw(st.booleans()):
        allowed = rng.random(n) < data.draw(st.sampled_from([0.1, 0.9]))
        options["mask"], wanted["allowed"] = native.words(allowed), allowed
    want = oracles.best(table, k, **wanted)
    for level in native.LEVELS:
        got = native.search(level, metric, queries, vectors, k, **options)
        oracles.assert_same_topk(got[:2], want)
