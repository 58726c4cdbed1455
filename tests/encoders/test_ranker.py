"""OnnxRanker: columns and pairs of texts to scores, by small graphs that NumPy repeats."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import WORDS, save_tokenizer, token_table
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_graphs import GENRES, expected, save_columns_model, save_pair_model

import recengine as rec
from recengine import BundleError, OnnxRanker

VOCABULARY = {"item.genre": GENRES}
ITEMS = {"year": [1990, 2000, 1950], "genre": ["war", "drama", None]}
SCORES = np.array([0.5, 1.5, -2.0])
REQUEST: dict[str, Any] = {"user": {"age": 31}, "context": {"hour": 20}, "scores": SCORES}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_columns_model(tmp_path / "ctr.onnx")


@pytest.fixture
def ranker(model: Path) -> OnnxRanker:
    return OnnxRanker(model, vocabularies=VOCABULARY, num_threads=1)


@pytest.fixture
def cross(tmp_path: Path) -> OnnxRanker:
    tokenizer = save_tokenizer(tmp_path / "tokenizer.json")
    path = save_pair_model(tmp_path / "cross.onnx")
    return OnnxRanker(path, tokenizer, num_threads=1, max_length=32)


# --- columns --------------------------------------------------------------------------------------


def test_columns_reach_the_inputs_named_after_them(ranker: OnnxRanker) -> None:
    got = ranker.score(ITEMS, **REQUEST)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected(ITEMS, 31, 20, SCORES), rtol=1e-6)
    assert ranker.columns == {
        "user": ("age",),
        "item": ("year", "genre"),
        "context": ("hour",),
        "candidate": ("score",),
    }


def test_rank_orders_by_score_then_by_place(ranker: OnnxRanker) -> None:
    items = {"year": [1990, 1990, 1990, 1990], "genre": ["drama", "war", "drama", "crime"]}
    request = REQUEST | {"scores": np.zeros(4)}
    ids, scores = found = ranker.rank([7, 8, 9, 10], items=items, **request)
    assert ids.tolist() == [8, 10, 7, 9]
    assert found.ordinals.tolist() == [1, 3, 0, 2]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    padded = ranker.rank(["a", "b", "c", "d"], 6, items=items, **request)
    assert padded.ids.tolist() == ["b", "d", "a", "c", None, None]
    assert padded.scores[4:].tolist() == [-np.inf] * 2
    assert ranker.rank([1, 2, 3, 4], 0, items=items, **request).ids.shape == (0,)
    with pytest.raises(ValueError, match=r"ids must have one entry a candidate \(4\), got 2"):
        ranker.rank([1, 2], items=items, **request)


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1900, 2030),
            st.sampled_from([*GENRES, "unheard of", None]),
            st.floats(-10, 10, width=32),
        ),
        max_size=30,
    ),
    fixed=st.sampled_from(["n", 1, 7]),
    buckets=st.sampled_from([None, (1, 4, 16)]),
)
def test_batches_do_not_change_scores(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, fixed: Any, buckets: Any
) -> None:
    if fixed != "n" and buckets is not None:
        buckets = (fixed,)
    path = save_columns_model(tmp_path_factory.mktemp("m") / "ctr.onnx", fixed)
    ranker = OnnxRanker(path, vocabularies=VOCABULARY, num_threads=1, buckets=buckets)
    years, genres, scores = ([row[i] for row in rows] for i in range(3))
    items = {"year": years, "genre": genres}
    got = ranker.score(items, **(REQUEST | {"scores": np.array(scores, np.float32)}))
    np.testing.assert_allclose(got, expected(items, 31, 20, scores), rtol=1e-5, atol=1e-4)


def test_more_candidates_than_a_batch_holds(ranker: OnnxRanker, rng: np.random.Generator) -> None:
    items = {"year": rng.integers(1900, 2030, 2500), "genre": rng.choice(GENRES, 2500)}
    scores = rng.standard_normal(2500)
    got = ranker.score(items, **(REQUEST | {"scores": scores}))
    np.testing.assert_allclose(got, expected(items, 31, 20, scores), rtol=1e-5, atol=1e-4)


def test_any_input_takes_the_column_it_is_told_to(model: Path) -> None:
    ranker = OnnxRanker(
        model,
        inputs={"user_age": "user.years", "candidate.score": "item.price"},
        vocabularies=VOCABULARY,
        num_threads=1,
    )
    items = ITEMS | {"price": SCORES}
    got = ranker.score(items, user={"years": 31}, context={"hour": 20})
    np.testing.assert_allclose(got, expected(ITEMS, 31, 20, SCORES), rtol=1e-6)
    assert ranker.columns["candidate"] == ()


def test_what_is_missing_stands_as_told_or_is_refused(model: Path, ranker: OnnxRanker) -> None:
    items = {"year": [1990, None, np.nan], "genre": [None, None, None]}
    with pytest.raises(ValueError, match=r"item.year must not be missing, got 2 of 3: say what"):
        ranker.score(items, **REQUEST)
    told = OnnxRanker(model, vocabularies=VOCABULARY, missing={"item.year": 1970}, num_threads=1)
    filled = {"year": [1990, 1970, 1970], "genre": [None] * 3}
    np.testing.assert_allclose(
        told.score(items, **REQUEST), expected(filled, 31, 20, SCORES), rtol=1e-6
    )


def test_two_columns_are_no_and_yes(tmp_path: Path) -> None:
    path = save_columns_model(tmp_path / "two.onnx", columns=2)
    ranker = OnnxRanker(path, vocabularies=VOCABULARY, num_threads=1, output="score")
    got = ranker.score(ITEMS, **REQUEST)
    np.testing.assert_allclose(got, expected(ITEMS, 31, 20, SCORES), rtol=1e-6)


def test_wrong_names_list_what_the_model_has(model: Path, ranker: OnnxRanker) -> None:
    has = r"it has: user_age float32 \[n\]; item\.year float32 \[n, 1\]; item/genre int64"
    with pytest.raises(ValueError, match=rf"lacking item\.genre, context\.hour; {has}"):
        ranker.score({"year": [1, 2, 3]}, user={"age": 3}, context={"hourr": 3}, scores=SCORES)
    with pytest.raises(ValueError, match=rf"lacking candidate\.score; {has}"):
        ranker.score(ITEMS, user={"age": 3}, context={"hour": 3})
    with pytest.raises(ValueError, match=rf"inputs must name inputs .*, got \['age'\]; {has}"):
        OnnxRanker(model, inputs={"age": "user.age"})
    with pytest.raises(ValueError, match=r"tokenizer must be None: .* input_ids; the model has"):
        OnnxRanker(model, "tokenizer.json")
    with pytest.raises(ValueError, match="output must be one of score, got 'z'"):
        OnnxRanker(model, output="z")
    for option, match in (
        ({"vocabularies": {"item.gender": ["x"]}}, "vocabularies must be of .*'item.gender'"),
        ({"missing": {"item.age": 1.0}}, "missing must be of .*'item.age'"),
        ({"inputs": {"user_age": "age"}}, r"inputs\['user_age'\] must be 'user.', 'item.' or"),
        ({"vocabularies": {"item.genre": ["a", "a"]}}, "must not repeat a str"),
        ({"n_candidates": 0}, "n_candidates must be >= 1, got 0"),
        ({"buckets": ((1, 2), (3,))}, "buckets"),
    ):
        with pytest.raises((ValueError, TypeError), match=match):
            OnnxRanker(model, num_threads=1, **option)


def test_an_input_without_a_column_is_named(tmp_path: Path) -> None:
    from graphs import save_sum

    with pytest.raises(ValueError, match=r"inputs must say which column feeds 'a'.*b float32"):
        OnnxRanker(save_sum(tmp_path / "sum.onnx"))
    only = {"a": "user.a", "b": "context.b"}
    with pytest.raises(ValueError, match="model must take a column of the items"):
        OnnxRanker(save_sum(tmp_path / "sum.onnx"), inputs=only)
    wide = OnnxRanker(tmp_path / "sum.onnx", inputs={"a": "user.a", "b": "item.b"}, num_threads=1)
    with pytest.raises(ValueError, match=r"output c must be real and \(n,\), \(n, 1\) or \(n, 2\)"):
        wide.score({"b": np.ones((4, 3))}, user={"a": np.ones(3)})


@pytest.mark.parametrize(
    ("items", "change", "match"),
    [
        (
            {"year": [1990, 2000], "genre": ["war"] * 3},
            {},
            "of one length, got item.year 2",
        ),
        ({"year": ["x", "y", "z"], "genre": ["war"] * 3}, {}, "item.year must hold numbers, or be"),
        ({"year": [1, 2, 1e39], "genre": ["war"] * 3}, {}, r"item\.year must fit float32, got 1e"),
        (
            {"year": 3, "genre": ["war"] * 3},
            {},
            "item.year must have an entry a candidate",
        ),
        (ITEMS, {"scores": [1.0, np.nan, 2.0]}, "scores must be finite"),
        (ITEMS, {"user": 31}, "user must be a mapping of columns, got int"),
        (ITEMS, {"timeout": 0}, "timeout must be > 0"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    ranker: OnnxRanker, items: Any, change: Any, match: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        ranker.score(items, **(REQUEST | change))


def test_scores_that_are_not_finite_are_refused(ranker: OnnxRanker) -> None:
    items = {"year": [3e38, 3e38, 1], "genre": ["war"] * 3}
    with pytest.raises(ValueError, match=r"the output of ctr.onnx must be finite"):
        ranker.score(items, **(REQUEST | {"user": {"age": 3e38}, "scores": [3e38] * 3}))


# --- pairs of texts -------------------------------------------------------------------------------


def relevance(query: str, text: str) -> float:
    """Return the cosine of the two texts' mean tokens, as the pair model computes it."""
    table = token_table().astype(np.float64)

    def number(word: str) -> int:
        return WORDS.index(word) if word in WORDS else 1

    first = table[[2, *map(number, query.split()), 3]].sum(axis=0)
    second = (table[[*map(number, text.split()), 3]] + 10).sum(axis=0)
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


