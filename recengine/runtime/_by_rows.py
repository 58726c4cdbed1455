"""Int8 products whose activations have a scale for each row: what a row gives is its own affair.

onnxruntime's dynamic quantisation takes one scale from all that a run holds, so the vector of a
text depends on its batch mates. Here every row of a product's input (a token of a text) is scaled
by its own largest value. The operators are ONNX's own; onnxruntime runs the product in int8.
Both factors are uint8: of those its kernels form exact sums on every CPU, whereas uint8 by int8
saturates without VNNI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = ("MatMul", "Gemm", "Gather")
LEAST_OPSET = 10  # that of MatMulInteger
FLOAT, ZERO = 1, np.uint8(128)  # of TensorProto.DataType; where uint8 has its zero
SMALL = 1024  # numbers of a weight that is not worth it


def quantize_rows(onnx: Any, model: Any) -> bool:
    """Change a model of folded constants in place; tell whether there was anything to change.

    Parameters
    ----------
    onnx : module
    model : onnx.ModelProto
        Its MatMul and Gemm by a constant float32 matrix, and Gather from one, are replaced.

    Notes
    -----
    A row x is fed as round(127 x / max|x|) + 128 in uint8, a column w of the matrix likewise; the
    exact sum of their products is multiplied by both scales. A product of d terms is off by at most
    d max|x| max|w| / 127 (1 + 1/508).
    """
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        raise ValueError(f"its opset must be >= {LEAST_OPSET}, got {opset}")
    rewriting = _Rewriting(onnx, model.graph, opset)
    nodes = [made for node in model.graph.node for made in rewriting.of(node)]
    if not rewriting.weights:
        return False
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    still_read = {name for node in nodes for name in node.input}
    still_read |= {each.name for each in model.graph.output}
    kept = [each for each in model.graph.initializer if each.name in still_read]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *rewriting.weights])
    return True


class _Rewriting:
    """The nodes that stand for one, and the constants that they read."""

    def __init__(self, onnx: Any, graph: Any, opset: int) -> None:
        self._onnx, self._opset = onnx, opset
        self._constants = {each.name: each for each in graph.initializer}
        self._scaled: dict[str, str] = {}  # inputs of products that have been scaled: name of it
        self._named: set[str] = set()
        self.weights: list[Any] = []

    def of(self, node: Any) -> Iterator[Any]:
        """Yield what stands for a node: itself, where it is none of those."""
        at = 0 if node.op_type == "Gather" else 1
        matrix = None
        if node.op_type in ROWS and self._is_plain(node):
            matrix = self._matrix(node.input[at])
        if matrix is None:
            yield node
        elif node.op_type == "Gather":
            yield from self._gather(node, matrix)
        else:
            yield from self._product(node, matrix)

    def _is_plain(self, node: Any) -> bool:
        """Tell whether a node is the usual one of its kind: rows times a matrix, rows of one."""
        told = {each.name: self._onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Gather":
            return bool(told.get("axis", 0) == 0)
        usual = told.get("alpha", 1.0) == told.get("beta", 1.0) == 1.0
        return bool(usual and not told.get("transA", 0))

    def _matrix(self, name: str) -> NDArray[np.float32] | None:
        found = self._constants.get(name)
        if found is None or found.data_type != FLOAT or len(found.dims) != 2:
            return None
        matrix: NDArray[np.float32] = self._onnx.numpy_helper.to_array(found)
        return matrix if matrix.size >= SMALL and np.isfinite(matrix).all() else None

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._named:
            self._named.add(name)
            self.weights.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def _gather(self, node: Any, table: NDArray[np.float32]) -> Iterator[Any]:
        name, make = node.output[0], self._onnx.helper.make_node
        codes, scales = _coded(table, axis=1)
        shared = f"{node.input[0]}_rows"
        self._constant(f"{shared}_codes", codes)
        self._constant(f"{shared}_scales", scales)
        yield make("Gather", [f"{shared}_codes", node.input[1]], [f"{name}_codes"])
        yield make("Gather", [f"{shared}_scales", node.input[1]], [f"{name}_scales"])
        yield make("Cast", [f"{name}_codes"], [f"{name}_wide"], to=FLOAT)
        yield make("Mul", [f"{name}_wide", f"{name}_scales"], [name])

    def _product(self, node: Any, matrix: NDArray[np.float32]) -> Iterator[Any]:
        name, make = node.output[0], self._onnx.helper.make_node
        told = {each.name: each.i for each in node.attribute}
        shared = f"{node.input[1]}_columns"
        codes, scales = _coded(matrix.T if told.get("transB", 0) else matrix, axis=0)
        self._constant(f"{shared}_codes", (codes.astype(np.int16) + ZERO).astype(np.uint8))
        self._constant(f"{shared}_scales", scales)
        if node.input[0] not in self._scaled:
            yield from self._scale(node.input[0])
        rows, zero = self._scaled[node.input[0]], self._constant("rows_zero", ZERO)
        with_bias = len(node.input) > 2 and node.input[2]
        product = f"{name}_product" if with_bias else name
        factors = [f"{rows}_u8", f"{shared}_codes", zero, zero]
        yield make("MatMulInteger", factors, [f"{name}_sums"])
        yield make("Cast", [f"{name}_sums"], [f"{name}_wide"], to=FLOAT)
        yield make("Mul", [f"{name}_wide", f"{rows}_scale"], [f"{name}_by_row"])
        yield make("Mul", [f"{name}_by_row", f"{shared}_scales"], [product])
        if with_bias:
            yield make("Add", [product, node.input[2]], [name])

    def _scale(self, given: str) -> Iterator[Any]:
        """Yield what makes uint8 rows and their scales of an input, once for all its products."""
        rows, make = f"{given}_rows", self._onnx.helper.make_node
        self._scaled[given] = rows
        most = self._constant("rows_127", np.float32(127))
        least = self._constant("rows_least", np.float32(1e-30))  # of a row of zeros
        one = self._constant("rows_one", np.float32(1))
        zero = self._constant("rows_zero", ZERO)
        nothing = self._constant("rows_nothing", np.float32(0))
        yield make("Abs", [given], [f"{rows}_abs"])
        yield self._reduced("ReduceMax", f"{rows}_abs", f"{rows}_max")
        yield self._reduced("ReduceMean", f"{rows}_abs", f"{rows}_mean")
        yield make("Max", [f"{rows}_max", least], [f"{rows}_most"])
        yield make("Div", [most, f"{rows}_most"], [f"{rows}_inverse"])
        # The largest number says nothing of a NaN, the mean does: it reaches what the row gives.
        yield make("Mul", [f"{rows}_mean", nothing], [f"{rows}_nan"])
        yield make("Div", [f"{rows}_most", most], [f"{rows}_step"])
        yield make("Add", [f"{rows}_step", f"{rows}_nan"], [f"{rows}_scale"])
        yield make("Mul", [given, f"{rows}_inverse"], [f"{rows}_scaled"])
        yield make("QuantizeLinear", [f"{rows}_scaled", one, zero], [f"{rows}_u8"])

    def _reduced(self, kind: str, given: str, name: str) -> Any:
        """Return a reduction along the last axis, which newer opsets take as an input."""
        make = self._onnx.helper.make_node
        if self._opset < 18:
            return make(kind, [given], [name], axes=[-1], keepdims=1)
        return make(
            kind, [given, self._constant("rows_last", np.array([-1], np.int64))], [name], keepdims=1
        )


def _coded(matrix: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], Any]:
    """Return (int8 codes, float32 scales): one scale for all numbers along `axis`."""
    scales = np.abs(matrix).max(axis=axis, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    codes = np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8)
    return codes, (scales if axis else scales[0]).astype(np.float32)
