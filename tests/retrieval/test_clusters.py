"""Rows by cluster: every row has a slot, queries skip what they promise, nothing is by chance."""

from __future__ import annotations

from dataclasses import fields

import native_calls as native
import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import _native
from recengine.retrieval import _clusters, _score, _search
from recengine.retrieval._vectors import rounded, widened

N_TOPICS = 150
each_metric = pytest.mark.parametrize("metric", panels.METRICS)


def cluster_order(vectors, metric):
    return _clusters.cluster_order(vectors, panels.sq_norms(vectors), panels.METRICS[metric])


def topics(rng, n=24_000, dim=32):
    """Rows around directions of uneven popularity and of uneven norms; some rows are zero."""
    topic = np.minimum(rng.exponential(N_TOPICS / 4, n), N_TOPICS - 1).astype(np.int64)
    centres = rng.standard_normal((N_TOPICS, dim))
    rows = centres[topic] + 0.25 * rng.standard_normal((n, dim))
    rows *= rng.pareto(2, (n, 1))
    rows[rng.integers(n, size=20)] = 0
    return native.f32(rows)


def axis_of_groups(clusters):
    return clusters.axis.repeat(np.diff(clusters.axis_starts), axis=0)


@each_metric
@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_clusters_hold_every_row_and_skip_most(rng, metric, storage):
    vectors = rounded("vectors", topics(rng), storage)
    clusters = cluster_order(vectors, metric)
    n = len(vectors)
    assert clusters.share < 0.3
    assert np.array_equal(np.sort(clusters.order), np.arange(n))
    assert clusters.starts[0] == 0
    assert clusters.starts[-1] == -(-n // 32)
    assert set(np.diff(clusters.starts)) <= set(range(1, _clusters.GROUP_PANELS + 1))
    assert len(clusters.axis) == len(clusters.axis_starts) - 1
    assert clusters.axis_starts[0] == 0
    assert clusters.axis_starts[-1] == len(clusters.starts) - 1
    assert (np.diff(clusters.axis_starts) > 0).all()
    here = (vectors, metric, clusters.order)
    panels.check_facts(*here, clusters.starts, axis_of_groups(clusters), clusters.within)
    runs = clusters.starts[clusters.axis_starts]
    panels.check_facts(*here, runs, clusters.axis, clusters.around)


@each_metric
def test_share_is_what_queries_read(rng, metric):
    vectors = topics(rng)
    clusters = cluster_order(vectors, metric)
    axes = axis_of_groups(clusters)
    read = []
    for row in rng.choice(np.flatnonzero(vectors.any(axis=1)), 60):
        query = panels.unit(vectors[row]).astype(np.float64)
        own = panels.exact(vectors, metric).astype(np.float64) @ query
        own[row] = -np.inf
        tau = np.partition(own, -10)[-10]
        bounds = panels.bounds(vectors[row], axes, clusters.within)
        read.append(np.average(bounds >= tau, weights=np.diff(clusters.starts)))
    assert abs(np.mean(read) - clusters.share) < 0.1


@each_metric
@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_scan_by_clusters_answers_as_without(rng, metric, storage):
    vectors = rounded("vectors", topics(rng), storage)
    norms, number = panels.sq_norms(vectors), panels.METRICS[metric]
    clusters = cluster_order(vectors, metric)
    codes = _native.encode(vectors, norms, number, order=clusters.order)
    codes |= {"axes": clusters.axis, "axis_starts": clusters.axis_starts}
    codes |= {"group_starts": clusters.starts}
    for of, bounds in (("axis", clusters.around), ("group", clusters.within)):
        codes |= {f"{of}_{name}": part for name, part in bounds._asdict().items()}
    queries = native.f32(rng.standard_normal((60, 32)))
    queries[:40] = widened(vectors[:40])
    reach = _score.reach(number, norms)
    arguments = (_native.api(), number, queries, vectors, norms, reach, 10)
    want = _search.search(*arguments)
    rows, scores, stats = _search.search(*arguments, codes=codes)
    assert np.array_equal(rows, want[0])
    assert np.array_equal(scores, want[1])
    assert stats["scanned"] < 0.8 * len(queries) * len(vectors)


@each_metric
def test_clusters_are_deterministic(rng, metric):
    vectors = topics(rng)
    first, second = cluster_order(vectors, metric), cluster_order(vectors.copy(), metric)
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert np.array_equal(a, b), field.name


@each_metric
def test_data_without_structure_are_found_out_on_a_sample(rng, metric, monkeypatch):
    monkeypatch.setattr(_clusters, "_assigned", lambda *_: pytest.fail("all rows were assigned"))
    assert cluster_order(native.f32(rng.standard_normal((24_000, 32))), metric) is None


@each_metric
def test_structure_that_only_few_rows_promise_is_not_believed(rng, metric, monkeypatch):
    """What is measured at the end decides, whatever the sample said."""
    monkeypatch.setattr(_clusters, "PROMISING", 1.0)
    assert cluster_order(native.f32(rng.standard_normal((24_000, 32))), metric) is None


@each_metric
def test_clusters_are_none_where_they_cannot_help(rng, metric):
    vectors = topics(rng)
    assert cluster_order(vectors[:19_999], metric) is None
    assert cluster_order(np.zeros_like(vectors), metric) is None
    wide = np.ones((20_000, 4097), np.float16)
    assert _clusters.cluster_order(wide, np.ones(20_000), panels.METRICS[metric]) is None
    huge = native.f32(vectors / np.abs(vectors).max() * 3e38)
    assert (cluster_order(huge, metric) is None) == (metric == "dot")


def test_distances_are_not_clustered(rng):
    vectors = topics(rng)
    assert _clusters.cluster_order(vectors, panels.sq_norms(vectors), 2) is None


@each_metric
def test_one_direction_among_zero_rows(metric):
    """Panels of zero rows score 0: below all that a query finds, if it finds anything."""
    vectors = np.zeros((24_000, 4), np.float32)
    vectors[:2000, 1] = 3
    clusters = cluster_order(vectors, metric)
    assert np.array_equal(np.sort(clusters.order), np.arange(24_000))
    assert clusters.share < 0.15


@given(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=8).filter(any), data=st.data())
@settings(max_examples=60)
def test_panels_are_filled_from_one_cluster_each(sizes, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    fit = rng.standard_normal(len(labels))
    order, n_panels = _clusters._filled(labels, fit)
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    assert n_panels.sum() == -(-len(labels) // 32)
    for cluster, last in enumerate(np.cumsum(n_panels[:-1])):
        rows = order[32 * (last - n_panels[cluster]) : 32 * last]
        assert (labels[rows] == cluster).all()
        assert len(rows) == sizes[cluster] // 32 * 32
        assert (np.diff(fit[order[labels[order] == cluster]]) <= 0).all()


@given(sizes=st.lists(st.integers(0, 99), min_size=1, max_size=9), most=st.integers(1, 20))
def test_parts_keep_to_their_run_and_are_no_larger_than_they_may(sizes, most):
    starts = _clusters._divided(np.array(sizes), most)
    assert starts[0] == 0
    assert starts[-1] == sum(sizes)
    assert set(np.diff(starts)) <= set(range(1, most + 1))
    assert set(np.cumsum(sizes)) | {0} <= set(starts)
    assert len(starts) - 1 == sum(-(-size // most) for size in sizes)
