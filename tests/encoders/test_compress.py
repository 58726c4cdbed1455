"""Smaller models: what they lose is measured, and one that loses too much is not written."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import port, save, save_text_model, save_tokenizer
from onnx import TensorProto, helper

from recengine import BundleError, LossError, OnnxEncoder, TextEncoder, compress
from recengine.encoders.compression import _recall, _spearman

IN, OUT, N = 64, 48, 60


@pytest.fixture
def tower(tmp_path: Path, rng: np.random.Generator) -> Path:
    """x @ weight = y."""
    weight = rng.standard_normal((IN, OUT)).astype(np.float32)
    ports = [port("x", TensorProto.FLOAT, ["n", IN]), port("y", TensorProto.FLOAT, ["n", OUT])]
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"])]
    return save(tmp_path / "tower.onnx", nodes, ports[:1], ports[1:], {"weight": weight})


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, IN)).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "smaller", "cosine"),
    [
        ("row-int8", 0.6, 0.999),
        ("dynamic-int8", 0.4, 0.99),  # they saturate without VNNI
        ("static-int8", 0.5, 0.99),
        ("float16", 0.6, 0.99999),
    ],
)
def test_smaller_model_answers_like_the_original(
    tower: Path, rows: np.ndarray, tmp_path: Path, method: str, smaller: float, cosine: float
) -> None:
    out = tmp_path / "small.onnx"
    found = compress(tower, out, rows, method)
    assert out.stat().st_size == found.bytes[1] < smaller * found.bytes[0]
    assert found.bytes[0] == tower.stat().st_size
    assert found.n_samples == N // 2
    one, two = (OnnxEncoder(path, num_threads=1).encode(rows[1::2]) for path in (tower, out))
    same = (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    np.testing.assert_allclose(found.worst_cosine, same.min(), atol=1e-5)
    assert cosine < found.cosine <= 1 + 1e-9
    assert found.loss == 1 - found.recall <= 0.1
    assert found.spearman > 0.99
    assert min(found.seconds) > 0


def test_pruned_model_is_as_large_and_half_zeros(
    tower: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "pruned.onnx"
    found = compress(tower, out, rows, "pruned", max_loss=1, sparsity=0.75)
    (weight,) = onnx.load(out).graph.initializer
    kept = onnx.numpy_helper.to_array(weight)
    whole = onnx.numpy_helper.to_array(onnx.load(tower).graph.initializer[0])
    assert np.mean(kept == 0) == 0.75
    np.testing.assert_array_equal(kept[kept != 0], whole[kept != 0])
    assert abs(whole[kept == 0]).max() <= abs(kept[kept != 0]).min()
    assert abs(found.bytes[1] - found.bytes[0]) < 500
    assert found.gzip_bytes[1] < 0.5 * found.gzip_bytes[0]


def test_model_that_loses_too_much_is_not_written(
    tower: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "small.onnx"
    out.write_bytes(b"old")
    with pytest.raises(
        LossError, match=r"pruned loses 0\.\d+ of the 10 nearest .* max_loss=0\.1"
    ) as told:
        compress(tower, out, rows, "pruned", sparsity=0.95)
    assert out.read_bytes() == b"old"
    assert told.value.report.loss > 0.1  # type: ignore[attr-defined]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "tower.onnx"]


def test_original_may_be_replaced(tower: Path, rows: np.ndarray) -> None:
    size = tower.stat().st_size
    assert compress(tower, tower, rows, "float16").bytes == (size, tower.stat().st_size)


def test_tools_leave_the_log_as_it_was(
    tower: Path, rows: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = list(logging.getLogger().handlers)
    compress(tower, tmp_path / "a.onnx", rows, "static-int8", max_loss=1)
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger().filters == []
    assert capfd.readouterr() == ("", "")


def test_graph_with_nothing_to_change_is_named(tmp_path: Path, rows: np.ndarray) -> None:
    ports = [port(name, TensorProto.FLOAT, ["n", IN]) for name in "xy"]
    path = save(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], ports[:1], ports[1:])
    for method, what in {
        "row-int8": "MatMul, Gemm, Gather",
        "dynamic-int8": "MatMul, Gemm",
        "float16": "float32 weights",
        "pruned": "float32 weights",
    }.items():
        with pytest.raises(ValueError, match=rf"m\.onnx cannot be made {method}: it has no {what}"):
            compress(path, tmp_path / "o.onnx", rows, method)


def test_arguments_that_do_not_fit_are_refused(
    tower: Path, rows: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "o.onnx"
    with pytest.raises(ValueError, match=r"method must be one of .*static-int8.*, got 'int4'"):
        compress(tower, out, rows, "int4")
    with pytest.raises(ValueError, match=r"samples must be >= 2 k \+ 4, 24, got 20"):
        compress(tower, out, rows[:20])
    with pytest.raises(ValueError, match=r"max_loss must be <= 1, got 2\.0"):
        compress(tower, out, rows, max_loss=2)
    with pytest.raises(FileNotFoundError, match="out must lie in a folder that exists"):
        compress(tower, tmp_path / "nowhere" / "o.onnx", rows)
    with pytest.raises(ValueError, match="cannot take shape"):
        compress(tower, out, rows[:, :3])
    with pytest.raises(TypeError, match="samples must be a sequence of str, got ndarray"):
        compress(tower, out, rows, tokenizer="tokenizer.json")
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(BundleError, match=r"bad\.onnx cannot be opened as an ONNX model"):
        compress(tmp_path / "bad.onnx", out, rows)
    assert not out.exists()


def test_text_model_is_measured_on_texts(tmp_path: Path, rng: np.random.Generator) -> None:
    model = save_text_model(tmp_path / "model.onnx")
    tokenizer = save_tokenizer(tmp_path / "tokenizer.json")
    texts = [" ".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(40)]
    out = tmp_path / "small.onnx"
    found = compress(model, out, texts, "float16", tokenizer=tokenizer, max_loss=0.5, k=5)
    assert found.cosine > 0.99
    assert TextEncoder(out, tokenizer, num_threads=1).dim == 5


def test_recall_and_rank_correlation_equal_their_definitions(rng: np.random.Generator) -> None:
    from scipy.stats import spearmanr

    one, two = (m + m.T for m in rng.standard_normal((2, 12, 12)))
    pairs = np.triu_indices(12, 1)
    assert _spearman(one, two) == pytest.approx(spearmanr(one[pairs], two[pairs]).statistic)
    shares = []
    for row in range(12):
        near = [sorted(set(range(12)) - {row}, key=lambda i: -m[row, i])[:3] for m in (one, two)]
        shares.append(len(set(near[0]) & set(near[1])) / 3)
    assert _recall(one, two, 3) == pytest.approx(np.mean(shares))
    assert _recall(np.ones((6, 6)), rng.random((6, 6)), 2) == 1.0  # all equally near


# --- real models ----------------------------------------------------------------------------------


def test_speech_embedding_in_int8_is_a_third_and_hears_alike(
    speech_folder: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    smooth = np.cumsum(rng.standard_normal((48, 76, 32, 1)), axis=1) / 4
    windows = (2 + smooth - smooth.mean(axis=1, keepdims=True)).astype(np.float32)
    model, out = speech_folder / "embedding_model.onnx", tmp_path / "small.onnx"
    found = compress(model, out, windows, "static-int8", max_loss=0.5)
    assert found.bytes[1] < 0.36 * found.bytes[0]
    assert found.cosine > 0.97
    with pytest.raises(ValueError, match="cannot be made dynamic-int8: it has no MatMul"):
        compress(model, out, windows, "dynamic-int8")


def test_minilm_with_int8_arithmetic_keeps_its_neighbours(
    minilm_folder: Path, tmp_path: Path
) -> None:
    subjects = ("the sea", "a murder", "two lovers", "space", "a dog", "the war")
    texts = [
        f"{kind} about {x}" for x in subjects for kind in ("a film", "songs", "news", "a book")
    ]
    found = compress(
        minilm_folder / "model.onnx", tmp_path / "o.onnx", texts,
        tokenizer=minilm_folder / "tokenizer.json", k=3, max_loss=0.3,
    )  # fmt: skip
    assert found.cosine > 0.98
    assert found.spearman > 0.97
