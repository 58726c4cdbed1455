"""evaluate against ir-measures (trec_eval) and against the protocol in plain Python."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recengine as rec

sys.path.append(str(Path(__file__).parent))
from plain_protocol import NAMES, figures_of_users

IR_MEASURES = {
    "precision": "P@{k}",
    "recall": "R@{k}",
    "ndcg": "nDCG@{k}",
    "map": "AP@{k}",
    "mrr": "RR@{k}",
    "hit_rate": "Success@{k}",
}


def random_lists(rng, n_users, n_items, width):
    order = rng.random((n_users, n_items)).argsort(axis=1)[:, :width]
    return rec.TopK(order, np.tile(-np.arange(width, dtype=np.float32), (n_users, 1)))


@pytest.mark.parametrize("as_str", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_evaluate_equals_ir_measures(rng, k, as_str):
    ir_measures = pytest.importorskip("ir_measures")
    n_users, n_items = 60, 40
    result = random_lists(rng, n_users, n_items, 15)
    pairs = np.argwhere(rng.random((n_users, n_items)) < rng.random((n_users, 1)) * 0.6)
    users, items = (pairs[:, 0] + 7, pairs[:, 1])
    asked, ids = np.arange(n_users) + 7, result.ids
    if as_str:
        users, items, asked = (np.char.add("x", a.astype(str)) for a in (users, items, asked))
        ids = np.char.add("x", ids.astype(str)).astype(object)
    test = rec.Interactions.from_arrays(users, items)
    found = rec.evaluate(rec.TopK(ids, result.scores), test, users=asked, k=k)

    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(users, items, strict=True)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(-rank))
        for user, row in zip(asked, ids, strict=True)
        for rank, item in enumerate(row)
    ]
    names = {ir_measures.parse_measure(text.format(k=k)): m for m, text in IR_MEASURES.items()}
    row_of = {str(user): row for row, user in enumerate(found.users)}
    compared = 0
    for entry in ir_measures.iter_calc(list(names), qrels, run):
        ours = found.per_user[names[entry.measure]][row_of[entry.query_id]]
        assert ours == pytest.approx(entry.value, abs=1e-12), (entry.measure, entry.query_id)
        compared += 1
    assert compared == len(IR_MEASURES) * found.n_users > 300
    total = ir_measures.calc_aggregate(list(names), qrels, run)
    for measure, metric in names.items():
        assert found[metric] == pytest.approx(total[measure], abs=1e-12)


@st.composite
def worlds(draw):
    """Small clumsy worlds: repeats, zero weights, strangers, short lists, seen items."""
    ids = st.integers(0, 6) if draw(st.booleans()) else st.sampled_from("abcdefg")
    events = draw(st.lists(st.tuples(ids, ids, st.sampled_from([0.0, 1.0, 2.5])), max_size=25))
    seen = draw(st.lists(st.tuples(ids, ids), max_size=8))
    users = draw(st.lists(ids, unique=True, min_size=1, max_size=7))
    lists = {user: draw(st.lists(ids, unique=True, max_size=6)) for user in users}
    return events, seen, lists, draw(st.integers(1, 6)), draw(st.booleans())


def interactions(rows):
    rules = rec.CleaningRules(explicit_zero=False, duplicate="keep", max_events_per_user=None)
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return rec.Interactions.from_arrays(*map(list, columns[:2]), weights=columns[2], rules=rules)


def topk_of(lists, width):
    is_str = any(isinstance(item, str) for ranked in lists.values() for item in ranked)
    ids = np.full((len(lists), width), None if is_str else -1, object if is_str else np.int64)
    scores = np.full((len(lists), width), -np.inf, np.float32)
    for row, ranked in enumerate(lists.values()):
        ids[row, : len(ranked)] = ranked
        scores[row, : len(ranked)] = -np.arange(len(ranked))
    return rec.TopK(ids, scores)


@settings(max_examples=120)
@given(worlds())
def test_evaluate_equals_the_plain_protocol(world):
    events, seen, lists, k, with_train = world
    test = interactions(events)
    train = interactions([(*pair, 1.0) for pair in seen]) if with_train else None
    expected = figures_of_users(lists, events, k, set(seen) if with_train else ())
    users = list(lists)

    def run():
        return rec.evaluate(topk_of(lists, 6), test, users=users, train=train, k=k)

    if not expected:
        with pytest.raises(ValueError, match="must have a relevant event in test"):
            run()
        return
    found = run()
    assert found.users.tolist() == [user for user in users if user in expected]
    for name in NAMES:
        values = [expected[user][name] for user in found.users.tolist()]
        np.testing.assert_allclose(found.per_user[name], values, rtol=1e-13, err_msg=name)
        assert found[name] == pytest.approx(np.mean(values), rel=1e-13)
    if train is not None:
        assert found.warm.tolist() == [u in {w for w, _ in seen} for u in found.users.tolist()]


@pytest.mark.parametrize("backend", ["polars", "pandas", "pyarrow"])
@pytest.mark.parametrize("as_str", [False, True])
def test_frame_equals_topk(rng, backend, as_str):
    pytest.importorskip(backend)
    result = random_lists(rng, 30, 25, 8)
    # Some lists are short: the tail is padding.
    ids, scores = result.ids.astype(object if as_str else np.int64), result.scores.copy()
    short = np.arange(8) >= rng.integers(0, 9, 30)[:, None]
    if as_str:
        ids = np.char.add("x", result.ids.astype(str)).astype(object)
    ids[short], scores[short] = (None if as_str else -1), -np.inf
    result = rec.TopK(ids, scores)
    pairs = np.argwhere(rng.random((40, 25)) < 0.2)
    items = np.char.add("x", pairs[:, 1].astype(str)) if as_str else pairs[:, 1]
    test = rec.Interactions.from_arrays(pairs[:, 0], items)
    asked = rng.permutation(30)
    everything = (*NAMES, "coverage")
    of_topk = rec.evaluate(result, test, users=asked, k=8, metrics=everything)
    frame = result.to_frame(asked, backend=backend)
    of_frame = rec.evaluate(frame, test, users=asked, k=8, metrics=everything)
    np.testing.assert_array_equal(of_frame.users, of_topk.users)
    assert of_frame.figures == of_topk.figures
    for name in NAMES:
        np.testing.assert_array_equal(of_frame.per_user[name], of_topk.per_user[name])


def test_order_of_users_and_rows_of_a_frame_do_not_matter(rng):
    polars = pytest.importorskip("polars")
    result = random_lists(rng, 30, 25, 8)
    pairs = np.argwhere(rng.random((30, 25)) < 0.2)
    test = rec.Interactions.from_arrays(pairs[:, 0], pairs[:, 1])
    first = rec.evaluate(result, test, users=np.arange(30), k=5)
    order = rng.permutation(30)
    again = rec.TopK(result.ids[order], result.scores[order])
    second = rec.evaluate(again, test, users=order, k=5)
    place = {user: row for row, user in enumerate(second.users.tolist())}
    rows = [place[user] for user in first.users.tolist()]
    frame = result.to_frame(np.arange(30), backend="polars").sample(
        fraction=1.0, shuffle=True, seed=int(rng.integers(1 << 30))
    )
    assert isinstance(frame, polars.DataFrame)
    third = rec.evaluate(frame, test, k=5)
    for name in NAMES:
        np.testing.assert_array_equal(first.per_user[name], second.per_user[name][rows])
        np.testing.assert_array_equal(first.per_user[name], third.per_user[name])
