from __future__ import annotations

from pathlib import Path

import pytest
from graphs import save_text_model, save_tokenizer

from recengine import TextEncoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model folder with nothing but the two files."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_text_model(folder / "model.onnx")
    save_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(folder / "model.onnx", folder / "tokenizer.json", num_threads=1)
