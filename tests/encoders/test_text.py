from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import (
    DIM,
    WORDS,
    port,
    save,
    save_pooling_model,
    save_quantized_model,
    save_text_model,
    save_tokenizer,
    token_table,
    token_vectors,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from recengine import TextEncoder

TEXTS = ["a b c", "", "p o n m l k j i h g f", "a", "unheard words", "b a", "c b a", "a b c"]


def oracle(text: str, pooling: str = "mean", max_length: int = 256) -> np.ndarray:
    tokens = token_vectors(text, max_length)
    pooled = {"mean": tokens.mean(axis=0), "cls": tokens[0], "last": tokens[-1]}[pooling]
    return pooled / np.linalg.norm(pooled)


def made(folder: Path, **options: object) -> TextEncoder:
    files = folder / "model.onnx", folder / "tokenizer.json"
    return TextEncoder(*files, num_threads=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_encode_equals_float64_oracle(folder: Path, pooling: str, batch_size: int) -> None:
    vectors = made(folder, pooling=pooling).encode(TEXTS, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    expected = [oracle(text, pooling) for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def test_padding_would_be_noticed(encoder: TextEncoder) -> None:
    """The graph gives 1e6 where the mask is 0, so a pooled padded place cannot pass the oracle."""
    graph = encoder._graph.session
    ids = np.array([[2, 4, 3, 0]])
    (hidden,) = graph.run({"input_ids": ids, "attention_mask": [[1, 1, 1, 0]]})
    assert hidden[0, 3].min() > 1e5
    assert abs(hidden[0, :3]).max() < 10


def test_vectors_are_not_scaled_unless_asked(folder: Path) -> None:
    vectors = made(folder, normalize=False).encode(TEXTS)
    expected = [token_vectors(text).mean(axis=0) for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def test_presets_of_the_tokenizer_are_reset(folder: Path, encoder: TextEncoder) -> None:
    """The stored tokenizer pads at the left to 12 and cuts at 6; neither is wanted."""
    assert '"padding":{' in (folder / "tokenizer.json").read_text().replace(" ", "").replace(
        "\n", ""
    )
    long = " ".join(WORDS[4:16])
    np.testing.assert_allclose(encoder.encode([long])[0], oracle(long), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode(["a"])[0], encoder.encode_query("a"))


@pytest.mark.parametrize("max_length", [3, 4, 7])
def test_text_is_cut_at_max_length(folder: Path, max_length: int) -> None:
    text = " ".join(WORDS[4:16])
    vector = made(folder, max_length=max_length).encode_query(text)
    np.testing.assert_allclose(vector, oracle(text, max_length=max_length), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        vector, made(folder).encode_query(" ".join(text.split()[: max_length - 2]))
    )


def test_prompts_stand_before_the_text(folder: Path) -> None:
    plain, asked = made(folder), made(folder, query_prompt="query: ", document_prompt="d ")
    np.testing.assert_array_equal(asked.encode_query("a b"), plain.encode_query("query: a b"))
    np.testing.assert_array_equal(asked.encode(["a b"])[0], plain.encode_query("d a b"))


def test_encode_query_is_one_vector(encoder: TextEncoder) -> None:
    vector = encoder.encode_query("a b c")
    assert vector.shape == (encoder.dim,) == (DIM,)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, oracle("a b c"), rtol=1e-5, atol=1e-6)


@given(texts=st.lists(st.lists(st.sampled_from(WORDS[4:]), max_size=9).map(" ".join), max_size=12))
@settings(max_examples=40)
def test_order_of_texts_is_kept(shared_encoder: TextEncoder, texts: list[str]) -> None:
    vectors = shared_encoder.encode(texts, batch_size=4)
    assert vectors.shape == (len(texts), DIM)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, oracle(text), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def shared_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("shared")
    save_text_model(folder / "model.onnx")
    save_tokenizer(folder / "tokenizer.json")
    return made(folder)


# --- odd texts ------------------------------------------------------------------------------------


def test_empty_list_gives_no_rows(encoder: TextEncoder) -> None:
    vectors = encoder.encode([])
    assert vectors.shape == (0, DIM)
    assert vectors.dtype == np.float32


def test_empty_text_is_its_special_tokens(encoder: TextEncoder) -> None:
    np.testing.assert_allclose(encoder.encode_query(""), oracle(""), rtol=1e-5, atol=1e-6)


def test_text_without_tokens_is_zero(folder: Path) -> None:
    save_tokenizer(folder / "tokenizer.json", special=False)
    encoder = made(folder)
    vectors = encoder.encode(["", "a", " "])
    np.testing.assert_array_equal(vectors[[0, 2]], 0.0)
    np.testing.assert_allclose(np.linalg.norm(vectors[1]), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(encoder.encode_query(""), np.zeros(DIM))


def test_texts_may_be_any_iterable_of_str(encoder: TextEncoder) -> None:
    expected = encoder.encode(TEXTS)
    for texts in (iter(TEXTS), tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object)):
        np.testing.assert_array_equal(encoder.encode(texts), expected)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (
            "a text",
            TypeError,
            r"texts must be a sequence of str, got one str: pass \[text\], or use",
        ),
        (b"bytes", TypeError, "texts must be a sequence of str, got one bytes"),
        (["a", None], TypeError, r"texts\[1\] must be a str, got NoneType"),
        (["a", "b", 3], TypeError, r"texts\[2\] must be a str, got int"),
        ([["a"]], TypeError, r"texts\[0\] must be a str, got list"),
        (["\ud800"], ValueError, r"texts\[0\] must be valid Unicode: .*surrogates not allowed"),
        (7, TypeError, "not iterable"),
    ],
)
def test_what_is_no_text_is_refused(
    encoder: TextEncoder, texts: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        encoder.encode(texts)  # type: ignore[arg-type]


def test_query_that_is_no_text_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(TypeError, match="text must be a str, got list"):
        encoder.encode_query(["a"])  # type: ignore[arg-type]


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"pooling": "max"},
            ValueError,
            "pooling must be one of 'mean', 'cls', 'last', 'none', got",
        ),
        ({"max_length": 0}, ValueError, "max_length must be >= 1, got 0"),
        (
            {"max_length": 2},
            ValueError,
            r"max_length must be > 2, the special tokens of tokenizer\.j",
        ),
        ({"max_length": 2.5}, TypeError, "max_length must be an integer, got float"),
        ({"query_prompt": None}, TypeError, "query_prompt must be a str, got NoneType"),
        ({"document_prompt": b"x"}, TypeError, "document_prompt must be a str, got bytes"),
        ({"device": "tpu"}, ValueError, "device must be 'cpu'"),
    ],
)
def test_bad_option_is_refused(
    folder: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(folder, **options)


def test_bad_batch_size_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        encoder.encode(["a"], batch_size=0)


# --- other graphs ---------------------------------------------------------------------------------


def test_graph_without_mask_never_meets_padding(folder: Path) -> None:
    save_text_model(folder / "model.onnx", mask=False)
    vectors = made(folder).encode(TEXTS)
    np.testing.assert_allclose(vectors, [oracle(t) for t in TEXTS], rtol=1e-5, atol=1e-6)


def test_type_ids_are_fed_where_wanted(folder: Path) -> None:
    save_text_model(folder / "model.onnx", types=True)
    vectors = made(folder).encode(TEXTS)
    np.testing.assert_allclose(vectors, [oracle(t) for t in TEXTS], rtol=1e-5, atol=1e-6)


def test_graph_that_pools_is_taken_as_it_is(folder: Path) -> None:
    save_pooling_model(folder / "model.onnx")
    vector = made(folder, pooling="none", normalize=False).encode(TEXTS)[0]
    np.testing.assert_array_equal(vector, token_table()[[2, 4, 5, 6, 3]].max(axis=0))


def test_pooling_that_the_graph_does_not_allow_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"pooling='none' must have an output \(n, dim\)"):
        made(folder, pooling="none")
    save_pooling_model(folder / "model.onnx")
    with pytest.raises(ValueError, match=r"output \(n, tokens, dim\).*; pooling='none' takes"):
        made(folder, pooling="mean")


