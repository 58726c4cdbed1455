"""Small ONNX graphs of histories (sum, GRU, LSTM, attention), and their float64 oracles.

Each takes the items 1 ... N_ITEMS and 0 for padding, and ends in a vector of DIM numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graphs import FAR, port, save
from numpy.typing import NDArray
from onnx import TensorProto, helper

N_ITEMS, DIM, MAX_LENGTH = 12, 4, 6
TOLD = {"max_length": MAX_LENGTH, "n_items": N_ITEMS, "padding": 0}
Array = NDArray[np.float64]
_rng = np.random.default_rng(11)
TABLE = np.vstack([np.zeros(DIM), _rng.standard_normal((N_ITEMS, DIM))])
PLACES = _rng.standard_normal((MAX_LENGTH, DIM))
# Of up to four gates: what comes in, what is remembered.
INTO, BACK = _rng.standard_normal((2, 1, 4 * DIM, DIM)) * 0.7


def two_axes(name: str, length: int | str = "length") -> Any:
    return port(name, TensorProto.INT64, ["n", length])


def tell(path: Path, **told: Any) -> Path:
    """Write what the graph says of itself under recengine.sequence."""
    model = onnx.load(path)
    helper.set_model_props(model, {"recengine.sequence": json.dumps(told)})
    onnx.save(model, path)
    return path


def save_sum(path: Path, features: tuple[str, ...] = ("mask",), names: Any = None) -> Path:
    """vector = sum of table[items] + 3 * places[positions] + 5 * places[recency], each masked.

    Without a mask the padding counts, and it is FAR away. + 7 * lengths.
    """
    names = dict(names or {})
    at = {role: names.get(role, role) for role in ("items", *features)}
    table = TABLE.copy()
    table[0] = FAR
    nodes = [helper.make_node("Gather", ["table", at["items"]], ["h0"])]
    weights, last = {"table": table, "axis": np.array([1]), "unit": np.array([2])}, "h0"
    for role, factor in (("positions", 3.0), ("recency", 5.0)):
        if role in features:
            weights[role + ".places"] = factor * PLACES
            nodes += [
                helper.make_node("Gather", [role + ".places", at[role]], [role + ".h"]),
                helper.make_node("Add", [last, role + ".h"], [last + "+"]),
            ]
            last += "+"
    if "mask" in features:
        weights["zero"] = np.array(0.0)
        nodes += [
            helper.make_node("Cast", [at["mask"]], ["m0"], to=TensorProto.BOOL),
            helper.make_node("Unsqueeze", ["m0", "unit"], ["m1"]),
            helper.make_node("Where", ["m1", last, "zero"], ["masked"]),
        ]
        last = "masked"
    nodes.append(helper.make_node("ReduceSum", [last, "axis"], ["sum"], keepdims=0))
    last = "sum"
    if "lengths" in features:
        weights["seven"] = np.array(7.0)
        nodes += [
            helper.make_node("Cast", [at["lengths"]], ["l0"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["l0", "axis"], ["l1"]),
            helper.make_node("Mul", ["l1", "seven"], ["l2"]),
            helper.make_node("Add", [last, "l2"], ["all"]),
        ]
        last = "all"
    nodes.append(helper.make_node("Identity", [last], ["vector"]))
    inputs = [
        port(name, TensorProto.INT64, ["n"]) if role == "lengths" else two_axes(name)
        for role, name in at.items()
    ]
    return _saved(path, nodes, inputs, ["n", DIM], weights)


def sum_oracle(window: list[int], features: tuple[str, ...]) -> Array:
    n = len(window)
    places = np.arange(n)
    total = TABLE[window].sum(axis=0)
    if "positions" in features:
        total = total + 3.0 * PLACES[places].sum(axis=0)
    if "recency" in features:
        total = total + 5.0 * PLACES[places[::-1]].sum(axis=0)
    return total + (7.0 * n if "lengths" in features else 0.0)


def save_gru(path: Path, length: int | str = "length", *, all_places: bool = False) -> Path:
    return _save_recurrent(path, "GRU", 3, length, all_places)


def save_lstm(path: Path, length: int | str = "length", *, all_places: bool = False) -> Path:
    return _save_recurrent(path, "LSTM", 4, length, all_places)


def _save_recurrent(
    path: Path, operator: str, n_gates: int, length: int | str, all_places: bool
) -> Path:
    """Without biases, padding (a row of zeros) leaves the state at zero."""
    last = ["h"] if all_places else ["", "h"]
    squeezed, perm = ([1], [1, 0, 2]) if all_places else ([0], None)
    nodes = [
        helper.make_node("Gather", ["table", "items"], ["e"]),
        helper.make_node("Transpose", ["e"], ["x"], perm=[1, 0, 2]),
        helper.make_node(operator, ["x", "w", "r"], last, hidden_size=DIM),
        helper.make_node("Squeeze", ["h", "axis"], ["y"]),
    ]
    if perm is None:
        nodes.append(helper.make_node("Identity", ["y"], ["vector"]))
    else:
        nodes.append(helper.make_node("Transpose", ["y"], ["vector"], perm=perm))
    shape = ["n", length, DIM] if all_places else ["n", DIM]
    weights = {"table": TABLE, "w": INTO[:, : n_gates * DIM], "r": BACK[:, : n_gates * DIM]}
    weights["axis"] = np.array(squeezed)
    return _saved(path, nodes, [two_axes("items", length)], shape, weights)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def gru_oracle(window: list[int]) -> Array:
    """The equations of ONNX's GRU, gates in its order z, r, h, linear_before_reset = 0."""
    state = np.zeros(DIM)
    w, r = (gates[0, : 3 * DIM].reshape(3, DIM, DIM) for gates in (INTO, BACK))
    for x in TABLE[window]:
        update, reset = (_sigmoid(w[g] @ x + r[g] @ state) for g in (0, 1))
        fresh = np.tanh(w[2] @ x + r[2] @ (reset * state))
        state = (1 - update) * fresh + update * state
    return state


