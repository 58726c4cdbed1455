"""Every encoder and the ranker return at their deadline, though one node of the graph runs on.

Each graph ends in a product that onnxruntime cannot leave before it is done: an eighth of a second
on a good core, whatever the graph is fed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import (
    port,
    save,
    save_ear,
    save_front_end,
    save_text_model,
    save_tokenizer,
    save_tower,
)
from onnx import TensorProto, helper, numpy_helper
from ranking_graphs import GENRES, save_columns_model
from sequence_graphs import TOLD, save_gru

from recengine import (
    AudioEncoder,
    DeadlineError,
    ImageEncoder,
    OnnxEncoder,
    OnnxRanker,
    SequenceEncoder,
    TextEncoder,
)

SIDE = 2304
TIMEOUTS = (0.001, 0.02)  # before the graph runs, or hardly; and while it is in the product


def slowed(path: Path) -> Path:
    """Add, to the last output of a graph, 0 times a large product that depends on it."""
    model = onnx.load(path)
    graph, name = model.graph, model.graph.output[-1].name
    for node in graph.node:
        node.output[:] = ["slow_in" if each == name else each for each in node.output]
        node.input[:] = ["slow_in" if each == name else each for each in node.input]
    made = helper.make_node
    graph.node.extend(
        [
            made("ReduceMean", ["slow_in"], ["slow_mean"], keepdims=0),
            made("Expand", ["slow_mean", "slow_square"], ["slow_large"]),
            made("MatMul", ["slow_large", "slow_large"], ["slow_product"]),
            made("ReduceMean", ["slow_product"], ["slow_one"], keepdims=0),
            made("Mul", ["slow_one", "slow_zero"], ["slow_none"]),
            made("Add", ["slow_in", "slow_none"], [name]),
        ]
    )
    constants = {"slow_square": np.array([SIDE, SIDE]), "slow_zero": np.float32(0)}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), each) for each, value in constants.items()
    )
    onnx.save(model, path)
    return path


def text(folder: Path) -> Callable[[float], Any]:
    files = slowed(save_text_model(folder / "t.onnx")), save_tokenizer(folder / "tokenizer.json")
    encoder = TextEncoder(*files, num_threads=1)
    return lambda timeout: encoder.encode(["a b c"] * 64, timeout=timeout)


def query(folder: Path) -> Callable[[float], Any]:
    files = slowed(save_text_model(folder / "t.onnx")), save_tokenizer(folder / "tokenizer.json")
    encoder = TextEncoder(*files, num_threads=1)
    return lambda timeout: encoder.encode_query("a b c", timeout=timeout)


def image(folder: Path) -> Callable[[float], Any]:
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["vector"], axis=1),
    ]
    given = port("image", TensorProto.UINT8, ["n", 4, 6, 3])
    echo = save(folder / "i.onnx", nodes, [given], [port("vector", TensorProto.FLOAT, ["n", 72])])
    encoder = ImageEncoder(slowed(echo), size=(4, 6), num_threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 4, 6, 3), dtype=np.uint8)
    return lambda timeout: encoder.encode(pixels, timeout=timeout)


def sound(folder: Path) -> Callable[[float], Any]:
    rng = np.random.default_rng(4)
    model = save_ear(folder / "m.onnx", rng.standard_normal((15, 6)).astype(np.float32))
    front = save_front_end(folder / "f.onnx", rng.standard_normal((3, 4)).astype(np.float32))
    options: dict[str, Any] = {"window": 12, "hop": 4, "sample_rate": 1000}
    encoder = AudioEncoder(slowed(model), front, num_threads=1, **options)
    return lambda timeout: encoder.encode([(np.sin(np.arange(90.0)), 1000)] * 9, timeout=timeout)


def history(folder: Path) -> Callable[[float], Any]:
    encoder = SequenceEncoder(slowed(save_gru(folder / "s.onnx")), num_threads=1, **TOLD)
    return lambda timeout: encoder.encode([[1, 2]] * 64, timeout=timeout)


def newest(folder: Path) -> Callable[[float], Any]:
    encoder = SequenceEncoder(slowed(save_gru(folder / "s.onnx")), num_threads=1, **TOLD)
    return lambda timeout: encoder.encode_query([1, 2], timeout=timeout)


def rows(folder: Path) -> Callable[[float], Any]:
    path = slowed(save_tower(folder / "r.onnx", np.ones((3, 4), np.float32)))
    encoder = OnnxEncoder(path, output="vector", num_threads=1)
    return lambda timeout: encoder.encode(np.ones((4096, 3)), batch_size=4096, timeout=timeout)


def candidates(folder: Path) -> Callable[[float], Any]:
    path, words = slowed(save_columns_model(folder / "c.onnx")), {"item.genre": GENRES}
    ranker = OnnxRanker(path, vocabularies=words, num_threads=1)
    items = {"year": np.arange(1000), "genre": ["war"] * 1000}
    known: dict[str, Any] = {"user": {"age": 3}, "context": {"hour": 2}, "scores": np.ones(1000)}
    return lambda timeout: ranker.score(items, timeout=timeout, **known)


KINDS = (text, query, image, sound, history, newest, rows, candidates)


@pytest.mark.parametrize("kind", KINDS)
def test_deadline_is_kept_within_50_ms_inside_a_long_node(kind: Any, tmp_path: Path) -> None:
    call = kind(tmp_path)
    start = time.monotonic()
    whole = call(60.0)
    took = time.monotonic() - start
    assert took > 0.07, f"the product must be long, it took {took} s"
    late = []
    for timeout in TIMEOUTS * 2:
        start = time.monotonic()
        with pytest.raises(DeadlineError, match=f"timeout of {timeout:g} s ran out"):
            call(timeout)
        late.append(time.monotonic() - start - timeout)
    for some in (late[::2], late[1::2]):  # of each timeout
        assert min(some) < 0.05, late
    np.testing.assert_array_equal(call(60.0), whole)