def test_graph_that_is_no_text_model_is_refused(folder: Path) -> None:
    ports = [port(name, TensorProto.FLOAT, ["n", 3]) for name in ("pixels", "y")]
    save(folder / "model.onnx", [helper.make_node("Neg", ["pixels"], ["y"])], ports[:1], ports[1:])
    with pytest.raises(ValueError, match=r"model must take input_ids.*model\.onnx takes pixels"):
        made(folder)


def test_graph_that_gives_nan_is_named(folder: Path) -> None:
    ports = [port("input_ids", TensorProto.INT64, ["n", "t"])]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["f", "axes"], ["f3"]),
        helper.make_node("Sub", ["f3", "two"], ["g"]),
        helper.make_node("Log", ["g"], ["h"]),  # NaN for the padding id only, -inf for [CLS]
    ]
    output = port("h", TensorProto.FLOAT, ["n", "t", 1])
    weights = {"axes": np.array([2]), "two": np.array(2, np.float32)}
    save(
        folder / "model.onnx",
        nodes,
        ports,
        [output],
        {k: np.asarray(v) for k, v in weights.items()},
    )
    with pytest.raises(ValueError, match=r"the output of model\.onnx must be finite, got -inf"):
        made(folder).encode(["a"])
    found = made(folder).encode(["a", "b"], on_error="skip")
    assert (found.vectors.shape, [one.index for one in found.skipped]) == ((0, 1), [0, 1])
    assert found.skipped[1].reason == "texts[1] makes model.onnx give NaN or infinity"


