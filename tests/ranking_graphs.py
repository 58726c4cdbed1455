"""Graphs that score candidates: one over columns, and a head that compares the texts of a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graphs import port, save, save_text_model
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

GENRES = ["drama", "crime", "war"]
AGE, YEAR, HOUR, BEFORE = 0.5, -0.25, 2.0, 3.0  # weights of the columns
TASTE = np.array([0.0, 1.0, 10.0, 100.0], np.float32)  # of genre 0 (unknown), 1, 2, 3


def save_columns_model(path: Path, rows: int | str = "n", *, columns: int = 1) -> Path:
    """AGE user_age + YEAR item.year + TASTE[item/genre] + HOUR context.hour + BEFORE score.

    `columns` of its output: 1 gives (n,), 2 gives (n, 2) of which the second is the score.
    """
    inputs = [
        port("user_age", TensorProto.FLOAT, [rows]),
        port("item.year", TensorProto.FLOAT, [rows, 1]),
        port("item/genre", TensorProto.INT64, [rows]),
        port("context.hour", TensorProto.FLOAT, [rows]),
        port("candidate.score", TensorProto.FLOAT, [rows]),
    ]
    nodes = [
        helper.make_node("Mul", ["user_age", "age"], ["a"]),
        helper.make_node("Mul", ["item.year", "year"], ["y1"]),
        helper.make_node("Squeeze", ["y1", "last"], ["y"]),
        helper.make_node("Gather", ["taste", "item/genre"], ["g"]),
        helper.make_node("Mul", ["context.hour", "hour"], ["h"]),
        helper.make_node("Mul", ["candidate.score", "before"], ["b"]),
        helper.make_node("Sum", ["a", "y", "g", "h", "b"], ["s" if columns == 2 else "score"]),
    ]
    weights: dict[str, NDArray[Any]] = {
        "age": np.float32(AGE),
        "year": np.float32(YEAR),
        "hour": np.float32(HOUR),
        "before": np.float32(BEFORE),
        "taste": TASTE,
        "last": np.array([1]),
    }
    if columns == 2:
        nodes += [
            helper.make_node("Unsqueeze", ["s", "last"], ["s2"]),
            helper.make_node("Neg", ["s2"], ["n2"]),
            helper.make_node("Concat", ["n2", "s2"], ["score"], axis=1),
        ]
    shape: list[int | str] = [rows, 2] if columns == 2 else [rows]
    outputs = [port("score", TensorProto.FLOAT, shape)]
    return save(path, nodes, inputs, outputs, {k: np.asarray(v) for k, v in weights.items()})


def expected(items: dict[str, Any], age: float, hour: float, scores: Any) -> NDArray[np.float64]:
    """Return what the columns model gives, in float64."""
    taste = [TASTE[GENRES.index(genre) + 1 if genre in GENRES else 0] for genre in items["genre"]]
    year, before = np.array(items["year"], float), np.asarray(scores, float)
    return AGE * age + YEAR * year + np.array(taste, float) + HOUR * hour + BEFORE * before


def save_pair_model(path: Path) -> Path:
    """The small text model, and `add_pair_head` behind it."""
    save_text_model(path, types=True)
    model = onnx.load(path)
    add_pair_head(model, "last_hidden_state")
    onnx.save(model, path)
    return path


def add_pair_head(model: Any, hidden: str) -> None:
    """Let a text model give the cosine of the means of its two texts' tokens, as "relevance".

    The first text is where token_type_ids are 0, the second where they are 1.
    """
    graph = model.graph
    kinds = {one.name: one for one in graph.input}
    assert {"attention_mask", "token_type_ids"} <= set(kinds)

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))

    for name, value in (("pair_axes", np.array([2])), ("pair_tokens", np.array([1]))):
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.initializer.append(numpy_helper.from_array(np.float32(1), "pair_one"))
    graph.initializer.append(numpy_helper.from_array(np.float32(1e-9), "pair_least"))
    node("Cast", ["attention_mask"], "pair_mask", to=TensorProto.FLOAT)
    node("Cast", ["token_type_ids"], "pair_type", to=TensorProto.FLOAT)
    node("Mul", ["pair_mask", "pair_type"], "pair_second")
    node("Sub", ["pair_mask", "pair_second"], "pair_first")
    for text in ("first", "second"):
        node("Unsqueeze", [f"pair_{text}", "pair_axes"], f"pair_{text}_3")
        node("Mul", [hidden, f"pair_{text}_3"], f"pair_{text}_hidden")
        node("ReduceSum", [f"pair_{text}_hidden", "pair_tokens"], f"pair_{text}_sum", keepdims=0)
        node("Mul", [f"pair_{text}_sum"] * 2, f"pair_{text}_square")
        node("ReduceSum", [f"pair_{text}_square", "pair_tokens"], f"pair_{text}_sq", keepdims=1)
        node("Sqrt", [f"pair_{text}_sq"], f"pair_{text}_root")
        node("Max", [f"pair_{text}_root", "pair_least"], f"pair_{text}_norm")
        node("Div", [f"pair_{text}_sum", f"pair_{text}_norm"], f"pair_{text}_unit")
    node("Mul", ["pair_first_unit", "pair_second_unit"], "pair_products")
    node("ReduceSum", ["pair_products", "pair_tokens"], "relevance", keepdims=1)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("relevance", TensorProto.FLOAT, ["n", 1]))
