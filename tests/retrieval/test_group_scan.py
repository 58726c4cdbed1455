"""The walk over groups of like items: whatever the groups are, nothing that belongs is skipped."""

from __future__ import annotations

from itertools import pairwise

import native_calls as native
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import _native
from recengine.retrieval import _score, _search

METRICS = native.METRICS[:2]  # cosine and dot


def grouped(rng, vectors, metric, *, n_axes=None, panels=2, about=1, sort=True):
    """Return codes in groups of up to `panels` panels, `about` of them about one of some rows.

    These are every 64th, or `n_axes` at random.
    """
    norms = _score.squared_norms(_native.api(), vectors)
    lengths = np.sqrt(norms)[:, None]
    unit = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    rows = unit if metric == "cosine" else vectors.astype(np.float64)
    axes = unit[::64].copy() if n_axes is None else unit[rng.choice(len(unit), n_axes)]
    axes[~axes.any(axis=1), 0] = 1
    axes = native.f32(axes)
    nearest = (unit @ axes.T).argmax(axis=1)
    order = np.argsort(nearest, kind="stable") if sort else rng.permutation(len(rows))
    n_panels = -(-len(rows) // 32)
    starts = np.unique(np.append(np.arange(0, n_panels, panels), n_panels))
    runs = np.unique(np.append(np.arange(0, len(starts) - 1, about), len(starts) - 1))
    chosen, facts = [], []
    for first, end in pairwise(runs):
        axis = np.bincount(nearest[order[32 * starts[first] : 32 * starts[end]]]).argmax()
        exact = axes[axis].astype(np.float64) / np.linalg.norm(axes[axis].astype(np.float64))
        chosen.append(axis)
        for group in range(first, end):
            here = rows[order[32 * starts[group] : 32 * starts[group + 1]]]
            along = here @ exact
            across = np.linalg.norm(here - along[:, None] * exact, axis=1).max()
            slack = 1e-6 * (np.abs(along).max() + across)
            facts.append((along.min() - slack, along.max() + slack, across + slack))
    low, high, across = (native.f32(fact) for fact in zip(*facts, strict=True))
    codes = _native.encode(vectors, norms, native.METRICS.index(metric), order=order)
    return codes | {
        "axes": axes[chosen],
        "axis_starts": runs.astype(np.int64),
        "axis_low": np.minimum.reduceat(low, runs[:-1]),
        "axis_high": np.maximum.reduceat(high, runs[:-1]),
        "axis_across": np.maximum.reduceat(across, runs[:-1]),
        "group_starts": starts.astype(np.int64),
        "group_low": low,
        "group_high": high,
        "group_across": across,
    }


def both(level, metric, queries, vectors, k, codes, **options):
    """Return the answer by groups, having held it against that of the float32 scan."""
    api, number = _native.api(level), native.METRICS.index(metric)
    norms = _score.squared_norms(api, vectors)
    arguments = (api, number, queries, vectors, norms, _score.reach(number, norms), k)
    want = _search.search(*arguments, **options)
    got = _search.search(*arguments, codes=codes, **options)
    np.testing.assert_array_equal(got[0], want[0])
    oracles.assert_same_bits(got[1], want[1])
    return got


def clustered(rng, n_rows, n_kinds, dim, spread):
    kinds = rng.standard_normal((n_kinds, dim))
    rows = kinds[rng.integers(0, n_kinds, n_rows)]
    return native.f32(rows + spread * rng.standard_normal((n_rows, dim)))


def alike(rng, n_kinds, dim, spread=0.1):
    """Return rows in runs of 64 that point nearly the same way."""
    kinds = np.repeat(rng.standard_normal((n_kinds, dim)), 64, axis=0)
    return native.f32(kinds + spread * rng.standard_normal(kinds.shape))


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n_rows": st.integers(1, 700),
        "n_kinds": st.integers(1, 20),
        "spread": st.sampled_from([0, 1e-7, 0.01, 0.3, 3]),
        "scale": st.sampled_from([1, 1e-3, 1e-23, 1e18, 0]),
        "query_scale": st.sampled_from([1, 1e-25, 1e18]),
        "n_axes": st.integers(1, 40),
        "panels": st.integers(1, 5),
        "about": st.integers(1, 6),
        "sort": st.booleans(),
        "n_queries": st.sampled_from([1, 2, 3, 4, 7, 30]),
        "k": st.sampled_from([1, 3, 10, 900]),
        "metric": st.sampled_from(METRICS),
        "level": st.sampled_from(native.LEVELS),
        "threads": st.sampled_from([1, 2, 3]),
        "zero": st.booleans(),
        "filtered": st.sets(
            st.sampled_from(["mask", "alive", "exclude", "bias", "ordinals", "min_score"])
        ),
    }
)


