"""EfficientNet-Lite0 as an ONNX graph of embeddings, made from the weights of its state dict.

The graph takes images as cameras give them, uint8 (n, 224, 224, 3), and gives the 1280 averages
under its classifier. Scaling to (x − 127) / 128 is inside, batch norm is folded into the
convolutions before it, and the padding is that of the TensorFlow original: the odd row or column at
the end. No squeeze-and-excitation, relu6, stem and head never scaled: that is "Lite".

References
----------
M. Tan, Q. V. Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks.
ICML 2019, table 1. The Lite variant: R. Liu, Higher accuracy on vision models with
EfficientNet-Lite, TensorFlow Blog, March 2020.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine.encoders.state_dict import read_state_dict
from recengine.storage.atomic import replacing

NAME, WEIGHTS = "efficientnet-lite0", "efficientnet-lite0.pth"
SIZE = 224
EPSILON = 1e-3  # of its batch norms
CONVERSION = 1  # a cached graph made by another number is made anew
CONFIG = {
    "recengine_conversion": CONVERSION,
    "size": {"shortest_edge": 256},
    "crop_size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_rescale": False,
    "do_normalize": False,
}


class Stage(NamedTuple):
    """Blocks alike: how many, and each one's kernel, first stride, expansion and channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def convert(folder: Path) -> None:
    """Write ``model.onnx`` and ``preprocessor_config.json`` beside the fetched weights, once.

    Parameters
    ----------
    folder : Path
        Holds `WEIGHTS`. Both files are written aside and renamed, the configuration last: it says
        by which conversion the graph was made.

    Raises
    ------
    ImportError
        Without `onnx`.
    BundleError
        If the weights are damaged or not those of EfficientNet-Lite0.
    """
    model, config = folder / "model.onnx", folder / "preprocessor_config.json"
    if model.is_file() and config.is_file():
        try:
            if json.loads(config.read_text("utf-8")) == CONFIG:
                return
        except ValueError:
            pass  # damaged: made anew
    try:
        content = model_bytes(read_state_dict(folder / WEIGHTS))
    except (KeyError, ValueError) as error:
        raise BundleError(f"{folder / WEIGHTS} holds no EfficientNet-Lite0: {error}") from error
    for path, data in ((model, content), (config, json.dumps(CONFIG, indent=1).encode())):
        with replacing(path) as stream:
            stream.write(data)


def model_bytes(weights: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the ONNX model of the embeddings.

    Parameters
    ----------
    weights : mapping of str to ndarray
        The state dict. Its classifier, ``_fc``, is not used.

    Returns
    -------
    bytes
        image uint8 (n, 224, 224, 3) to embedding float32 (n, 1280). Opset 17, IR version 8.
    """
    graph = Graph(weights)
    x = graph.add("Cast", "image", to=1)
    x = graph.add("Sub", x, graph.constant("mean", np.float32(127)))
    x = graph.add("Mul", x, graph.constant("scale", np.float32(1 / 128)))
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    x, side = graph.convolution(x, SIZE, "_conv_stem", "_bn0", stride=2)
    x, number, n_channels = graph.relu6(x), 0, 32
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            skip = stride == 1 and n_channels == stage.channels
            expands = stage.expansion > 1
            x, side = graph.block(x, side, f"_blocks.{number}.", stride, expands, skip)
            number, n_channels = number + 1, stage.channels
    x, _ = graph.convolution(x, side, "_conv_head", "_bn1")
    x = graph.add("GlobalAveragePool", graph.relu6(x))
    graph.add("Flatten", x, into="embedding", axis=1)
    return graph.serialized()


class Graph:
    """A graph in the making.

    Parameters
    ----------
    weights : mapping of str to ndarray
        The state dict that its convolutions read.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        try:
            import onnx
        except ImportError:
            raise ImportError(
                "converting a model to ONNX needs the onnx library: pip install 'recengine[onnx]'"
            ) from None
        self._onnx, self._weights = onnx, weights
        self._nodes: list[Any] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def add(self, operator: str, *inputs: str, into: str = "", **attributes: Any) -> str:
        """Append a node; return the name of its output."""
        name = into or f"v{len(self._nodes)}"
        node = self._onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
        self._nodes.append(node)
        return name

    def constant(self, name: str, value: Any) -> str:
        """Keep a constant; return its name."""
        self._constants[name] = np.asarray(value)
        return name

    def relu6(self, x: str) -> str:
        """Clip to [0, 6]."""
        zero, six = self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))
        return self.add("Clip", x, zero, six)

    def convolution(
        self, x: str, side: int, name: str, norm: str, *, stride: int = 1, depthwise: bool = False
    ) -> tuple[str, int]:
        """Append a convolution with its batch norm; return (output, length of its side)."""
        kernel, bias = folded(self._weights, name, norm)
        out = -(-side // stride)
        missing = max((out - 1) * stride + kernel.shape[2] - side, 0)
        before, after = missing // 2, missing - missing // 2
        inputs = [self.constant(f"{name}.kernel", kernel), self.constant(f"{name}.bias", bias)]
        pads, groups = [before, before, after, after], len(kernel) if depthwise else 1
        return self.add("Conv", x, *inputs, pads=pads, strides=[stride] * 2, group=groups), out

    def block(
        self, x: str, side: int, prefix: str, stride: int, expands: bool, skip: bool
    ) -> tuple[str, int]:
        """Append an inverted residual: expand, filter each channel, project, add the input."""
        y = x
        if expands:
            y, _ = self.convolution(y, side, f"{prefix}_expand_conv", f"{prefix}_bn0")
            y = self.relu6(y)
        y, side = self.convolution(
            y, side, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True
        )
        y, _ = self.convolution(self.relu6(y), side, f"{prefix}_project_conv", f"{prefix}_bn2")
        return (self.add("Add", y, x) if skip else y), side

    def serialized(self) -> bytes:
        """Return the model, from the input "image" to the output "embedding"."""
        helper, to_tensor = self._onnx.helper, self._onnx.numpy_helper.from_array
        uint8, real = self._onnx.TensorProto.UINT8, self._onnx.TensorProto.FLOAT
        image = helper.make_tensor_value_info("image", uint8, ["n", SIZE, SIZE, 3])
        embedding = helper.make_tensor_value_info("embedding", real, ["n", 1280])
        constants = [to_tensor(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(self._nodes, NAME, [image], [embedding], constants)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(
            graph, producer_name="recengine", opset_imports=opset, ir_version=8
        )
        self._onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def folded(
    weights: Mapping[str, NDArray[Any]], name: str, norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (kernel, bias) of a convolution and the batch norm after it, as one convolution."""
    kernel = weights[f"{name}.weight"].astype(np.float64)
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(variance + EPSILON)
    scaled = kernel * factor[:, None, None, None]
    return scaled.astype(np.float32), (beta - mean * factor).astype(np.float32)