texts = st.lists(st.sampled_from(list("abcdefg")), max_size=12).map(" ".join)


@settings(max_examples=30)
@given(query=texts, documents=st.lists(texts | st.none(), max_size=70), use=st.booleans())
def test_pairs_go_through_the_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, query: str, documents: Any, use: bool
) -> None:
    folder = tmp_path_factory.mktemp("cross")
    tokenizer, path = save_tokenizer(folder / "t.json"), save_pair_model(folder / "cross.onnx")
    buckets = ((1, 8, 64), (8, 32)) if use else None
    cross = OnnxRanker(path, tokenizer, num_threads=1, max_length=32, buckets=buckets)
    got = cross.score({"text": documents}, context={"query": query})
    want = [relevance(query, text or "") for text in documents]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_texts_are_of_any_column(tmp_path: Path, cross: OnnxRanker) -> None:
    other = OnnxRanker(
        tmp_path / "cross.onnx",
        tmp_path / "tokenizer.json",
        pair=("user.bio", "item.title"),
        num_threads=1,
    )
    titles = ["a b", "c", "g g"]
    np.testing.assert_array_equal(
        other.score({"title": titles}, user={"bio": "a b"}),
        cross.score({"text": titles}, context={"query": "a b"}),
    )
    assert other.columns == {"user": ("bio",), "item": ("title",), "context": (), "candidate": ()}


