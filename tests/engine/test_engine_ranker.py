"""The last stage: a ranker orders what retrieval found, within its deadline, and comes back."""

from __future__ import annotations

import pickle

import numpy as np
import oracles
import pytest
from graphs import save_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_graphs import GENRES, expected, save_columns_model, save_pair_model

import recengine as rec

N_USERS, N_ITEMS = 12, 40
HOUR = {"hour": 21}


def world(seed=3):
    """Return (interactions, item attributes, user attributes): some of them are missing."""
    rng = np.random.default_rng(seed)
    users, items = np.repeat(np.arange(N_USERS), 5), rng.integers(0, N_ITEMS, 5 * N_USERS)
    inter = rec.Interactions.from_arrays(
        np.concatenate([users, np.full(N_ITEMS, 99)]), np.concatenate([items, np.arange(N_ITEMS)])
    )
    genres = [GENRES[i] if i < 3 else None for i in rng.integers(0, 4, N_ITEMS)]
    films = {"item_id": np.arange(N_ITEMS), "year": rng.integers(1950, 2000, N_ITEMS)}
    people = {"user_id": np.arange(N_USERS), "age": rng.integers(18, 80, N_USERS)}
    return inter, films | {"genre": genres}, people


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    path = save_columns_model(tmp_path_factory.mktemp("m") / "ctr.onnx")
    return rec.OnnxRanker(
        path,
        vocabularies={"item.genre": GENRES},
        missing={"user.age": 40, "item.year": 1970},
        n_candidates=15,
        num_threads=1,
    )


@pytest.fixture(scope="module")
def engines(ranker):
    """Return an engine with the ranker and its twin without."""
    inter, films, people = world()
    model = rec.ALS(factors=4, iterations=2, random_state=0).fit(inter)
    parts = {"model": model, "items": films, "users": people}
    return rec.Engine.build(inter, **parts, ranker=ranker), rec.Engine.build(inter, **parts)


def by_hand(plain, user, found, k):
    """Return (ids, scores) of candidates by the columns model, best first, ties by id."""
    ids = found.ids[found.ids >= 0]
    about = plain.item_attributes(ids)
    about["year"] = np.nan_to_num(about["year"].astype(float), nan=1970)
    age = plain.user_attributes([user])["age"][0] if user is not None else np.nan
    age = 40 if np.isnan(age) else age
    scores = expected(about, age, HOUR["hour"], found.scores[: len(ids)]).astype(np.float32)
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def assert_ranked(got, want):
    assert got.ids[got.ids >= 0].tolist() == want[0].tolist()
    np.testing.assert_allclose(got.scores[got.ids >= 0], want[1], rtol=1e-5)


@settings(max_examples=40)
@given(
    user=st.sampled_from([0, 3, 7, 99, 12345]),
    k=st.integers(0, 45),
    denied=st.sets(st.integers(0, N_ITEMS - 1)),
    drama=st.booleans(),
)
def test_recommend_orders_what_retrieval_found(engines, user, k, denied, drama):
    engine, plain = engines
    limits = {"deny": denied, "where": rec.where(genre="drama") if drama else None}
    got = engine.recommend(user, k, context=HOUR, **limits)
    found = plain.recommend(user, max(15, k), **limits)
    assert_ranked(got, by_hand(plain, user, found, k))
    assert len(got.ids) == k
    assert not got.partial
    assert set(got.ids.tolist()).isdisjoint(denied | set(plain.history(user)[0].tolist()))


def test_many_users_are_each_answered_alone(engines):
    engine, _ = engines
    users = [3, 12345, 0]
    many = engine.recommend(users, 9, context=HOUR)
    for row, user in enumerate(users):
        one = engine.recommend(user, 9, context=HOUR)
        oracles.assert_same_topk(one, (many.ids[row], many.scores[row]))
        short = engine.recommend(user, 4, context=HOUR)
        oracles.assert_same_topk(short, (one.ids[:4], one.scores[:4]))


def test_histories_and_candidates_are_ranked_too(engines):
    engine, plain = engines
    got = engine.recommend_for([1, 2, 3], 6, context=HOUR)
    assert_ranked(got, by_hand(plain, None, plain.recommend_for([1, 2, 3], 15), 6))
    candidates = [5, 9, 9, 30, 777, 2, 31]
    got = engine.rank(4, candidates, context=HOUR)
    assert_ranked(got, by_hand(plain, 4, plain.rank(4, candidates), 7))
    assert got.ids[-2:].tolist() == [-1, -1]
    assert_ranked(
        engine.rank(4, candidates, 2, context=HOUR), by_hand(plain, 4, plain.rank(4, candidates), 2)
    )
    oracles.assert_same_topk(engine.similar_items(3, 5), plain.similar_items(3, 5))


