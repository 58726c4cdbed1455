"""Small ONNX graphs and a small tokenizer, for tests of sessions and encoders.

Opset 17 and IR version 8: every onnxruntime that recengine allows opens them.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase[:16], "query:"]
DIM = 5
EAR_WINDOW = (5, 1, 3)  # frames and bands of the small audio model
FAR = 1e6  # what a text graph puts at padded places: whoever reads them is found out


def port(name: str, kind: int, shape: list[int | str] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: dict[str, NDArray[Any]] | None = None,
) -> Path:
    constants = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def save_sum(path: Path, rows: int | str = "n") -> Path:
    """a float32 [n, 3] + b float32 [n, 3] = c."""
    ports = [port(name, TensorProto.FLOAT, [rows, 3]) for name in "abc"]
    return save(path, [helper.make_node("Add", ["a", "b"], ["c"])], ports[:2], ports[2:])


def save_tower(path: Path, weight: NDArray[np.float32], rows: int | str = "n") -> Path:
    """x float32 [n, d] @ weight = hidden; relu(hidden) = vector."""
    inputs = [port("x", TensorProto.FLOAT, [rows, weight.shape[0]])]
    shape: list[int | str] = [rows, weight.shape[1]]
    outputs = [port(name, TensorProto.FLOAT, shape) for name in ("hidden", "vector")]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["vector"]),
    ]
    return save(path, nodes, inputs, outputs, {"weight": weight})


def token_table() -> NDArray[np.float32]:
    """Return the vector of each token: (n_words, DIM)."""
    table = np.random.default_rng(7).standard_normal((len(WORDS), DIM))
    return table.astype(np.float32)


def save_text_model(path: Path, *, mask: bool = True, types: bool = False) -> Path:
    """hidden[t] = table[ids[t]] (+ 10 × type), and FAR at places the mask hides."""
    table = token_table()
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h0"])]
    inputs, last = [int64_port("input_ids")], "h0"
    weights = {"table": table, "far": np.float32(FAR), "ten": np.float32(10), "axes": np.int64([2])}
    if mask:
        inputs.append(int64_port("attention_mask"))
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["m0"], to=TensorProto.FLOAT),
            helper.make_node("Neg", ["m0"], ["m1"]),
            helper.make_node("Add", ["m1", "one"], ["m2"]),
            helper.make_node("Mul", ["m2", "far"], ["m3"]),
            helper.make_node("Unsqueeze", ["m3", "axes"], ["m4"]),
            helper.make_node("Add", [last, "m4"], ["h1"]),
        ]
        weights["one"], last = np.float32(1), "h1"
    if types:
        inputs.append(int64_port("token_type_ids"))
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["t0"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["t0", "ten"], ["t1"]),
            helper.make_node("Unsqueeze", ["t1", "axes"], ["t2"]),
            helper.make_node("Add", [last, "t2"], ["h2"]),
        ]
        last = "h2"
    nodes.append(helper.make_node("Identity", [last], ["last_hidden_state"]))
    used = {name for node in nodes for name in node.input}
    constants = {name: np.asarray(value) for name, value in weights.items() if name in used}
    output = port("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", DIM])
    return save(path, nodes, inputs, [output], constants)


def int64_port(name: str) -> Any:
    return port(name, TensorProto.INT64, ["n", "tokens"])


def save_pooling_model(path: Path) -> Path:
    """A graph that pools by itself: the largest value over all places."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["h"]),
        helper.make_node("ReduceMax", ["h"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    output = port("sentence_embedding", TensorProto.FLOAT, ["n", DIM])
    return save(path, nodes, [int64_port("input_ids")], [output], {"table": token_table()})


def save_quantized_model(path: Path) -> Path:
    """A dynamically quantized layer: the scale of the activations is taken over the batch."""
    weight = np.random.default_rng(8).integers(-127, 128, (DIM, 16)).astype(np.int8)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["h"]),
        helper.make_node("DynamicQuantizeLinear", ["h"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "weight", "zero"], ["y"]),
        helper.make_node("Cast", ["y"], ["yf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["yf", "scale"], ["last_hidden_state"]),
    ]
    inputs = [int64_port("input_ids"), int64_port("attention_mask")]
    output = port("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", 16])
    return save(path, nodes, inputs, [output], {"table": token_table(), "weight": weight})


def save_ear(path: Path, weight: NDArray[np.float32], rows: int | str = "n") -> Path:
    """x float32 [n, *frames and bands] -> flattened, @ weight [size, dim] = heard [n, 1, dim]."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "axes"], ["heard"]),
    ]
    inputs = [port("x", TensorProto.FLOAT, [rows, *EAR_WINDOW])]
    outputs = [port("heard", TensorProto.FLOAT, [rows, 1, weight.shape[1]])]
    weights = {"weight": weight, "axes": np.array([1], np.int64)}
    return save(path, nodes, inputs, outputs, weights)


def save_front_end(path: Path, kernel: NDArray[np.float32]) -> Path:
    """Frames of 4 samples, hop 2: abs(frame @ kernel.T), [1, 1, samples] -> [1, frames, 3]."""
    nodes = [
        helper.make_node("Conv", ["sound", "kernel"], ["c"], kernel_shape=[4], strides=[2]),
        helper.make_node("Abs", ["c"], ["a"]),
        helper.make_node("Transpose", ["a"], ["features"], perm=[0, 2, 1]),
    ]
    inputs = [port("sound", TensorProto.FLOAT, [1, 1, "samples"])]
    outputs = [port("features", TensorProto.FLOAT, [1, "frames", 3])]
    return save(path, nodes, inputs, outputs, {"kernel": kernel[:, None, :]})


def save_tokenizer(path: Path, *, special: bool = True) -> Path:
    """One token a word; stored with padding to 12 and truncation at 6, as models come."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=12, pad_id=0, pad_token="[PAD]", direction="left")
    tokenizer.enable_truncation(6)
    tokenizer.save(str(path))
    return path


def token_vectors(text: str, max_length: int = 256) -> NDArray[np.float64]:
    """Return, in float64, what the text model gives for the tokens of `text`, specials included."""
    words = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    ids = [2, *words[: max_length - 2], 3]
    return token_table().astype(np.float64)[ids]
