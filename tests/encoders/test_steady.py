"""Requests of every length, thousands of them: memory stays where warm-up left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from graphs import save_text_model, save_tokenizer

from recengine import TextEncoder

MB = 1e6


def growth(encoder: TextEncoder, n_requests: int, seed: int) -> float:
    """Return the MB this process grows by over requests of random lengths, after warm-up."""
    rng = np.random.default_rng(seed)
    most = encoder.options.max_length
    encoder.warm_up()
    words = rng.integers(1, most, n_requests)
    texts = [
        " ".join(["sea"] * int(n)) for n in np.minimum(words, rng.geometric(1 / 12, len(words)))
    ]
    longest = " ".join(["sea"] * most)
    encoder.encode_query(longest)
    before = psutil.Process().memory_info().rss
    for number, text in enumerate(texts):
        encoder.encode_query(longest if number % 100 == 0 else text, timeout=60.0)
    return float(psutil.Process().memory_info().rss - before) / MB


@pytest.mark.slow
def test_ten_thousand_queries_leave_memory_as_it_was(minilm_folder: Path, seed: int) -> None:
    """The real model: mostly short queries, all lengths up to 256 tokens among them."""
    assert growth(TextEncoder.open(minilm_folder, num_threads=1), 10_000, seed) < 20


@pytest.mark.parametrize("buckets", [None, ((1, 4), (32, 256))])
def test_thousand_queries_leave_memory_as_it_was(tmp_path: Path, buckets: Any, seed: int) -> None:
    save_text_model(tmp_path / "model.onnx")
    save_tokenizer(tmp_path / "tokenizer.json")
    files = tmp_path / "model.onnx", tmp_path / "tokenizer.json"
    assert growth(TextEncoder(*files, num_threads=1, buckets=buckets), 1000, seed) < 10
