"""Int8 products with a scale a row: near the float ones, and nobody's affair but the row's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import port, save
from onnx import TensorProto, helper, numpy_helper

from recengine.runtime import open_session, shrink

DIM, OUT = 64, 48


def scale(weight: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(weight).max(axis=axis)


@pytest.fixture
def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    first, second = rng.standard_normal((2, DIM, OUT)).astype(np.float32)
    return {"w": first, "v": np.ascontiguousarray(second.T), "b": np.ones(OUT, np.float32)}


def made(path: Path, weights: dict[str, np.ndarray], opset: int = 17) -> Path:
    """y = x w and z = x v' + b, of one x; `v` is stored across."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Gemm", ["x", "v", "b"], ["z"], transB=1),
    ]
    ports = [port(name, TensorProto.FLOAT, ["n", None]) for name in "yz"]
    save(path, nodes, [port("x", TensorProto.FLOAT, ["n", DIM])], ports, weights)
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_products_stay_within_the_bound_and_rows_alone(
    tmp_path: Path, weights: dict[str, np.ndarray], rng: np.random.Generator, opset: int
) -> None:
    small = tmp_path / "small.onnx"
    shrink(made(tmp_path / "m.onnx", weights, opset), small, "row-int8")
    session = open_session(small, num_threads=1)
    x = (rng.standard_normal((9, DIM)) * 10.0 ** np.arange(-4, 5)[:, None]).astype(np.float32)
    x[3] = 0
    found = session.run({"x": x})
    wide = x.astype(np.float64)
    expected = wide @ weights["w"], wide @ weights["v"].T + 1
    for number, (got, want, matrix) in enumerate(
        zip(found, expected, (weights["w"], weights["v"].T), strict=True)
    ):
        largest = np.abs(x).max(axis=1)[:, None] * np.abs(matrix).max(axis=0)
        assert (np.abs(got - want) <= DIM * largest / 127 * (1 + 1 / 508) + 1e-6).all()
        np.testing.assert_allclose(got[3], number, atol=1e-6)
        near, wanted = ((each - number)[4:] / largest[4:] for each in (got, want))
        assert np.corrcoef(near.ravel(), wanted.ravel())[0, 1] > 0.999
    for row in range(9):
        for got, alone in zip(found, session.run({"x": x[row : row + 1]}), strict=True):
            np.testing.assert_array_equal(alone[0], got[row])


def test_input_of_several_products_is_scaled_once(
    tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    small = tmp_path / "small.onnx"
    shrink(made(tmp_path / "m.onnx", weights), small, "row-int8")
    model = onnx.load(small)
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("MatMulInteger")) == (1, 2)
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    codes = sum(array.size for array in arrays.values() if array.dtype == np.uint8)
    assert codes == 2 * DIM * OUT + 1, "and where uint8 has its zero"
    assert {"w", "v"}.isdisjoint(arrays)


def test_numbers_that_are_not_finite_are_not_hidden(
    tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    small = tmp_path / "small.onnx"
    shrink(made(tmp_path / "m.onnx", weights), small, "row-int8")
    x = np.ones((3, DIM), np.float32)
    x[0, 5], x[2, 7] = np.nan, np.inf
    for found in open_session(small, num_threads=1).run({"x": x}):
        assert not np.isfinite(found[[0, 2]]).any()
        assert np.isfinite(found[1]).all()


def test_table_keeps_its_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    table = rng.standard_normal((100, 32)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"])]
    given = port("i", TensorProto.INT64, ["n"])
    output = port("y", TensorProto.FLOAT, ["n", 32])
    path = save(tmp_path / "m.onnx", nodes, [given], [output], {"table": table})
    shrink(path, tmp_path / "small.onnx", "row-int8")
    assert (tmp_path / "small.onnx").stat().st_size < 0.4 * path.stat().st_size
    (found,) = open_session(tmp_path / "small.onnx", num_threads=1).run({"i": np.arange(100)})
    step = np.abs(table).max(axis=1, keepdims=True) / 254
    assert (np.abs(found - table) <= 1.001 * step).all()


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("Gemm", {"alpha": 0.5}),
        ("Gemm", {"beta": 2.0}),
        ("Gemm", {"transA": 1}),
        ("MatMul", {}),
    ],
)
def test_other_products_are_left(tmp_path: Path, node: str, told: dict[str, Any]) -> None:
    """With factors of their own, of another layout, or too small to pay."""
    rows = 64 if node == "Gemm" else 4
    weights = {"w": np.eye(rows, dtype=np.float32), "b": np.ones(rows, np.float32)}
    inputs = ["x", "w", "b"][: 2 + (node == "Gemm")]
    nodes = [helper.make_node(node, inputs, ["y"], **told)]
    ports = [port(name, TensorProto.FLOAT, [rows, rows]) for name in "xy"]
    used = {name: weights[name] for name in inputs[1:]}
    path = save(tmp_path / "m.onnx", nodes, ports[:1], ports[1:], used)
    with pytest.raises(ValueError, match="cannot be made row-int8: it has no MatMul, Gemm, Gather"):
        shrink(path, tmp_path / "small.onnx", "row-int8")
