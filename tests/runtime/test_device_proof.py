"""The bound on what a device cut off holds, and numbers that make it hard change no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
from device_indexes import assert_alike, each_metric, each_storage, on_cpu
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.retrieval import _device_answer, _planner

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1.1754942e-38, 1e-30, -3e-20, 1e15, 1e30, -1e30]
SPECIAL += [oracles.FLT_MAX, -oracles.FLT_MAX, 1.0000001, 0.99999994, 3.0]
numbers = st.sampled_from(SPECIAL) | st.floats(-2, 2, width=32)


@st.composite
def tables(draw: Any, dim: int, most: int) -> Any:
    """Rows of special values, some of them repeated or negated."""
    pool = draw(st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=1, max_size=5))
    picks = draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=most))
    signs = draw(st.lists(st.sampled_from([1, -1]), min_size=len(picks), max_size=len(picks)))
    return (np.array(pool, np.float32)[picks] * np.array(signs)[:, None]).astype(np.float32)


@each_storage
@each_metric
@settings(max_examples=40)
@given(data=st.data())
def test_extreme_values_change_nothing(metric: str, storage: str, data: Any) -> None:
    dim = data.draw(st.sampled_from([1, 2, 3, 9]))
    vectors, queries = data.draw(tables(dim, 40)), data.draw(tables(dim, 4))
    n = len(vectors)
    bias = None
    if metric != "l2" and data.draw(st.booleans()):
        bias = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)), np.float32)
    device = on_cpu(rec.FlatIndex(vectors, metric=metric, bias=bias), storage)
    for k in (1, 5, n + 1):
        got = assert_alike(device, queries, k)
        oracles.assert_same_topk(got, oracles.search(metric, queries, vectors, k, bias=bias))


@each_storage
@each_metric
def test_what_float32_cannot_tell_apart_is_told_apart(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    """Cones, one giant coordinate, tiny and huge norms, near-ties: more than it can keep."""
    base = rng.standard_normal((5000, 16))
    giant = base.copy()
    giant[:, 3] *= 1e20
    near = np.ones((5000, 16)) + rng.integers(-1, 2, (5000, 16)) * 2.0**-23
    cases = {
        "giant": giant,
        "norms": base * 10.0 ** rng.integers(-30, 30, (5000, 1)),
        "near": near,
        "cone": np.ones((5000, 16)) + 1e-6 * base,
        "equal": np.tile(base[:1], (5000, 1)),
    }
    for vectors in cases.values():
        device = on_cpu(rec.FlatIndex(vectors, metric=metric), storage)
        assert_alike(device, np.concatenate([vectors[:3], base[:3]]).astype(np.float32), 13)
    assert device.stats["by_index"] > 0, "equal items prove nothing"


@each_storage
@each_metric
def test_no_item_outside_is_above_the_bound(
    rng: np.random.Generator, metric: str, storage: str
) -> None:
    """The bound is right for every item, and says something: it lies close to the last given."""
    for scale in (1.0, 1e-12, 1e15):
        vectors = (rng.standard_normal((3000, 24)) * scale).astype(np.float32)
        like = scale if metric == "l2" else 1.0
        queries = (rng.standard_normal((20, 24)) * like).astype(np.float32)
        bias = None if metric == "l2" else rng.standard_normal(3000) * scale
        index = rec.FlatIndex(vectors, metric=metric, bias=bias)
        device = on_cpu(index, storage)
        now = index._live.generation
        asked = _device_answer.Asked(5, _planner.Selection(None, None), None, None, -np.inf, 1, 0)
        laid = device._laid_out(now, asked)
        found = device._scorer.run(laid, queries, 32, None)
        bound = _device_answer.highest_outside(
            laid, found.queries, found.scaled, found.scale, found.values[:, -1]
        )
        scores = oracles.scores(metric, queries, vectors, bias)
        inside = np.zeros(scores.shape, bool)
        np.put_along_axis(inside, found.rows, True, axis=1)
        best = np.where(inside, -np.inf, scores).max(axis=1)
        assert (best <= bound).all()
        spread = scores.max(axis=1) - scores.min(axis=1)
        room = 1e-5 if storage == "float32" else 5e-3
        last = np.take_along_axis(scores, found.rows[:, -1:], axis=1)[:, 0]
        assert (np.abs(bound - last) <= room * spread).all()


@each_storage
def test_bound_holds_for_large_addends_and_inexact_queries(
    rng: np.random.Generator, storage: str
) -> None:
    """A bias far above the products, and a graph that scaled the queries badly."""
    vectors = rng.standard_normal((3000, 24)).astype(np.float32)
    queries = rng.standard_normal((20, 24)).astype(np.float32)
    for offset, blur in ((1e6, 0.0), (0.0, 1e-2)):
        bias = rng.standard_normal(3000) + offset
        index = rec.FlatIndex(vectors, metric="dot", bias=bias)
        device = on_cpu(index, storage)
        asked = _device_answer.Asked(5, _planner.Selection(None, None), None, None, -np.inf, 1, 0)
        laid = device._laid_out(index._live.generation, asked)
        asked_for = queries * (1 + blur * rng.standard_normal((20, 24))).astype(np.float32)
        found = device._scorer.run(laid, asked_for, 32, None)
        bound = _device_answer.highest_outside(
            laid, queries, found.scaled, found.scale, found.values[:, -1]
        )
        scores = oracles.scores("dot", queries, vectors, bias)
        np.put_along_axis(scores, found.rows, -np.inf, axis=1)
        assert (scores.max(axis=1) <= bound).all()
