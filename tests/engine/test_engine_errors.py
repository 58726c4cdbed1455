"""Wrong arguments: the type of the error, and that it names argument, rule and value."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from brute_force import CONTENT, MODEL, make_inter, make_model, make_pair


@pytest.fixture(scope="module")
def engine():
    return make_pair(np.random.default_rng(3), {MODEL: 1.0, CONTENT: 0.5})[0]


CALLS = [
    (lambda e: e.recommend(100, -1), ValueError, r"k must be >= 0, got -1"),
    (lambda e: e.recommend(100, 2.5), TypeError, r"k must be an integer, got float"),
    (lambda e: e.recommend("a"), TypeError, r"user_id must be an integer.*got 'a'"),
    (lambda e: e.recommend(["a"]), TypeError, r"user_id must be integers.*got 'a'"),
    (lambda e: e.recommend(-1), ValueError, r"user_id must not be -1"),
    (lambda e: e.recommend([100, -1]), ValueError, r"user_id must not contain -1"),
    (lambda e: e.recommend(True), TypeError, r"user_id must be an integer or a str, got bool"),
    (lambda e: e.recommend(1.0), TypeError, r"user_id must be an integer or a str, got float"),
    (lambda e: e.recommend(None), TypeError, r"user_id must be an integer or a str, got None"),
    (lambda e: e.recommend(2**63), ValueError, r"user_id must fit int64, got 9223372036854775808"),
    (lambda e: e.recommend([[1]]), ValueError, r"user_id must be 1-D"),
    (lambda e: e.recommend(100, exclude_seen=1), TypeError, r"exclude_seen must be a bool"),
    (lambda e: e.recommend(100, allow=["a"]), TypeError, r"allow must be integers"),
    (lambda e: e.recommend(100, deny="a"), TypeError, r"deny must be a sequence of ids, got str"),
    (lambda e: e.recommend(100, on_unknown="x"), ValueError, r"on_unknown must be one of .*'x'"),
    (lambda e: e.recommend(100, timeout=0), ValueError, r"timeout must be > 0, got 0"),
    (lambda e: e.recommend(100, timeout="1"), TypeError, r"timeout must be a number, got str"),
    (lambda e: e.recommend(100, trace=1), TypeError, r"trace must be a bool, got int"),
    (lambda e: e.recommend(100, context={"hour": 3}), ValueError, r"context must be None"),
    (lambda e: e.recommend_for([1], context={}), ValueError, r"context must be None"),
    (lambda e: e.rank(100, [1], context={}), ValueError, r"context must be None"),
    (lambda e: e.similar_items(1, context={}), ValueError, r"context must be None"),
    (lambda e: e.search("a", context={}), ValueError, r"context must be None"),
    (
        lambda e: e.recommend_for([1, 5000, 6000]),
        rec.UnknownItemError,
        r"history must be in the catalogue, got 2 that are not: 5000, 6000",
    ),
    (lambda e: e.recommend_for(["a"]), TypeError, r"history must be integers"),
    (lambda e: e.recommend_for([1], weights=[0]), ValueError, r"weights must be > 0, got 0"),
    (
        lambda e: e.recommend_for([1], weights=[1, 2]),
        ValueError,
        r"weights must be 1-D of 1 ent",
    ),
    (lambda e: e.rank(100, [1, "b"]), TypeError, r"candidate_ids must be all integers or all"),
    (lambda e: e.rank(100, [1], -2), ValueError, r"k must be >= 0, got -2"),
    (lambda e: e.rank([100], [1]), TypeError, r"user_id must be an integer or a str, got list"),
    (lambda e: e.similar_items(5000), rec.UnknownItemError, r"item_id must be in .* got 5000"),
    (lambda e: e.similar_items([1, 5000]), rec.UnknownItemError, r"got 1 that are not: 5000"),
    (lambda e: e.similar_items(1, source="x"), ValueError, r"source must be one of 'model'"),
    (lambda e: e.search("a"), ValueError, r"search needs a text encoder"),
    (lambda e: e.search(3), TypeError, r"text must be a str, got int"),
    (lambda e: e.observe(100, 5000), rec.UnknownItemError, r"item_id must be in .* got 5000"),
    (lambda e: e.observe(100, 1, -1), ValueError, r"weight must be > 0, got -1"),
    (lambda e: e.observe(100, 1, np.nan), ValueError, r"weight must be finite, got nan"),
    (lambda e: e.observe(100, 1, 1e39), ValueError, r"weight must fit float32, got 1e\+39"),
    (lambda e: e.add_items([500]), ValueError, r"one of texts and vectors must be given"),
    (lambda e: e.add_items([500], ["a"]), ValueError, r"texts needs a text encoder"),
    (lambda e: e.add_items([500], "a"), TypeError, r"texts must be a sequence of str"),
    (lambda e: e.add_items([500], ["a", "b"]), ValueError, r"texts must have one entry per id"),
    (lambda e: e.add_items([5, 5], vectors=np.ones((2, 6))), ValueError, r"ids must not repeat"),
    (lambda e: e.add_items(["a"], vectors=np.ones((1, 6))), TypeError, r"ids must be integers"),
    (lambda e: e.remove_items([5000]), rec.UnknownItemError, r"ids must be in .*: 5000"),
    (lambda e: e.item_attributes([5000]), rec.UnknownItemError, r"ids must be in .*: 5000"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=range(len(CALLS)))
def test_a_wrong_call_says_what_is_wrong(engine, call, error, message):
    state = engine._state
    with pytest.raises(error, match=message):
        call(engine)
    assert engine._state is state


class Encoder:
    dim, digest = 3, "d"

    def encode(self, texts):
        return np.ones((len(texts), 3), np.float32)

    def encode_query(self, text):
        return np.ones(3, np.float32)


def test_build_says_what_does_not_fit(rng):
    inter = make_inter(rng)
    n = len(inter.items)
    model = make_model(rng, inter)
    other = make_model(rng, make_inter(rng, n_items=30, n_events=200))
    content = np.ones((n, 4), np.float32)
    build = rec.Engine.build
    cases = [
        (lambda: build([1]), TypeError, r"inter must be an Interactions, got list"),
        (lambda: build(inter, other), ValueError, r"model.item_factors_ must have a row for each"),
        (lambda: build(inter, rec.ALS()), rec.NotFittedError, r"not fitted"),
        (lambda: build(inter, content=content[1:]), ValueError, r"content must have 17 rows"),
        (lambda: build(inter, content=content[:, 0]), ValueError, r"content must be 2-D"),
        (lambda: build(inter, content=content * np.nan), ValueError, r"content must be finite"),
        (lambda: build(inter, encoder=Encoder()), ValueError, r"content must be given with an enc"),
        (
            lambda: build(inter, content=content, encoder=Encoder()),
            ValueError,
            r"encoder must have content's dim 4, got 3",
        ),
        (
            lambda: build(inter, content=content, encoder="minilm"),
            TypeError,
            r"encoder must have encode_query\(\), got str",
        ),
        (lambda: build(inter, weights={"model": 1}), ValueError, r"weights must name sources"),
        (lambda: build(inter, model, weights={"model": 0}), ValueError, r"one above 0"),
        (lambda: build(inter, model, weights={}), ValueError, r"one above 0"),
        (lambda: build(inter, weights={"popularity": -1}), ValueError, r"must be >= 0, got -1"),
        (lambda: build(inter, weights=[1]), TypeError, r"weights must be a mapping, got list"),
        (lambda: build(inter, items=3), TypeError, r"items must be a pandas, polars or Arrow"),
        (lambda: build(inter, items={"x": [1]}), ValueError, r"items must have a column 'item_id'"),
        (
            lambda: build(inter, users={"user_id": [1, 1], "x": [1, 2]}),
            ValueError,
            r"users\['user_id'\] must not repeat an id",
        ),
        (
            lambda: build(inter, items={"item_id": [1, 2], "x": [1]}),
            ValueError,
            r"items\['x'\] must be 1-D with 2 rows",
        ),
        (
            lambda: build(inter, items={"item_id": [1], "x": [["a"]]}),
            (ValueError, TypeError),
            r"items\['x'\] must",
        ),
        (
            lambda: build(inter, items={"item_id": ["a"], "x": [1]}),
            TypeError,
            r"items\['item_id'\] must be integers, as the engine's ids are, got 'a'",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_weights_below_zero_are_refused():
    rules = rec.CleaningRules(negative_weight=False)
    inter = rec.Interactions.from_arrays([1, 2], [1, 2], [1, -1], rules=rules)
    with pytest.raises(ValueError, match="inter must hold weights >= 0, got -1"):
        rec.Engine.build(inter)


def test_zero_weights_are_no_events():
    rules = rec.CleaningRules(explicit_zero=False)
    inter = rec.Interactions.from_arrays([1, 1, 2], [1, 2, 2], [1, 0, 0], rules=rules)
    engine = rec.Engine.build(inter)
    assert engine.history(1)[0].tolist() == [1]
    assert engine.recommend(9, 2).scores.tolist() == [1, 0]
    with pytest.raises(rec.UnknownUserError):
        engine.recommend(2, on_unknown="raise")


def test_an_engine_without_content_says_so(rng):
    engine = rec.Engine.build(make_inter(rng))
    item = engine.item_ids[0]
    with pytest.raises(ValueError, match="search needs content"):
        engine.search("x")
    with pytest.raises(rec.UnknownItemError, match="must have a vector in a model or content"):
        engine.similar_items(item)
    with pytest.raises(ValueError, match="vectors must be None: this engine was built without"):
        engine.add_items([77], vectors=np.ones((1, 3)))
    engine.add_items([77])
    assert 77 in engine
    assert engine.recommend(10**9, 40).ids.tolist().count(77) == 1


def test_a_model_of_another_type_is_refused_by_name() -> None:
    events = rec.Interactions.from_arrays([1, 2], [3, 4])
    with pytest.raises(TypeError, match="model must be a fitted ALS or BPR, got int"):
        rec.Engine.build(events, 5)  # type: ignore[arg-type]
