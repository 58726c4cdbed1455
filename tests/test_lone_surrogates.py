"""Text that UTF-8 cannot hold: refused when it comes in, not when it is saved."""

from __future__ import annotations

import numpy as np
import pytest

import recengine as rec
from recengine._validation import check_text

EYE = np.eye(2, dtype=np.float32)
LONE = "b\ud800"
EVENTS = rec.Interactions.from_arrays(["u", "u"], ["a", "é"])


def engine(**parts):
    return rec.Engine.build(EVENTS, **parts)


CALLS = {
    "ids": lambda: rec.IdMap(["a", LONE]),
    "ids of an index": lambda: rec.FlatIndex(EYE, ids=np.array(["a", LONE])),
    "ids of upsert": lambda: rec.FlatIndex(EYE, ids=["a", "c"]).upsert([LONE], EYE[:1]),
    "ids of add_items": lambda: engine().add_items([LONE]),
    "user_id": lambda: engine().observe(LONE, "a"),
    "user_ids": lambda: rec.Interactions.from_arrays(["u", LONE], [1, 2]),
    "item_ids": lambda: rec.Interactions.from_arrays([1, 2], np.array(["é", LONE])),
    "item_ids beside gaps": lambda: rec.Interactions.from_arrays([1, 2], [None, LONE]),
    "items['title']": lambda: engine(items={"item_id": ["a", "é"], "title": [None, LONE]}),
    "columns['title']": lambda: rec.FlatIndex(EYE, columns={"title": [None, LONE]}),
    "columns['name']": lambda: rec.FlatIndex(EYE, columns={"name": np.array(["é", LONE])}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_lone_surrogate_is_refused_by_name(name):
    argument = name.partition(" ")[0]
    with pytest.raises(ValueError) as caught:
        CALLS[name]()
    assert str(caught.value) == f"{argument} must be text that UTF-8 can hold, got 'b\\ud800'"


def test_two_halves_in_neighbours_are_no_pair():
    with pytest.raises(ValueError, match="must be text that UTF-8 can hold"):
        check_text("ids", ["\ud83d", "\ude00"])
    check_text("ids", ["\U0001f600", "", "plain"])


def test_every_other_text_is_kept_and_saved(tmp_path):
    ids = ["", "\0", "\U0001f600", "\ufffe", "ÿ"]
    index = rec.FlatIndex(np.eye(5, dtype=np.float32), ids=ids)
    index.save(tmp_path / "i.rec")
    assert rec.FlatIndex.open(tmp_path / "i.rec").ids.tolist() == ids