def test_skipped_texts_are_named_and_have_no_row(encoder: TextEncoder) -> None:
    texts = ["a", "b \udc00", "c d"]
    with pytest.raises(ValueError, match=r"texts\[1\] must be valid Unicode"):
        encoder.encode(texts)
    found = encoder.encode(texts, on_error="skip")
    assert found.kept.tolist() == [0, 2]
    np.testing.assert_array_equal(found.vectors, encoder.encode(["a", "c d"]))
    assert found.skipped[0].reason.startswith("texts[1] must be valid Unicode")
    with pytest.raises(TypeError, match=r"texts\[0\] must be a str, got NoneType"):
        encoder.encode([None], on_error="skip")  # type: ignore[list-item]
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip', got 'drop'"):
        encoder.encode(texts, on_error="drop")  # type: ignore[call-overload]


def test_hidden_dim_is_found_by_a_run(folder: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h"])]
    ports = [port("input_ids", TensorProto.INT64, ["n", "t"])]
    output = port("h", TensorProto.FLOAT, None)
    save(folder / "model.onnx", nodes, ports, [output], {"table": token_table()})
    assert made(folder).dim == DIM


def test_dynamic_quantisation_lets_no_batch_mates_in(folder: Path) -> None:
    save_quantized_model(folder / "model.onnx")
    encoder = made(folder)
    texts = [" ".join(WORDS[4 + i : 8 + i]) for i in range(12)]
    alone = np.stack([encoder.encode_query(text) for text in texts])
    np.testing.assert_array_equal(encoder.encode(texts), alone)
    np.testing.assert_array_equal(encoder.encode(texts, batch_size=1), alone)
    with pytest.raises(ValueError, match=r"batch_size must be 1 .* quantized dynamically"):
        encoder.encode(texts, batch_size=64)


# --- many threads ---------------------------------------------------------------------------------


def test_threads_at_once_equal_serial(folder: Path) -> None:
    encoder = TextEncoder(folder / "model.onnx", folder / "tokenizer.json", num_threads=2)
    lists = [TEXTS[i:] + TEXTS[:i] for i in range(8)]
    serial = [encoder.encode(texts, batch_size=3) for texts in lists]
    barrier = threading.Barrier(len(lists))

    def work(texts: list[str]) -> list[np.ndarray]:
        barrier.wait()
        return [encoder.encode(texts, batch_size=3) for _ in range(10)]

    with ThreadPoolExecutor(len(lists)) as pool:
        for expected, found in zip(serial, pool.map(work, lists), strict=True):
            for vectors in found:
                np.testing.assert_array_equal(vectors, expected)


# --- progress -------------------------------------------------------------------------------------


def test_progress_bar_counts_texts_on_stderr(
    encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = encoder.encode(TEXTS, batch_size=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding" in err
    assert f"{len(TEXTS)}/{len(TEXTS)}" in err
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS, batch_size=3))
    assert capsys.readouterr().err == ""