def test_new_items_and_changes_reach_the_ranker(ranker):
    inter, films, people = world()
    content = np.eye(N_ITEMS, dtype=np.float32)
    engine = rec.Engine.build(inter, content=content, items=films, users=people, ranker=ranker)
    plain = rec.Engine.build(inter, content=content, items=films, users=people)
    for each in (engine, plain):
        each.add_items([500], vectors=np.ones((1, N_ITEMS)), items={"item_id": [500]})
        each.remove_items([2])
        each.observe(777, 5)
    for user in (0, 777):
        got = engine.recommend(user, 30, context=HOUR)
        assert_ranked(got, by_hand(plain, user, plain.recommend(user, 30), 30))
        assert 500 in got.ids
        assert 2 not in got.ids


# --- deadlines, context, trace --------------------------------------------------------------------


class Late:
    """A ranker that is through with some users, and late for those after them."""

    digest, n_candidates = "late", 15

    def __init__(self, n_in_time):
        self.left, self.columns = n_in_time, {"item": ("year",)}

    def score(self, items, *, user, context, scores, timeout):
        self.timeout = timeout
        self.left -= 1
        if self.left < 0:
            raise rec.DeadlineError("late")
        return items["year"]


def test_a_late_ranker_leaves_the_answer_of_retrieval():
    inter, films, _ = world()
    plain, late = rec.Engine.build(inter, items=films), Late(1)
    engine = rec.Engine.build(inter, items=films, ranker=late)
    got = engine.recommend([0, 1, 2], 5, timeout=60)
    assert got.partial
    assert 50 < late.timeout <= 60
    assert (np.diff(got.scores[0]) <= 0).all()
    assert got.scores[0].min() > 1900, "by year"
    want = plain.recommend([0, 1, 2], 5)
    oracles.assert_same_topk((got.ids[1:], got.scores[1:]), (want.ids[1:], want.scores[1:]))
    with pytest.raises(rec.DeadlineError, match="timeout ran out in the ranker"):
        engine.rank(0, [1, 2, 3], timeout=60)


def test_a_timeout_reaches_the_graph(engines):
    engine, plain = engines
    got = engine.recommend(0, 5, timeout=1e-9, context=HOUR)
    assert got.partial
    assert set(got.ids.tolist()) <= {-1, *plain.recommend(0, 40).ids.tolist()}


def test_context_is_what_the_ranker_reads(engines):
    engine, plain = engines
    with pytest.raises(ValueError, match=r"lacking context\.hour; it has: user_age float32"):
        engine.recommend(0)
    with pytest.raises(ValueError, match="context must be of hour, which the ranker reads, got 'x"):
        engine.recommend(0, context=HOUR | {"x": 1})
    with pytest.raises(TypeError, match="context must be a mapping, got int"):
        engine.recommend(0, context=3)
    with pytest.raises(ValueError, match="context must be None: no stage reads it"):
        plain.recommend(0, context=HOUR)
    with pytest.raises(ValueError, match="context must be None: no stage reads it"):
        engine.similar_items(0, context=HOUR)


def test_the_trace_has_the_stage(engines):
    stages = engines[0].recommend([0, 1], 3, context=HOUR, trace=True).trace["stages"]
    assert [stage["stage"] for stage in stages] == ["users", "model", "ranker"]
    assert stages[-1]["candidates"] == stages[-1]["ranked"] == 30


# --- what a build and a file hold -----------------------------------------------------------------


def test_attributes_that_the_ranker_reads_must_be_there(ranker):
    inter, films, people = world()
    with pytest.raises(ValueError, match=r"users must have the columns .*, lacking \['age'\]"):
        rec.Engine.build(inter, items=films, ranker=ranker)
    del films["genre"]
    with pytest.raises(ValueError, match=r"items must have the columns .*, lacking \['genre'\]"):
        rec.Engine.build(inter, items=films, users=people, ranker=ranker)
    with pytest.raises(TypeError, match="ranker must have score, got int"):
        rec.Engine.build(inter, ranker=3)


def test_scores_of_the_ranker_are_checked():
    inter, films, _ = world()
    for values, match in ((np.ones(3), "must be 1-D of"), (np.full(15, np.nan), "must be finite")):
        late = Late(9)
        late.score = lambda items, values=values, **_: values
        engine = rec.Engine.build(inter, items=films, ranker=late)
        with pytest.raises(ValueError, match=f"scores of the ranker {match}"):
            engine.recommend(0)


