"""The scoring graph: queries times the items of a tile, plus what is added, best `n_kept`; merged.

The items are inputs, a matrix and a row of addends a tile, so that new ones need no new graph:

    q' = q / m                        m: the largest number among the queries and the addends
    v_t = q' Y_t' + e_t / m           one tile: (n, rows); an addend of -inf hides its row
    TopK over each tile, then over what the tiles gave

Under cosine q is scaled to length 1 first. Everything is O(1) then, whatever the data were. Items
in float16 are cast tile by tile: products and sums are float32 on every device, so that one bound
(`_device_proof`) holds for all of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recengine.runtime import Built

OPSET, IR_VERSION = 17, 8  # every onnxruntime that recengine allows opens them
OLDEST_OPSET = 13  # of an encoder: ReduceSum takes its axes as an input since then
AXES_ARE_INPUTS = 18  # of ReduceMax too
LEAST = 2.0**-100  # what m is at least, and norms under cosine: no division by 0
PREFIX = "recengine/"  # of our names where an encoder stands before us
QUERIES, N_KEPT, LARGEST = "queries", "n_kept", "largest"
OUTPUTS = ("values", "rows", "scaled", "scale")


class Shape(NamedTuple):
    """What a scoring graph is made for.

    Attributes
    ----------
    dim : int
    cosine : bool
    storage : {"float32", "float16"}
        Of the items.
    n_tiles : int
    tile_rows : int
        Rows of every tile but the last one.
    """

    dim: int
    cosine: bool
    storage: str
    n_tiles: int
    tile_rows: int


def library() -> Any:
    """Return the module onnx."""
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "DeviceIndex needs the onnx library: pip install 'recengine[onnx]'"
        ) from None
    return onnx


def scorer(shape: Shape) -> Built:
    """Return the graph that scores queries.

    Inputs: queries float32 (n, dim); n_kept int64 (1,), at most the rows of any tile; largest
    float32 (); and of each tile items_t (rows, dim) and added_t float32 (rows,). Outputs: values
    float32 (n, n_kept), best first; rows int64 (n, n_kept); scaled float32 (n, dim), q'; scale
    float32 (), m.
    """
    model = _model(shape, OPSET, IR_VERSION)
    return Built("the scoring graph", model.SerializeToString())


def joined(encoder: Any, output: str, shape: Shape) -> Built:
    """Return the graph of an encoder and, behind it, the scorer.

    Its inputs are the encoder's and, after `PREFIX`, those of `scorer` but the queries; its outputs
    the scorer's and ``output``.

    Parameters
    ----------
    encoder : onnx.ModelProto
    output : str
        float32 (n, dim).
    """
    onnx = library()
    opset = max(each.version for each in encoder.opset_import if each.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise ValueError(f"encoder must be of opset >= {OLDEST_OPSET}, got {opset}")
    behind = _model(shape, opset, encoder.ir_version)
    merged = onnx.compose.merge_models(
        encoder,
        onnx.compose.add_prefix(behind, PREFIX),
        io_map=[(output, PREFIX + QUERIES)],
        outputs=[output, *(PREFIX + name for name in OUTPUTS)],
    )
    return Built("the joined graph", merged.SerializeToString())


def _model(shape: Shape, opset: int, ir_version: int) -> Any:
    onnx = library()
    helper, types = onnx.helper, onnx.TensorProto
    stored = types.FLOAT if shape.storage == "float32" else types.FLOAT16
    ports = [
        helper.make_tensor_value_info(QUERIES, types.FLOAT, ["n", shape.dim]),
        helper.make_tensor_value_info(N_KEPT, types.INT64, [1]),
        helper.make_tensor_value_info(LARGEST, types.FLOAT, []),
    ]
    for tile in range(shape.n_tiles):
        rows = f"rows_{tile}"
        ports += [
            helper.make_tensor_value_info(f"items_{tile}", stored, [rows, shape.dim]),
            helper.make_tensor_value_info(f"added_{tile}", types.FLOAT, [rows]),
        ]
    kinds = (types.FLOAT, types.INT64, types.FLOAT, types.FLOAT)
    sizes: tuple[list[Any], ...] = (["n", "kept"], ["n", "kept"], ["n", shape.dim], [])
    given = [
        helper.make_tensor_value_info(name, kind, size)
        for name, kind, size in zip(OUTPUTS, kinds, sizes, strict=True)
    ]
    nodes = _Nodes(onnx, opset)
    _scale(nodes, shape)
    _select(nodes, shape)
    graph = helper.make_graph(nodes.made, "scorer", ports, given, nodes.constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )


class _Nodes:
    """Nodes in the making: each call adds one and returns the name of what it gives."""

    def __init__(self, onnx: Any, opset: int) -> None:
        self._onnx, self._opset = onnx, opset
        self.made: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", n: int = 1, **attributes: Any) -> Any:
        names = [output or f"{kind}_{len(self.made)}"]
        names += [f"{names[0]}_{number}" for number in range(1, n)]
        self.made.append(self._onnx.helper.make_node(kind, [*inputs], names, **attributes))
        return names[0] if n == 1 else names

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def largest_of(self, name: str, *, rows: bool) -> Any:
        """Return the largest number of each row (n, 1), or of all of them ()."""
        if not rows:
            return self.add("ReduceMax", name, keepdims=0)
        if self._opset < AXES_ARE_INPUTS:
            return self.add("ReduceMax", name, axes=[1], keepdims=1)
        axes = self.constant(np.array([1], np.int64))
        return self.add("ReduceMax", name, axes, keepdims=1)


def _scale(nodes: _Nodes, shape: Shape) -> None:
    """Give q' as ``scaled`` and m as ``scale``."""
    source, least = QUERIES, nodes.constant(np.float32(LEAST))
    if shape.cosine:
        highest = nodes.largest_of(nodes.add("Abs", source), rows=True)
        rough = nodes.add("Div", source, nodes.add("Max", highest, least))
        axes = nodes.constant(np.array([1], np.int64))
        square = nodes.add("ReduceSum", nodes.add("Mul", rough, rough), axes, keepdims=1)
        source = nodes.add("Div", rough, nodes.add("Max", nodes.add("Sqrt", square), least))
    highest = nodes.largest_of(nodes.add("Abs", source), rows=False)
    nodes.add("Max", highest, LARGEST, output="scale")
    nodes.add("Div", source, "scale", output="scaled")


def _select(nodes: _Nodes, shape: Shape) -> None:
    """Give the best of each tile, and of those the best."""
    values, rows = [], []
    for tile in range(shape.n_tiles):
        items = f"items_{tile}"
        if shape.storage == "float16":
            items = nodes.add("Cast", items, to=1)
        added = nodes.add("Div", f"added_{tile}", "scale")
        scores = nodes.add("Gemm", "scaled", items, added, transB=1)
        best, place = nodes.add("TopK", scores, N_KEPT, n=2, axis=1, largest=1, sorted=0)
        if tile:
            first = nodes.constant(np.array([tile * shape.tile_rows], np.int64))
            place = nodes.add("Add", place, first)
        values.append(best)
        rows.append(place)
    every, all_rows = nodes.add("Concat", *values, axis=1), nodes.add("Concat", *rows, axis=1)
    best, place = nodes.add("TopK", every, N_KEPT, n=2, axis=1, largest=1, sorted=1)
    nodes.add("Identity", best, output="values")
    nodes.add("GatherElements", all_rows, place, output="rows", axis=1)
