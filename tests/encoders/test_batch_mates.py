"""A text alone, and the same text in company, through real transformers of three arithmetics.

MiniLM as it is fetched has int8 weights that become float32 in the graph; the same with its weights
made float32 beforehand; and that one quantized dynamically by onnxruntime, whose activations take
their scale from the whole batch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from recengine import TextEncoder, compress
from recengine.encoders.running import UNLIMITED

BUCKETS = ((1, 8), (128, 256))


@pytest.fixture(scope="module")
def float_folder(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with float32 weights: each pair of Cast and Mul over a constant is one constant."""
    model = onnx.load(minilm_folder / "model.onnx")
    graph = model.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    casts = {each.output[0]: each for each in graph.node if each.op_type == "Cast"}
    casts = {name: each for name, each in casts.items() if each.input[0] in constants}
    folded = []
    for node in list(graph.node):
        if node.op_type == "Mul" and node.input[0] in casts and node.input[1] in constants:
            cast = casts[node.input[0]]
            weight = constants[cast.input[0]].astype(np.float32) * constants[node.input[1]]
            folded += [cast, node]
            graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
    assert len(folded) == 76, "38 weights are int8"
    for node in folded:
        graph.node.remove(node)
    kept = [each for each in graph.initializer if each.data_type != onnx.TensorProto.INT8]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    folder = tmp_path_factory.mktemp("float")
    onnx.save(model, folder / "model.onnx")
    shutil.copy(minilm_folder / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def dynamic_folder(float_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path_factory.mktemp("dynamic")
    quantize_dynamic(
        float_folder / "model.onnx",
        folder / "model.onnx",
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    shutil.copy(float_folder / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return 32 texts of 1 to 60 words."""
    rng = np.random.default_rng(11)
    words = ["sea", "ocean", "film", "quiet", "share", "price", "fell", "old", "king", "river"]
    return [" ".join(rng.choice(words, n)) for n in rng.integers(1, 61, 32)]


def alone(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    return np.stack([encoder.encode_query(text) for text in texts])


@pytest.mark.parametrize("kind", ["int8 weights", "float weights"])
def test_float_arithmetic_knows_no_batch_mates_and_no_padding(
    minilm_folder: Path, float_folder: Path, kind: str, texts: list[str]
) -> None:
    folder = minilm_folder if kind == "int8 weights" else float_folder
    encoder = TextEncoder.open(folder, num_threads=1)
    expected = alone(encoder, texts)
    for some in (texts, texts[::-1], texts[3:20]):
        for batch_size in (2, 64):
            found = dict(zip(some, encoder.encode(some, batch_size), strict=True))
            rows = np.stack(
                [found.get(text, row) for text, row in zip(texts, expected, strict=True)]
            )
            np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)
    padded = TextEncoder.open(folder, num_threads=1, buckets=BUCKETS)
    np.testing.assert_allclose(padded.encode(texts[:8]), expected[:8], rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone(padded, texts[:2]), expected[:2], rtol=0, atol=1e-5)


def test_float_weights_are_the_same_model(minilm_folder: Path, float_folder: Path) -> None:
    encoders = [TextEncoder.open(each, num_threads=1) for each in (minilm_folder, float_folder)]
    first, second = (encoder.encode(["a quiet film about the sea"])[0] for encoder in encoders)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_dynamic_quantisation_runs_texts_alone(
    dynamic_folder: Path, float_folder: Path, texts: list[str]
) -> None:
    encoder = TextEncoder.open(dynamic_folder, num_threads=1)
    single = alone(encoder, texts)
    for found in (encoder.encode(texts), encoder.encode(texts[::-1])[::-1]):
        np.testing.assert_array_equal(found, single)
    np.testing.assert_array_equal(encoder.encode(texts, batch_size=1), single)
    with pytest.raises(
        ValueError, match=r"batch_size must be 1 for model\.onnx, got 2: .*row-int8"
    ):
        encoder.encode(texts, batch_size=2)
    reference = TextEncoder.open(float_folder, num_threads=1).encode(texts)
    assert (single * reference).sum(axis=1).min() >= 0.96


def test_one_scale_a_batch_would_move_vectors(dynamic_folder: Path, texts: list[str]) -> None:
    """What the documentation says of MiniLM, measured: why such a graph is given no batches."""
    encoder = TextEncoder.open(dynamic_folder, num_threads=1)
    tokens = encoder._tokenizer.encode_all(texts, "", None, lambda: None)
    together = np.zeros((len(texts), encoder.dim), np.float32)
    encoder._graph.fill(together, tokens, 64, UNLIMITED, lambda _: None)
    cosines = (alone(encoder, texts) * encoder._finished(together)).sum(axis=1)
    assert 0.96 <= cosines.min() < 0.99


def test_scale_a_row_gives_a_text_the_same_bits_in_any_batch(
    minilm_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    """And lies nearer to the original than one scale a batch, even where each text is alone."""
    tokenizer = minilm_folder / "tokenizer.json"
    found = compress(
        minilm_folder / "model.onnx", tmp_path / "model.onnx", texts,
        tokenizer=tokenizer, k=3, max_loss=0.2,
    )  # fmt: skip
    assert found.method == "row-int8"
    assert found.bytes[1] < 1.02 * found.bytes[0], "its weights are int8 already"
    assert found.worst_cosine > 0.985
    encoder = TextEncoder(tmp_path / "model.onnx", tokenizer, num_threads=1)
    single = alone(encoder, texts)
    for given in (encoder.encode(texts), encoder.encode(texts[::-1])[::-1]):
        np.testing.assert_array_equal(given, single)
    np.testing.assert_array_equal(encoder.encode(texts, batch_size=5), single)
    sizes: list[int] = []
    run = encoder._graph.session._calls._run
    encoder._graph.session._calls._run = lambda arrays, options: (  # type: ignore[method-assign]
        sizes.append(len(arrays["input_ids"])) or run(arrays, options)
    )
    encoder.encode(texts)
    assert max(sizes) > 1, "batches by default"