def test_a_ranker_comes_back_with_the_file(engines, ranker, tmp_path):
    engine, plain = engines
    engine.save(tmp_path / "e.rec")
    loaded = rec.Engine.load(tmp_path / "e.rec")
    assert loaded._state.ranker._opened == []
    want = engine.recommend([0, 5], 7, context=HOUR)
    for each in (loaded, pickle.loads(pickle.dumps(loaded))):
        oracles.assert_same_topk(each.recommend([0, 5], 7, context=HOUR), want)
    assert loaded.ranker.digest == ranker.digest == engine.ranker.digest
    given = rec.Engine.load(tmp_path / "e.rec", ranker=ranker)
    assert given.ranker is ranker
    with pytest.raises(ValueError, match=r"ranker must have the digest .*, got late"):
        rec.Engine.load(tmp_path / "e.rec", ranker=Late(1))
    plain.save(tmp_path / "plain.rec")
    assert rec.Engine.load(tmp_path / "plain.rec").ranker is None
    with pytest.raises(ValueError, match="ranker must be None: this engine was saved without one"):
        rec.Engine.load(tmp_path / "plain.rec", ranker=ranker)


def test_a_ranker_of_ones_own_is_given_again_at_load(tmp_path):
    inter, films, _ = world()
    engine = rec.Engine.build(inter, items=films, ranker=Late(9))
    engine.save(tmp_path / "e.rec")
    with pytest.raises(ValueError, match=r"needs the ranker Late.*Engine\.load\(path, ranker=\)"):
        rec.Engine.load(tmp_path / "e.rec").recommend(0)
    given = rec.Engine.load(tmp_path / "e.rec", ranker=Late(9))
    oracles.assert_same_topk(given.recommend(0, 3), engine.recommend(0, 3))


def test_a_graph_that_changed_is_refused(tmp_path):
    inter, films, people = world()
    path = save_columns_model(tmp_path / "ctr.onnx")
    options = {"vocabularies": {"item.genre": GENRES}, "missing": {"user.age": 40}}
    ranker = rec.OnnxRanker(path, num_threads=1, **options)
    rec.Engine.build(inter, items=films, users=people, ranker=ranker).save(tmp_path / "e.rec")
    save_columns_model(path, columns=2)
    with pytest.raises(rec.BundleError, match=r"ctr\.onnx is not the file it was"):
        rec.Engine.load(tmp_path / "e.rec").recommend(0, context=HOUR)


# --- a cross-encoder behind a search by text ------------------------------------------------------

WORDS = ("a", "b", "c", "d")


class WordEncoder:
    """Count four words."""

    dim, digest = len(WORDS), "words"

    def encode(self, texts):
        return np.array([[text.split().count(word) for word in WORDS] for text in texts], float)

    def encode_query(self, text):
        return self.encode([text])[0]


def test_search_reads_query_and_item_as_a_pair(tmp_path):
    titles = ["a b", "a", "c d", "a a c", "d"]
    tokenizer = save_tokenizer(tmp_path / "t.json")
    cross = rec.OnnxRanker(
        save_pair_model(tmp_path / "cross.onnx"),
        tokenizer,
        pair=("context.query", "item.title"),
        n_candidates=3,
        num_threads=1,
    )
    inter = rec.Interactions.from_arrays([1, 1, 2, 3, 3], [10, 20, 30, 40, 50])
    films = {"item_id": [10, 20, 30, 40, 50], "title": titles}
    encoder = WordEncoder()
    parts = {"content": encoder.encode(titles), "encoder": encoder, "items": films}
    engine = rec.Engine.build(inter, **parts, ranker=cross)
    nearest = rec.Engine.build(inter, **parts).search("a c", 3).ids
    scores = cross.score(
        {"title": [titles[i // 10 - 1] for i in sorted(nearest)]}, context={"query": "a c"}
    )
    want = sorted(zip(-scores, sorted(nearest), strict=True))
    got = engine.search("a c", 2)
    assert got.ids.tolist() == [item for _, item in want[:2]]
    np.testing.assert_allclose(got.scores, [-score for score, _ in want[:2]], rtol=1e-5)
    stages = engine.search("a c", 2, trace=True).trace["stages"]
    assert [stage["stage"] for stage in stages] == ["encode", "content", "ranker"]
    with pytest.raises(ValueError, match=r"lacking context\.query"):
        engine.recommend(1)