def lstm_oracle(window: list[int]) -> Array:
    """The equations of ONNX's LSTM, gates in its order i, o, f, c."""
    state, cell = np.zeros((2, DIM))
    w, r = (gates[0].reshape(4, DIM, DIM) for gates in (INTO, BACK))
    for x in TABLE[window]:
        let_in, out, keep = (_sigmoid(w[g] @ x + r[g] @ state) for g in (0, 1, 2))
        cell = keep * cell + let_in * np.tanh(w[3] @ x + r[3] @ state)
        state = out * np.tanh(cell)
    return state


def save_attention(path: Path, length: int | str = "length", *, all_places: bool = False) -> Path:
    """One head of self-attention over items and their recency; padded keys are masked."""
    del all_places  # attention gives every place
    transposed = {"perm": [0, 2, 1]}
    nodes = [
        helper.make_node("Gather", ["table", "items"], ["e"]),
        helper.make_node("Gather", ["places", "recency"], ["p"]),
        helper.make_node("Add", ["e", "p"], ["h"]),
        helper.make_node("Transpose", ["h"], ["ht"], **transposed),
        helper.make_node("MatMul", ["h", "ht"], ["scores"]),
        helper.make_node("Cast", ["items"], ["there"], to=TensorProto.BOOL),
        helper.make_node("Unsqueeze", ["there", "axis"], ["keys"]),
        helper.make_node("Where", ["keys", "scores", "far"], ["kept"]),
        helper.make_node("Softmax", ["kept"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "h"], ["vector"]),
    ]
    weights = {"table": TABLE, "places": PLACES, "axis": np.array([1]), "far": np.array(-1e9)}
    inputs = [two_axes("items", length), two_axes("recency", length)]
    return _saved(path, nodes, inputs, ["n", length, DIM], weights)


def attention_oracle(window: list[int]) -> Array:
    h = TABLE[window] + PLACES[np.arange(len(window))[::-1]]
    weights = np.exp(h @ h[-1])
    return weights @ h / weights.sum()


KINDS: dict[str, tuple[Callable[..., Path], Callable[[list[int]], Array]]] = {
    "gru": (save_gru, gru_oracle),
    "lstm": (save_lstm, lstm_oracle),
    "attention": (save_attention, attention_oracle),
}


def _saved(
    path: Path, nodes: list[Any], inputs: list[Any], shape: list[Any], weights: dict[str, Any]
) -> Path:
    used = {name for node in nodes for name in node.input}
    small = {
        name: value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
        for name, value in weights.items()
        if name in used
    }
    return save(path, nodes, inputs, [port("vector", TensorProto.FLOAT, shape)], small)
