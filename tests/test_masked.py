"""Masked arrays: an entry that is hidden is refused by name wherever arrays come in."""

from __future__ import annotations

import numpy as np
import pytest

import recengine as rec

EYE = np.eye(3, dtype=np.float32)
EVENTS = rec.Interactions.from_arrays([1, 1, 2], [10, 20, 30])


def masked(values):
    """Return the values with the second one hidden."""
    return np.ma.masked_array(values, [False, True, False])


def als():
    return rec.ALS(factors=2, iterations=1, random_state=0).fit(EVENTS)


def engine(**parts):
    return rec.Engine.build(EVENTS, **parts)


CALLS = {
    "indices": lambda: als().fold_in(masked([0, 1, 2])),
    "weights": lambda: als().fold_in([0, 1, 2], masked([1.0, 2.0, 3.0])),
    "items['price']": lambda: engine(items={"item_id": [10, 20, 30], "price": masked([1, 2, 3])}),
    "items['name']": lambda: engine(items={"item_id": [10, 20, 30], "name": masked(["a"] * 3)}),
    "items['item_id']": lambda: engine(items={"item_id": masked([10, 20, 30])}),
    "users['age']": lambda: engine(users={"user_id": [1, 2, 3], "age": masked([1, 2, 3])}),
    "items['new']": lambda: engine().add_items(
        [40, 50, 60], items={"item_id": [40, 50, 60], "new": masked([1, 2, 3])}
    ),
    "history": lambda: engine().recommend_for(masked([10, 20, 30])),
    "weights of a history": lambda: engine().recommend_for([10, 20, 30], weights=masked([1] * 3)),
    "columns['price']": lambda: rec.FlatIndex(EYE, columns={"price": masked([1, 2, 3])}),
    "columns['name']": lambda: rec.FlatIndex(EYE, columns={"name": masked(["a"] * 3)}),
    "bias": lambda: rec.FlatIndex(EYE, bias=masked([1, 2, 3])),
    "exclude indices": lambda: rec.FlatIndex(EYE).search(
        EYE[0], exclude=(np.array([0, 3]), masked([0, 1, 2]))
    ),
    "scores": lambda: rec.topk(masked([1.0, 2.0, 3.0]), 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_masked_entries_are_refused_by_name(name):
    with pytest.raises(ValueError) as caught:
        CALLS[name]()
    argument = name.partition(" of ")[0]
    assert str(caught.value) == f"{argument} must not be masked, got 1 masked entries"


def test_masked_arrays_that_hide_nothing_are_arrays():
    shown = np.ma.masked_array([1, 2, 3])
    got = engine(items={"item_id": [10, 20, 30], "price": shown}).item_attributes()["price"]
    assert got.tolist() == [1, 2, 3]
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(
        als().fold_in([0, 1, 2], shown), als().fold_in([0, 1, 2], shown.data)
    )
