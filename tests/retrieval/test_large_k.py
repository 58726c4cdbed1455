"""Answers far longer than the items: padded up to a documented number, refused beyond it."""

from __future__ import annotations

import numpy as np
import pytest

import recengine as rec
from recengine._validation import MOST_PADDING

EYE = np.eye(4, dtype=np.float32)
HUGE = 2**31 - 1


def requests():
    """Return name -> (a call with k, how many items it may return)."""
    index = rec.FlatIndex(EYE)
    part = index.search(EYE[0], 3)
    events = rec.Interactions.from_arrays([1, 1, 2], [10, 20, 30])
    engine = rec.Engine.build(events, content=EYE[:3], weights={"content": 1, "popularity": 1})
    return {
        "search": (lambda k: index.search(EYE[0], k), 4),
        "rank": (lambda k: index.rank(EYE[0], [1, 3], k), 2),
        "topk": (lambda k: rec.topk(EYE[0], k), 4),
        "merge_topk": (lambda k: rec.merge_topk([part, part], k), 3),
        "recommend": (lambda k: engine.recommend(1, k, exclude_seen=False), 3),
        "recommend unknown": (lambda k: engine.recommend(99, k), 3),
        "recommend_for": (lambda k: engine.recommend_for([10], k), 2),
        "engine rank": (lambda k: engine.rank(1, [10, 30], k), 2),
        "similar_items": (lambda k: engine.similar_items(10, k), 2),
    }


@pytest.mark.parametrize("name", requests())
def test_k_beyond_the_items_is_padded_and_far_beyond_refused(name):
    call, n_items = requests()[name]
    long = call(MOST_PADDING + 1)
    assert long.ids.shape == (MOST_PADDING + 1,)
    assert (long.ids >= 0).sum() == n_items
    np.testing.assert_array_equal(long.ids[:2], call(2).ids)
    for k in (HUGE, MOST_PADDING + 10**6):
        with pytest.raises(ValueError, match=rf"k must be <= \d+ \(\d items and .* got {k}"):
            call(k)
