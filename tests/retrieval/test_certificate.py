"""The bound of the certified int8 scan: what the code table promises, and that nothing is lost.

`_code_scan.pyx` proves that an item is dropped only if it cannot exceed tau. Here the facts that
the proof starts from are held against exact arithmetic, its limit is probed where it is tight (tau
just below a score), and damaged bounds show that these probes can fail. Worst cases follow in
`test_certificate_cases.py`.
"""

from __future__ import annotations

from fractions import Fraction

import native_calls as native
import numpy as np
import oracles
import pytest

from recengine import _native
from recengine.retrieval import _coding, _score, _search

each_level = pytest.mark.parametrize("level", native.LEVELS)
each_metric = pytest.mark.parametrize("metric", native.METRICS)

UNIT = Fraction(1, 2**53)  # rounding of float64


def encode(metric, vectors):
    """Return codes that a test may change."""
    norms = _score.squared_norms(_native.api(), vectors)
    return _native.encode(vectors, norms, native.METRICS.index(metric), with_facts=True)


def scan(level, metric, queries, vectors, k, codes, **options):
    """Return (rows, scores, stats) of the int8 scan with these codes."""
    api, number = _native.api(level), native.METRICS.index(metric)
    norms = _score.squared_norms(api, vectors)
    reach = _score.reach(number, norms)
    return _search.search(api, number, queries, vectors, norms, reach, k, codes=codes, **options)


def tables(rng):
    """Yield (name, vectors): ordinary, tight, tiny and very uneven rows."""
    base = rng.standard_normal((40, 6))
    yield "gaussian", native.f32(base)
    yield "cone", native.f32(1 + 1e-6 * base)
    yield "denormal", native.f32(base * 1e-42)
    yield "uneven", native.f32(base * 10.0 ** rng.integers(-30, 30, (40, 1)))
    yield "zeros", np.zeros((40, 6), np.float32)
    yield "one dim", native.f32(base[:, :1])


