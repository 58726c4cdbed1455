"""Hypothesis: extreme values, ties and duplicates leave the answer equal to the oracle."""

from __future__ import annotations

import native_calls as native
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FLT_MAX = oracles.FLT_MAX
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45, 1.1754942e-38, 1e-30, -3e-20, 1e15]
SPECIAL += [1e30, -1e30, FLT_MAX, -FLT_MAX, 1.0000001, 0.99999994, 3.0]
values = (
    st.sampled_from(SPECIAL)
    | st.floats(-2, 2, width=32)
    | st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@st.composite
def matrices(draw, dim, max_rows):
    """Rows of special values; some rows are repeated, scaled or negated."""
    pool = draw(st.lists(st.lists(values, min_size=dim, max_size=dim), min_size=1, max_size=6))
    n = draw(st.integers(1, max_rows))
    picks = draw(st.lists(st.integers(0, len(pool) - 1), min_size=n, max_size=n))
    factors = draw(st.lists(st.sampled_from([1.0, 1.0, -1.0, 0.5]), min_size=n, max_size=n))
    return (np.array(pool, np.float32)[picks] * np.array(factors, np.float32)[:, None]).astype(
        np.float32
    )


@st.composite
def cases(draw):
    dim = draw(st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 33]))
    vectors, queries = draw(matrices(dim, 40)), draw(matrices(dim, 5))
    return vectors, queries, draw(st.integers(0, 45))


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("metric", native.METRICS)
@settings(max_examples=60)
@given(case=cases())
def test_extreme_values_equal_oracle(level, metric, case):
    vectors, queries, k = case
    got = native.search(level, metric, queries, vectors, k)
    oracles.assert_same_topk(got[:2], oracles.search(metric, queries, vectors, k))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@settings(max_examples=40)
@given(case=cases(), data=st.data())
def test_extreme_bias_and_filters_equal_oracle(metric, case, data):
    vectors, queries, k = case
    n = len(vectors)
    bias = np.array(data.draw(st.lists(values, min_size=n, max_size=n)), np.float32)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    lists = [
        sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=n))) for _ in range(len(queries))
    ]
    indptr, rows = native.csr(lists)
    want = oracles.search(metric, queries, vectors, k, allowed=allowed, exclude=lists, bias=bias)
    for level in native.LEVELS:
        for chosen in ({"mask": native.words(allowed)}, {"rows": np.flatnonzero(allowed)}):
            got = native.search(
                level,
                metric,
                queries,
                vectors,
                k,
                bias=bias,
                exclude_indptr=indptr,
                exclude_rows=rows,
                **chosen,
            )
            oracles.assert_same_topk(got[:2], want)


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("metric", native.METRICS)
def test_directed_worst_cases_equal_oracle(rng, level, metric):
    """Cones, one giant coordinate, tiny and huge norms, near-ties across the k boundary."""
    base = rng.standard_normal((400, 40))
    giant = base.copy()
    giant[:, 3] *= 1e20
    norms = base * 10.0 ** rng.integers(-30, 30, (400, 1))
    near = np.ones((400, 40)) + rng.integers(-1, 2, (400, 40)) * 2.0**-23
    cone = np.ones((400, 40)) + 1e-6 * base
    denormal = base * 1e-42
    equal = np.tile(base[:1], (400, 1))
    for vectors in (giant, norms, near, cone, denormal, equal):
        table = native.f32(vectors)
        queries = np.concatenate([table[:5], native.f32(base[:5])])
        got = native.search(level, metric, queries, table, 13)
        oracles.assert_same_topk(got[:2], oracles.search(metric, queries, table, 13))
