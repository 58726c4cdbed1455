"""Sets: fine where only membership counts, refused by name where entry i belongs to an entry i."""

from __future__ import annotations

import numpy as np
import pytest

import recengine as rec

EYE = np.eye(3, dtype=np.float32)
EVENTS = rec.Interactions.from_arrays([1, 1, 2], [10, 20, 30])
IDS = {10, 20, 30}


def index():
    return rec.FlatIndex(EYE, ids=[10, 20, 30])


def engine(**parts):
    return rec.Engine.build(EVENTS, content=EYE, **parts)


ORDERED = {
    "ids": lambda: rec.FlatIndex(EYE, ids=IDS),
    "ids of a map": lambda: rec.IdMap(frozenset(IDS)),
    "ids of a look-up": lambda: EVENTS.items.indices(IDS),
    "new_ids": lambda: EVENTS.items.extended({40}),
    "ids of upsert": lambda: index().upsert({40}, EYE[:1]),
    "ids of ordinals": lambda: index().ordinals(IDS),
    "columns['price']": lambda: rec.FlatIndex(EYE, columns={"price": {1, 2, 3}}),
    "user_ids": lambda: rec.Interactions.from_arrays({1, 2}, [1, 2]),
    "weights": lambda: rec.Interactions.from_arrays([1, 2], [1, 2], weights={1.0, 2.0}),
    "items['price']": lambda: engine(items={"item_id": [10, 20, 30], "price": {1, 2, 3}}),
    "items['item_id']": lambda: engine(items={"item_id": IDS, "price": [1, 2, 3]}),
    "ids of add_items": lambda: engine().add_items({40}, vectors=EYE[:1]),
    "texts": lambda: engine().add_items([40], texts={"a"}),
    "ids of attributes": lambda: engine().item_attributes(IDS),
    "history": lambda: engine().recommend_for({10, 20}, weights=[1, 2]),
    "users": lambda: rec.evaluate(engine().recommend([1, 2], 2), EVENTS, users={1, 2}, k=2),
}


@pytest.mark.parametrize("name", ORDERED)
def test_a_set_is_refused_where_order_counts(name):
    argument = name.partition(" of ")[0]
    with pytest.raises(TypeError) as caught:
        ORDERED[name]()
    assert str(caught.value).startswith(f"{argument} must be in order, got a ")


@pytest.mark.parametrize("call", ["recommend", "similar_items"])
def test_a_set_is_no_batch(call):
    with pytest.raises(TypeError, match=r"_id must be an integer or a str, got set"):
        getattr(engine(), call)({10, 20})


def test_a_set_serves_where_only_membership_counts():
    flat, whole = index(), engine()
    for options in ({"allow": {10, 30}}, {"deny": {10, 30}}, {"exclude": {10, 30}}):
        listed = {name: sorted(ids) for name, ids in options.items()}
        got, want = flat.search(EYE[0], 3, **options), flat.search(EYE[0], 3, **listed)
        assert got.ids.tolist() == want.ids.tolist()
    assert flat.rank(EYE[0], {10, 20}).ids.tolist() == [10, 20]
    kept = whole.filter(allow={10, 20}, deny={20})
    assert whole.recommend(2, 3, filter=kept).ids.tolist() == [10, -1, -1]
    assert whole.recommend(2, 3, allow={10, 20}, deny={20}).ids.tolist() == [10, -1, -1]
    assert set(whole.rank(2, {10, 20}).ids.tolist()) == {10, 20}
    history = whole.recommend_for({10, 20}, 2)
    assert history.ids.tolist() == whole.recommend_for([10, 20], 2).ids.tolist()
    flat.delete({10, 20})
    whole.remove_items({10, 20})
    assert flat.ids.tolist() == whole.item_ids.tolist() == [30]


@pytest.mark.parametrize("values", ["abc", b"abc", 5])
def test_a_column_is_an_array(values):
    with pytest.raises(TypeError, match=r"items\['p'\] must be an array or a list, got"):
        engine(items={"item_id": [10, 20, 30], "p": values})
    with pytest.raises(TypeError, match="item_ids must be an array or a list, got"):
        rec.Interactions.from_arrays([1, 2, 3], values)


def test_ids_that_come_once_are_named_when_they_are_unknown():
    with pytest.raises(rec.UnknownItemError, match="ids must be in the catalogue, got 1 that"):
        engine().remove_items(item for item in (10, 99))