@pytest.mark.parametrize("buckets", [None, ((1, 8, 64), (8, 32))])
def test_texts_and_columns_reach_one_graph(tmp_path: Path, cross: OnnxRanker, buckets: Any) -> None:
    """Batches of like length take the rows of the columns along."""
    import onnx
    from graphs import port
    from onnx import TensorProto, helper

    model = onnx.load(tmp_path / "cross.onnx")
    model.graph.node.append(helper.make_node("Add", ["relevance", "item.year"], ["total"]))
    model.graph.input.append(port("item.year", TensorProto.FLOAT, ["n", 1]))
    model.graph.output.insert(0, port("total", TensorProto.FLOAT, ["n", 1]))
    onnx.save(model, tmp_path / "both.onnx")
    both = OnnxRanker(
        tmp_path / "both.onnx",
        tmp_path / "tokenizer.json",
        num_threads=1,
        max_length=32,
        buckets=buckets,
    )
    documents = ["a " * (number % 20) for number in range(100)]
    years = np.arange(100) * 1000.0
    got = both.score({"text": documents, "year": years}, context={"query": "b"})
    want = cross.score({"text": documents}, context={"query": "b"}) + years
    np.testing.assert_allclose(got, want, rtol=1e-5)
    both.warm_up()


def test_long_pairs_are_cut_at_max_length(cross: OnnxRanker) -> None:
    long = "b " * 60
    got = [cross.score({"text": [t]}, context={"query": "a c"}) for t in (long, long + "a")]
    assert got[0] == got[1] != cross.score({"text": ["b a"]}, context={"query": "a c"})


def test_pairs_are_refused_by_what_is_wrong(tmp_path: Path, cross: OnnxRanker) -> None:
    path, tokenizer = tmp_path / "cross.onnx", tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match=r"tokenizer must be given: it takes input_ids; the model"):
        OnnxRanker(path)
    with pytest.raises(ValueError, match="max_length must be > 3, the special tokens"):
        OnnxRanker(path, tokenizer, max_length=3)
    for pair in (("context.query", "user.bio"), ("context.query",), "item.text"):
        with pytest.raises(ValueError, match="pair must"):
            OnnxRanker(path, tokenizer, pair=pair)
    with pytest.raises(TypeError, match=r"item.text \[1\] must be a str, got int"):
        cross.score({"text": ["a", 3]}, context={"query": "a"})
    with pytest.raises(ValueError, match=r"lacking context\.query; it has: input_ids int64"):
        cross.score({"text": ["a"]})