@settings(max_examples=200)
@given(CASES)
def test_answers_are_those_of_the_float_scan(case):
    rng = np.random.default_rng(case["seed"])
    n = case["n_rows"]
    vectors = clustered(rng, n, case["n_kinds"], 6, case["spread"]) * np.float32(case["scale"])
    queries = clustered(rng, case["n_queries"], case["n_kinds"], 6, case["spread"])
    queries *= np.float32(case["query_scale"])
    if case["zero"]:
        queries[0] = 0
        vectors[rng.integers(0, n)] = 0
    options = native.random_limits(rng, n, len(queries), case["filtered"])
    options["num_threads"] = case["threads"]
    if "min_score" in case["filtered"]:
        options["min_score"] = float(rng.choice([-0.5, 0, 0.5]))
    codes = grouped(
        rng,
        vectors,
        case["metric"],
        n_axes=case["n_axes"],
        panels=case["panels"],
        about=case["about"],
        sort=case["sort"],
    )
    both(case["level"], case["metric"], queries, vectors, case["k"], codes, **options)


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_queries", [1, 40])
def test_most_groups_are_skipped_where_items_are_alike(rng, level, metric, n_queries):
    vectors = alike(rng, 300, 32)
    codes = grouped(rng, vectors, metric)
    queries = native.f32(vectors[:n_queries] + 0.1 * rng.standard_normal((n_queries, 32)))
    stats = both(level, metric, queries, vectors, 10, codes)[2]
    assert stats["fine"] == stats["scanned"] < 0.2 * n_queries * len(vectors)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("spread", "parts"),
    [
        (0.4, ["group_across"]),
        (0.1, ["group_low", "group_high"]),
        (0.4, ["axis_across"]),
        (0.1, ["axis_low", "axis_high"]),
    ],
)
def test_a_smaller_fact_loses_items(rng, metric, spread, parts):
    """The test above has teeth."""
    vectors = alike(rng, 200, 8, spread)
    codes = grouped(rng, vectors, metric)
    for part in parts:
        codes[part] = codes[part] * np.float32(0.3)
    with pytest.raises(AssertionError):
        both("scalar", metric, vectors[::19].copy(), vectors, 20, codes)


@pytest.mark.parametrize("n_queries", [2, 40])
def test_where_groups_do_not_pay_all_is_walked(rng, n_queries):
    vectors = alike(rng, 300, 32)
    codes = grouped(rng, vectors, "cosine")
    queries = native.f32(rng.standard_normal((n_queries, 32)))
    queries[-1] = 0
    stats = both(native.LEVELS[-1], "cosine", queries, vectors, 500, codes)[2]
    assert n_queries * len(vectors) <= stats["scanned"] <= 1.1 * n_queries * len(vectors)


def test_a_query_of_length_zero_gets_the_first_items(rng):
    vectors = clustered(rng, 3000, 10, 8, 0.1)
    codes = grouped(rng, vectors, "dot", n_axes=10)
    queries = np.zeros((2, 8), np.float32)
    rows, scores, stats = both("scalar", "dot", queries, vectors, 4, codes)
    assert rows.tolist() == [[0, 1, 2, 3]] * 2
    assert not scores.any()
    assert stats["rescored"] == 0
    both("scalar", "dot", queries, vectors, 4, codes, min_score=0.5)
    both("scalar", "cosine", queries, vectors, 4, codes, min_score=-0.5, num_threads=2)


WRONG = {
    "no axes": ("axes", lambda a: a[:0]),
    "axes of another dim": ("axes", lambda a: a[:, 1:].copy()),
    "short low": ("group_low", lambda a: a[1:]),
    "short high of axes": ("axis_high", lambda a: a[1:]),
    "short starts of axes": ("axis_starts", lambda a: a[1:]),
    "axes of more groups": ("axis_starts", lambda a: np.append(a[:-1], a[-1] + 1)),
    "short starts": ("group_starts", lambda a: a[1:]),
    "late start": ("group_starts", lambda a: a + 1),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_groups_of_another_shape_are_refused(rng, wrong):
    vectors = clustered(rng, 300, 10, 8, 0.1)
    codes = grouped(rng, vectors, "dot", n_axes=10)
    part, change = WRONG[wrong]
    with pytest.raises(ValueError, match="codes must hold groups of 10 panels of dim 8"):
        both("scalar", "dot", vectors[:1].copy(), vectors, 4, codes | {part: change(codes[part])})
