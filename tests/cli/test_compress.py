from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import save_sum, save_text_model, save_tokenizer, save_tower

Refused = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    weight = rng.standard_normal((64, 48)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rng.standard_normal((60, 64)).astype(np.float32))
    return save_tower(tmp_path / "tower.onnx", weight)


def test_compress_arrays(tmp_path: Path, model: Path, run: Callable[..., object]) -> None:
    result = run("compress", model, tmp_path / "s.onnx", tmp_path / "rows.npy")
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    said = " ".join(result.stdout.split())  # type: ignore[attr-defined]
    assert "row-int8 original s.onnx" in said
    assert "On 30 samples that calibrated nothing: recall@10 of" in said
    assert (tmp_path / "s.onnx").stat().st_size < 0.5 * model.stat().st_size


def test_compress_texts(tmp_path: Path, run: Callable[..., object], refused: Refused) -> None:
    model = save_text_model(tmp_path / "model.onnx")
    lines = [" ".join(np.random.default_rng(i).choice(list("abcdefgh"), 5)) for i in range(30)]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    line = ("compress", model, tmp_path / "s.onnx", tmp_path / "t.txt")
    line = (*line, "--method", "float16", "-k", 3, "--max-loss", 0.5)
    assert "texts need a tokenizer.json, there is none beside" in refused(*line)
    save_tokenizer(tmp_path / "tokenizer.json")
    result = run(*line)
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    assert (tmp_path / "s.onnx").is_file()


def test_loss_is_refused_in_one_line(tmp_path: Path, model: Path, refused: Refused) -> None:
    line = ("compress", model, tmp_path / "s.onnx", tmp_path / "rows.npy", "--method", "pruned")
    assert "more than max_loss=0" in refused(*line, "--sparsity", 0.95, "--max-loss", 0)
    assert not (tmp_path / "s.onnx").exists()


def test_inputs_are_named(tmp_path: Path, model: Path, refused: Refused) -> None:
    two = save_sum(tmp_path / "sum.onnx")
    line = ("compress", two, tmp_path / "s.onnx", tmp_path / "rows.npy")
    assert "use an .npz" in refused(*line)
    line = ("compress", model, tmp_path / "s.onnx", tmp_path / "rows.npy", "--column", "x")
    assert "must go with texts, got an array" in refused(*line)