@each_metric
def test_codes_are_what_the_proof_says(rng, metric):
    for name, vectors in tables(rng):
        codes = encode(metric, vectors)
        n, dim = vectors.shape
        signed = native.signed_codes(codes, n, dim)
        assert np.abs(signed).max() <= 127, name
        assert not signed[:, dim:].any(), name
        mean = [Fraction(m) for m in codes["mean"]]
        mean_length = Fraction(float(np.linalg.norm(codes["mean"])))
        norms = _score.squared_norms(_native.api(), vectors)
        slots = _coding.rows_inside(codes["high"], n) if codes["rows_inside"] else np.arange(n)
        for row in range(n):
            scale = float(codes["unit"])
            if metric == "cosine":
                scale = 1 / np.sqrt(norms[row]) if norms[row] > 0 else 0.0
            y = [Fraction(float(x)) * Fraction(scale) for x in vectors[row]]
            z = [a - b for a, b in zip(y, mean, strict=True)]
            size = max(1, *map(abs, y)) + mean_length
            noise = (dim + 8) * UNIT * size * dim
            slot = slots.tolist().index(row)
            panel, r = divmod(slot, 32)
            inverse, bias, _ = native.panel_facts(codes, n)
            step = check_step(float(inverse[panel, r]), z)
            fine = [Fraction(int(c)) for c in signed[slot, :dim]]
            coarse = [Fraction((int(c) + 128) // 16 * 16) - Fraction(241, 2) for c in fine]
            for grid, grid_codes, width in ((0, fine, 1), (1, coarse, 16)):
                residual, length = codes["residual"][grid, slot], codes["length"][grid, slot]
                check_grid(grid_codes, z, step, width, noise, residual, length)
            stored = 0.0 if codes["rows_inside"] else float(bias[panel, r])
            check_bias(stored, z, step, mean, noise, metric)


def check_step(inverse, z):
    """Return the step that explains the codes: the float32 next to what the rule says."""
    step = Fraction(max(float(max(map(abs, z))) / 126.99, 2.0**-60))
    assert abs(step * Fraction(inverse) - 1) <= Fraction(1, 2**22)
    return Fraction(float(np.float32(float(step))))


def check_grid(codes, z, step, width, noise, residual, length):
    """Hold residual and length of a row against z, known exactly but for `noise`."""
    gaps = [a - step * c for a, c in zip(z, codes, strict=True)]
    bound = Fraction(float(residual)) * step + noise
    lost = sum(g * g for g in gaps)
    assert lost <= bound * bound
    assert max(map(abs, gaps)) <= step * width * Fraction(51, 100) + step / 2 + noise
    # Tight as well: a bound that is far too large would keep everything.
    assert (bound - 3 * noise - step / 2**140) ** 2 <= lost * Fraction(100001, 100000) or (
        bound <= 4 * noise + step / 2**100
    )
    size = Fraction(float(length))
    squares = sum(c * c for c in codes)
    assert squares <= size * size <= squares * Fraction(100001, 100000) + Fraction(1, 2**200)


def check_bias(stored, z, step, mean, noise, metric):
    bias = sum(a * b for a, b in zip(mean, z, strict=True))
    if metric == "l2":
        bias = -sum(a * a for a in z) / 2
    error = abs(Fraction(stored) * step - bias)
    assert error <= abs(bias) / 2**22 + 4 * noise + step / 2**140


@each_metric
def test_panel_bounds_are_the_largest_of_the_panel(rng, metric):
    vectors = native.f32(rng.standard_normal((70, 9)) * 10.0 ** rng.integers(-3, 3, (70, 1)))
    codes = encode(metric, vectors)
    inverse, bias, bounds = native.panel_facts(codes, 70)
    bias = np.zeros_like(bias) if codes["rows_inside"] else bias
    inverse, bias = inverse.ravel(), np.abs(bias).ravel()
    for panel in range(3):
        rows = slice(32 * panel, min(70, 32 * panel + 32))  # idle slots do not count
        for grid in (0, 1):
            facts = (codes["residual"][grid], codes["length"][grid], inverse, bias)
            want = [*(fact[rows].max() for fact in facts), inverse[rows].min(), 0, 0, 0]
            np.testing.assert_array_equal(bounds[panel, grid], want)


def scattered(rng, n, dim):
    """Return rows without a mean to speak of, whose largest coordinates differ."""
    return native.f32(rng.standard_normal((n, dim)) * rng.uniform(0.5, 1.5, (n, 1)))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_rows_lie_by_step_within_windows(rng, metric):
    vectors = scattered(rng, 3000, 24)
    codes = encode(metric, vectors)
    assert not codes["mean"].any()
    assert codes["rows_inside"]
    order = _coding.rows_inside(codes["high"], 3000)
    window = np.arange(3000) // 1024
    np.testing.assert_array_equal(order // 1024, window)
    inverse, _, bounds = native.panel_facts(codes, 3000)
    assert not bounds[:, :, 3].any()
    steps = (1 / inverse).ravel()[:3000]
    for i in range(3):
        np.testing.assert_array_equal(np.sort(order[window == i]), np.flatnonzero(window == i))
        assert (np.diff(steps[window == i]) <= 0).all()
    level = bounds[:, 0, 2] == bounds[:, 0, 4]
    assert level.mean() >= 0.9
    # No row's step is more than half too large, and a level panel has one.
    scale = 1 / np.linalg.norm(vectors, axis=1) if metric == "cosine" else codes["unit"]
    own = (np.abs(vectors).max(axis=1) * scale)[order] / 126.99
    assert (steps >= own * (1 - 1e-6)).all()
    assert (steps <= own * 1.5 * (1 + 1e-6)).all()


def test_rows_stay_where_nothing_is_won(rng):
    """Under l2 and with a mean every item has a bias; equal steps need no order."""
    vectors = scattered(rng, 2000, 16)
    assert not encode("l2", vectors)["rows_inside"]
    assert not encode("dot", vectors + np.float32(1))["rows_inside"]
    signs = native.f32(rng.choice([-1, 1], (2000, 16)))
    for metric in ("cosine", "dot"):
        codes = encode(metric, signs)
        assert not codes["rows_inside"]
        assert not native.panel_facts(codes, 2000)[1].any()


def test_limits_hold_where_rows_lie_by_step(rng):
    """Tombstones, masks and exclusions are of rows and ordinals, not of slots."""
    vectors, queries = scattered(rng, 2500, 20), native.f32(rng.standard_normal((14, 20)))
    for chosen in (["alive"], ["mask"], ["exclude"], ["bias"], ["mask", "alive", "ordinals"]):
        limits = native.random_limits(rng, 2500, 14, chosen)
        for level in native.LEVELS:
            for k in (1, 30):
                native.search(level, "dot", queries, vectors, k, **limits)


def test_unit_and_mean_are_as_documented(rng):
    vectors = native.f32(rng.standard_normal((300, 7)) + 3)
    largest = np.linalg.norm(vectors.astype(float), axis=1).max()
    for metric in ("dot", "l2"):
        codes = encode(metric, vectors)
        exponent = np.log2(codes["unit"])
        assert exponent == round(exponent)
        assert 0.5 <= largest * codes["unit"] <= 1
        want = vectors.astype(float).mean(axis=0) * codes["unit"]
        np.testing.assert_allclose(codes["mean"], want, rtol=1e-13)
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    np.testing.assert_allclose(encode("cosine", vectors)["mean"], unit.mean(axis=0), rtol=1e-13)
    assert encode("cosine", vectors)["unit"] == 1
    balanced = np.concatenate([vectors, -vectors])
    assert not encode("dot", balanced)["mean"].any()


def lost_items(level, metric, queries, vectors, codes):
    """Count items that are not found when tau lies just below their own score."""
    table = oracles.scores(metric, queries, vectors)
    lost = 0
    for floor in np.unique(table)[-40:]:
        rows, _, _ = scan(level, metric, queries, vectors, len(vectors), codes, min_score=floor)
        lost += int((table >= floor).sum() - (rows >= 0).sum())
    return lost


COARSE_QUERIES = 3  # up to so many queries read the upper halves of the codes


def residual_is_tight(n_queries):
    """Items whose code errors all point along the query: Cauchy-Schwarz holds with equality."""
    dim = 64
    items = np.zeros((32, dim))
    step = np.float64(np.float32(127 / 126.99))
    places = np.arange(32)[:, None] % 7
    if n_queries <= COARSE_QUERIES:  # codes of x.5 + 7.49, whose upper halves stand for x.5
        items[:, 1:] = step * (16 * places - 120.5 + 128 + 7.4)
    else:
        items[:, 1:] = step * (places + 0.49)
    items[:, 0] = 127
    query = np.ones(dim)
    query[0] = 0
    return native.f32(np.concatenate([items, -items])), native.f32(np.tile(query, (n_queries, 1)))


def length_is_tight(n_queries):
    """The query's code errors all point along the codes of the items, which are exact."""
    dim = 64
    items = np.tile(np.arange(90, 122)[:, None] / 127.0, (1, dim))
    items[:, 0] = 0
    query = 61.464 * np.ones(dim)  # x.46 of 127 steps, x.49 of 63
    query[0] = 127
    return native.f32(np.concatenate([items, -items])), native.f32(np.tile(query, (n_queries, 1)))


@each_level
@pytest.mark.parametrize("n_queries", [1, 4, 13])
@pytest.mark.parametrize("make", [residual_is_tight, length_is_tight])
def test_nothing_is_lost_where_the_bound_is_tight(level, make, n_queries):
    vectors, queries = make(n_queries)
    for metric in native.METRICS:
        codes = encode(metric, vectors)
        assert lost_items(level, metric, queries, vectors, codes) == 0


@each_level
@pytest.mark.parametrize(("n_queries", "grid"), [(1, 1), (4, 0)])
def test_a_smaller_residual_loses_items(level, n_queries, grid):
    """The probe has teeth: with the residual a tenth too small, items disappear."""
    vectors, queries = residual_is_tight(n_queries)
    codes = encode("dot", vectors)
    native.panel_facts(codes, len(vectors))[2][:, grid, 0] *= 0.9
    assert lost_items(level, "dot", queries, vectors, codes) > 0


@each_level
def test_a_smaller_length_loses_items(level):
    vectors, queries = length_is_tight(4)
    codes = encode("dot", vectors)
    native.panel_facts(codes, len(vectors))[2][:, 0, 1] *= 0.5
    assert lost_items(level, "dot", queries, vectors, codes) > 0


@each_level
@each_metric
def test_the_scan_drops_what_it_can(rng, level, metric):
    """Not certified by keeping everything: few of the pairs are scored in float64."""
    vectors = native.f32(rng.standard_normal((20_000, 64)))
    for n_queries, share in ((1, 0.02), (20, 0.05)):
        queries = native.f32(rng.standard_normal((n_queries, 64)))
        stats = scan(level, metric, queries, vectors, 10, encode(metric, vectors))[2]
        assert stats["scanned"] == n_queries * len(vectors)
        assert stats["rescored"] <= share * stats["scanned"]


@each_level
@pytest.mark.parametrize("n_queries", [1, 5])
def test_a_query_along_the_mean_drops_nothing_wrongly(level, n_queries):
    """P is tiny and so is what remains of p: no coefficient of the bound may overflow."""
    small = np.arange(300, 0, -1) * 1e-11
    items = np.ones((600, 2))
    items[::2, 1], items[1::2, 1] = small, -small
    vectors = native.f32(items)
    for rest in (1e-39, 1e-30, 1e-20, 1e-12, 0.0):
        queries = native.f32([[1, rest]] * n_queries)
        for metric in native.METRICS:
            for k in (1, 10):
                got = scan(level, metric, queries, vectors, k, encode(metric, vectors))
                oracles.assert_same_topk(got[:2], oracles.search(metric, queries, vectors, k))


@each_level
@pytest.mark.parametrize("n_queries", [2, 9])
@pytest.mark.parametrize("scale", [1e-39, 1e-37, 1e-30, 1e30])
def test_boosts_of_any_size_drop_nothing_wrongly(rng, level, scale, n_queries):
    """unit / (P s_q), which multiplies a boost, leaves float32 where items are tiny."""
    vectors = native.f32(rng.standard_normal((900, 4)) * scale)
    queries = native.f32(rng.standard_normal((n_queries, 4)))
    for size in (0.0, 1e-30, 1.0, 1e30):
        boosts = native.f32(-np.abs(rng.standard_normal(900)) * min(scale * size, 3e37))
        got = scan(level, "dot", queries, vectors, 5, encode("dot", vectors), bias=boosts)
        want = oracles.search("dot", queries, vectors, 5, bias=boosts)
        oracles.assert_same_topk(got[:2], want)


@each_level
@pytest.mark.parametrize("n_queries", [2, 9])
def test_boosts_beside_a_huge_item_drop_nothing_wrongly(rng, level, n_queries):
    """Or falls below what float32 carries in full, where one item is huge."""
    half = rng.standard_normal((100, 3))
    half[7] = 1e38
    vectors = native.f32(np.concatenate([half, -half]))  # the mean is 0, so most codes are 0
    queries = native.f32(rng.standard_normal((n_queries, 3)) * 1e13)
    boosts = native.f32(rng.choice([1e38, -1e38, 1e30], 200))
    codes = encode("dot", vectors)
    for floor in (1e38, np.nextafter(np.float32(1e38), np.float32(0)), 1e30):
        limit = {"min_score": float(np.float32(floor))}
        got = scan(level, "dot", queries, vectors, 100, codes, bias=boosts, **limit)
        want = oracles.search("dot", queries, vectors, 100, bias=boosts, **limit)
        oracles.assert_same_topk(got[:2], want)