# --- the contract about devices, forks and files --------------------------------------------------


def test_a_ranker_travels_as_paths_and_digests(
    ranker: OnnxRanker, cross: OnnxRanker, model: Path
) -> None:
    for each, arguments in (
        (ranker, {"items": ITEMS, **REQUEST}),
        (cross, {"items": {"text": ["a", "b"]}, "context": {"query": "b"}}),
    ):
        copy = pickle.loads(pickle.dumps(each))
        assert copy.digest == each.digest
        assert copy.options == each.options
        np.testing.assert_array_equal(copy.score(**arguments), each.score(**arguments))
    other = OnnxRanker(model, vocabularies={"item.genre": GENRES[::-1]}, num_threads=1)
    assert other.digest != ranker.digest
    told = ranker.reference()
    save_columns_model(model, columns=2)
    with pytest.raises(BundleError, match=r"ctr\.onnx is not the file it was"):
        OnnxRanker.from_reference(told)
    for broken in ({}, told | {"kind": "text"}, told | {"options": {"pair": ["x"]}}):
        with pytest.raises((BundleError, ValueError)):
            OnnxRanker.from_reference(broken)


def test_a_deadline_ends_a_ranking(cross: OnnxRanker) -> None:
    documents = ["a b c d e f g " * 4] * 1000
    with pytest.raises(rec.DeadlineError, match=r"timeout of 0\.001 s ran out"):
        cross.score({"text": documents}, context={"query": "a"}, timeout=1e-3)
    assert len(cross.score({"text": documents[:9]}, context={"query": "a"}, timeout=60)) == 9


def test_warm_up_runs_what_requests_run(ranker: OnnxRanker, cross: OnnxRanker, model: Path) -> None:
    assert not ranker.ready
    bucketed = OnnxRanker(model, vocabularies=VOCABULARY, num_threads=1, buckets=(1, 8))
    for each in (ranker, cross, bucketed):
        each.warm_up()
        assert each.ready
    ranker.warm_up([{"items": ITEMS, **REQUEST}])
    with pytest.raises(ValueError, match="lacking"):
        ranker.warm_up([{"items": ITEMS}])


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="an NVIDIA driver answers: it is given"
)
def test_cuda_is_given_or_refused(model: Path) -> None:
    with pytest.raises(rec.DeviceError, match=r"cannot run ctr.onnx: .*fix: "):
        OnnxRanker(model, device="cuda")


@pytest.mark.gpu
def test_cuda_ranks_as_the_cpu_does(model: Path, ranker: OnnxRanker) -> None:
    on_gpu = OnnxRanker(model, vocabularies=VOCABULARY, device="cuda")
    np.testing.assert_allclose(
        on_gpu.score(ITEMS, **REQUEST), ranker.score(ITEMS, **REQUEST), rtol=1e-5
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_ranks(ranker: OnnxRanker) -> None:
    want = ranker.score(ITEMS, **REQUEST)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(ranker.score(ITEMS, **REQUEST), want) else 1)
    assert os.waitpid(child, 0)[1] == 0


# --- the real model -------------------------------------------------------------------------------


def test_pairs_of_real_texts_are_told_apart(minilm_folder: Path, tmp_path: Path) -> None:
    """MiniLM reads query and title as one pair; a head compares what it made of the two."""
    import onnx
    from ranking_graphs import add_pair_head

    model = onnx.load(minilm_folder / "model.onnx")
    add_pair_head(model, "last_hidden_state")
    onnx.save(model, tmp_path / "cross.onnx")
    ranker = OnnxRanker(
        tmp_path / "cross.onnx",
        minilm_folder / "tokenizer.json",
        pair=("context.query", "item.title"),
        num_threads=1,
    )
    titles = [
        "The Hunt for Red October, a submarine thriller",
        "Sleepless in Seattle, a romantic comedy",
        "Toy Story, animated toys come to life",
    ]
    for query, best in (("a thriller under water", 0), ("a love story", 1), ("toys", 2)):
        found = ranker.rank([0, 1, 2], 1, items={"title": titles}, context={"query": query})
        assert found.ids.tolist() == [best]
    alone = [ranker.score({"title": [t]}, context={"query": "toys"})[0] for t in titles]
    together = ranker.score({"title": titles}, context={"query": "toys"})
    np.testing.assert_allclose(together, alone, atol=1e-4)
