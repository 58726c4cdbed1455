"""What is known of panels holds, and the bound that follows is never below a score.

Facts and bound are held against sums in long double, the bound by queries that come as close to it
as rows can; damaged facts show that those can fail. What a scan rounds: `test_group_scan.py`.
"""

from __future__ import annotations

import native_calls as native
import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.retrieval import _panel_bounds
from recengine.retrieval._vectors import rounded

SPECIAL = [0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-30, -3e-20, 1e15, 1e30, -1e30, 1.0000001, 3.0]
values = st.sampled_from(SPECIAL) | st.floats(-2, 2, width=32)
each_metric = pytest.mark.parametrize("metric", panels.METRICS)


def tables(rng):
    """Yield (name, vectors): ordinary, tight, tiny, huge and very uneven rows."""
    base = rng.standard_normal((150, 7))
    yield "gaussian", native.f32(base)
    yield "clustered", native.f32(base[:3].repeat(50, axis=0) + 0.01 * base)
    yield "cone", native.f32(1 + 1e-6 * base)
    yield "equal", native.f32(np.ones((40, 7)))
    yield "opposed", native.f32(base[:1] * np.tile([1.0, -1.0], 20)[:, None])
    yield "denormal", native.f32(base * 1e-42)
    yield "huge", native.f32(base * 1e30)
    yield "uneven", native.f32(base * 10.0 ** rng.integers(-30, 30, (150, 1)))
    yield "zeros", np.zeros((40, 7), np.float32)
    yield "one dim", native.f32(base[:, :1])
    yield "one row", native.f32(base[:1])
    yield "wide", native.f32(rng.standard_normal((40, 600)))


def measured(vectors, metric, order=None):
    """Return (order, axis of each panel, bounds of each panel), of runs of two panels."""
    n_panels = -(-len(vectors) // 32)
    runs = np.append(np.arange(0, n_panels, 2), n_panels)
    order = np.arange(len(vectors)) if order is None else order
    items = _panel_bounds.Items(vectors, panels.sq_norms(vectors), panels.METRICS[metric])
    axis, facts = _panel_bounds.panel_bounds(items, order, runs)
    return order, np.repeat(axis, np.diff(runs), axis=0), facts


def least_gap(query, vectors, metric, measures):
    """Return the least (bound - score) / |y| over all rows."""
    order, axes, facts = measures
    rows = panels.exact(vectors[order], metric)
    size = np.sqrt((rows * rows).sum(axis=1))
    of_rows = np.repeat(panels.bounds(query, axes, facts), 32)[: len(order)]
    gaps = of_rows - rows @ panels.unit(query)
    return float(np.divide(gaps, size, out=gaps.copy(), where=size > 0).min())


def check_panels(vectors, metric, measures):
    order, axes, facts = measures
    panels.check_facts(vectors, metric, order, np.arange(len(axes) + 1), axes, facts)


@each_metric
@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_facts_hold_for_every_row(rng, metric, storage):
    for name, vectors in tables(rng):
        if storage == "float16" and name in ("huge", "uneven"):  # they do not fit
            continue
        stored = rounded("vectors", vectors, storage)
        order = rng.permutation(len(stored))
        check_panels(stored, metric, measured(stored, metric, order))


@each_metric
def test_bound_is_never_below_a_score_of_rows_as_queries(rng, metric):
    for name, vectors in tables(rng):
        measures = measured(vectors, metric)
        axis = measures[1]
        for query in np.concatenate([vectors[:50], -vectors[:5], axis, -axis]):
            if query.any():
                assert least_gap(query, vectors, metric, measures) >= 0, name


@each_metric
@pytest.mark.parametrize("dim", [1, 7, 64, 700])
def test_bound_of_a_lone_row_is_its_score_and_little_more(rng, metric, dim):
    for scale in (1e-25, 1.0, 1e30):
        for row in native.f32(scale * rng.standard_normal((50, dim))):
            rows = row[None]
            assert 5e-7 <= least_gap(row, rows, metric, measured(rows, metric)) <= 1e-5


@each_metric
@pytest.mark.parametrize("damage", ["low", "high", "across"])
def test_narrowed_facts_fail(rng, metric, damage):
    """The axis meets its nearest and farthest row at the bound; so does either of two rows."""
    n_rows = 2 if damage == "across" else 20
    least = []
    for _ in range(100):
        rows = native.f32(rng.standard_normal(9) + 0.3 * rng.standard_normal((n_rows, 9)))
        order, axis, facts = measured(rows, metric)
        less = 1e-3 if damage == "low" else -1e-3
        facts = facts._replace(**{damage: getattr(facts, damage) + np.float32(less)})
        queries = {"low": -axis, "high": axis, "across": rows}[damage]
        for query in queries:
            least.append(least_gap(query, rows, metric, (order, axis, facts)))
    assert min(least) < 0


def test_what_is_left_across_is_not_rounded_down(rng):
    """Of rows beside the axis it is a difference of nearly equal numbers."""
    for size in (0.0, 1e-12, 1e-9, 1e-7):
        axis = _panel_bounds._direction(rng.standard_normal((1, 50)))
        rows = axis * rng.uniform(1, 2, (200, 1)) + size * rng.standard_normal((200, 50))
        _, across = _panel_bounds._split(rows, axis)
        wide, u = rows.astype(np.longdouble), axis.astype(np.longdouble)
        left = wide - (wide @ u / (u @ u))[:, None] * u
        exact = np.sqrt((left * left).sum(axis=1))
        assert (across >= exact).all()
        assert (across - exact).max() < 1e-6


@st.composite
def searches(draw):
    """Rows of special values, repeated, scaled and negated; those values are queries too."""
    dim = draw(st.sampled_from([1, 2, 3, 8, 17]))
    pool = draw(st.lists(st.lists(values, min_size=dim, max_size=dim), min_size=2, max_size=6))
    picks = draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=80))
    factors = draw(st.lists(st.sampled_from([1.0, -1.0, 0.5]), min_size=80, max_size=80))
    rows = np.array(pool)[picks] * np.array(factors[: len(picks)])[:, None]
    return native.f32(rows), native.f32(pool)


@each_metric
@settings(max_examples=80)
@given(case=searches())
def test_bound_is_never_below_a_score(metric, case):
    vectors, queries = case
    measures = measured(vectors, metric)
    check_panels(vectors, metric, measures)
    for query in queries[queries.any(axis=1)]:
        assert least_gap(query, vectors, metric, measures) >= 0


def test_bounds_of_groups_are_those_of_all_their_panels(rng):
    vectors = native.f32(rng.standard_normal((200, 5)))
    _, _, facts = measured(vectors, "dot")
    starts = np.array([0, 1, 3, 7])
    groups = _panel_bounds.of_groups(facts, starts)
    for group, first in enumerate(starts[:-1]):
        mine = slice(first, starts[group + 1])
        assert groups.low[group] == facts.low[mine].min()
        assert groups.high[group] == facts.high[mine].max()
        assert groups.across[group] == facts.across[mine].max()
