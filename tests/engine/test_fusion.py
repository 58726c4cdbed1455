"""Fusion is exact however few are nominated: ties, negative scores, items that a source lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec
from recengine.engine import fuse

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MODEL, POPULARITY, assert_same, make_pair, with_factors

FUSED = [
    {MODEL: 1.0, CONTENT: 1.0},
    {MODEL: 0.25, CONTENT: 2.0},
    {MODEL: 1.0, POPULARITY: 0.5},
    {MODEL: 1.0, CONTENT: 1.0, POPULARITY: 1e-3},
]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    weights=st.sampled_from(FUSED),
    tied=st.booleans(),
    k=st.integers(1, 4),
    n_new=st.integers(0, 6),
)
def test_fusion_from_few_nominees_equals_brute_force(seed, weights, tied, k, n_new):
    rng = np.random.default_rng(seed)
    engine, twin = make_pair(rng, weights, tied=tied, n_items=40, n_events=90, n_users=6)
    new = [900 + number for number in range(n_new)]
    table = rng.integers(-2, 3, (n_new, 6)).astype(np.float32)
    engine.add_items(new, vectors=table if weights.get(CONTENT) else None)
    twin.add(new, table)
    gone = rng.choice(twin.items, 5, replace=False).tolist()
    engine.remove_items(gone)
    twin.remove(gone)
    users = list(twin.users)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuse, "_FIRST_DEPTH", 1)
        patch.setattr(fuse, "_GROWTH", 2)
        batch = engine.recommend(users, k)
        for row, user in enumerate(users):
            got = engine.recommend(user, k)
            assert_same(got, twin.recommend(user, k))
            assert batch.ids[row].tolist() == got.ids.tolist()


def build(item_factors, content, weights):
    """Return an engine of one user, 1, with factor 1 and the content (1, 0), who had item 0."""
    n = len(item_factors)
    inter = rec.Interactions.from_arrays([1, *[2] * n], [0, *range(n)])
    model = rec.ALS(factors=1, iterations=1, random_state=0).fit(inter)
    model = with_factors(model, [[1.0], [1.0]], np.array(item_factors)[:, None])
    return rec.Engine.build(inter, model, np.array(content, np.float32), weights=weights)


def test_a_tie_that_rounding_makes_goes_to_the_lower_ordinal(monkeypatch):
    monkeypatch.setattr(fuse, "_FIRST_DEPTH", 2)
    monkeypatch.setattr(fuse, "_GROWTH", 2)
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    engine = build(
        [0.0, -5.0, -5.0, below, 1.0, 1.0],
        [[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]],
        {MODEL: 1.0, CONTENT: 0.6 * 2.0**-24},
    )
    # Items 4 and 5 lead the model, 1 and 2 the content; nobody names 3, whose sum rounds to 4's.
    assert engine.recommend(1, 1).ids.tolist() == [3]
    assert engine.recommend(1, 2).ids.tolist() == [3, 4]
    assert engine.recommend(1, 2).scores.tolist() == [1.0, 1.0]


def test_an_item_without_factors_may_beat_negative_scores(monkeypatch):
    monkeypatch.setattr(fuse, "_FIRST_DEPTH", 2)
    monkeypatch.setattr(fuse, "_GROWTH", 2)
    engine = build(
        [-1.0, -1.0, -3.0, -5.0],
        [[1, 0], [0.9, np.sqrt(1 - 0.9**2)], [0, 1], [0.8, 0.6]],
        {MODEL: 1.0, CONTENT: 1.0},
    )
    engine.add_items([9], vectors=[[0.7, np.sqrt(1 - 0.7**2)]])
    assert engine.recommend(1, 1).ids.tolist() == [9]


def test_sums_saturate_and_have_no_negative_zero():
    tiny = build([0.0, -1.0, 1.0], [[1, 0], [0, 1], [0, 1]], {MODEL: 1e-60, CONTENT: 1.0})
    answer = tiny.recommend(1, 2)
    assert answer.ids.tolist() == [1, 2]  # a tie: both sums round to zero
    assert answer.scores.view(np.uint32).tolist() == [0, 0]
    limit = np.finfo(np.float32).max
    huge = build([0.0, -4.0, 4.0], [[1, 0], [0, 1], [0, 1]], {MODEL: float(limit), CONTENT: 1.0})
    assert huge.recommend(1, 2).scores.tolist() == [limit, -limit]


def test_fusion_stops_early_where_the_sources_agree(rng):
    engine, twin = make_pair(rng, {CONTENT: 1.0, MODEL: 1e-9}, n_items=400, n_events=800)
    trace = engine.recommend(next(iter(twin.users)), 2, trace=True).trace
    found = [stage["found"] for stage in trace["stages"] if stage["stage"] == CONTENT]
    assert found[0] == 64
    assert sum(found) < 400


def test_weights_scale_the_sum(rng):
    engine, twin = make_pair(rng, {MODEL: 2.0, CONTENT: 0.5})
    user = next(iter(twin.users))
    item = engine.recommend(user, 1).ids[0]
    factors = engine._state.factors.index.rank(
        engine._state.profiles.get(user).factors, [twin.items.index(item)]
    )
    mean, _ = engine._state.content.user_vectors([engine._state.profiles.get(user)])
    cosine = engine._state.content.index.rank(mean[0], [twin.items.index(item)])
    want = np.float32(2.0 * float(factors.scores[0]) + 0.5 * float(cosine.scores[0]))
    assert engine.recommend(user, 1).scores[0] == want
