from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from graphs import port, save, save_sum, save_tower
from onnx import TensorProto, helper

from recengine import OnnxEncoder

DIM, OUT = 4, 3


@pytest.fixture
def weight(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((DIM, OUT)).astype(np.float32)


@pytest.fixture
def tower(tmp_path: Path, weight: np.ndarray) -> OnnxEncoder:
    path = save_tower(tmp_path / "tower.onnx", weight)
    return OnnxEncoder(path, output="vector", num_threads=1)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_encode_equals_float64_oracle(
    tower: OnnxEncoder, weight: np.ndarray, rng: np.random.Generator, batch_size: int
) -> None:
    x = rng.standard_normal((10, DIM)).astype(np.float32)
    vectors = tower.encode({"x": x}, batch_size=batch_size)
    expected = np.maximum(x.astype(np.float64) @ weight.astype(np.float64), 0)
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(tower.encode(x, batch_size=batch_size), vectors)


def test_encoder_tells_what_it_is(tower: OnnxEncoder) -> None:
    assert [str(each) for each in tower.inputs] == ["x float32 [n, 4]"]
    assert [each.name for each in tower.outputs] == ["vector"]
    assert (tower.device, tower.reason, tower.dim) == ("cpu", "asked for", OUT)
    assert len(tower.digest) == 64


def test_first_output_is_taken_unless_named(tower: OnnxEncoder) -> None:
    x = np.stack([np.ones(DIM), -np.ones(DIM)])
    path = tower._session.path
    hidden = OnnxEncoder(path, num_threads=1).encode(x)
    np.testing.assert_array_equal(np.maximum(hidden, 0), tower.encode(x))
    assert hidden.min() < 0
    with pytest.raises(ValueError, match=r"makes: hidden float32 .*; vector float32 .*; got 'z'"):
        OnnxEncoder(path, output="z")


def test_output_inside_the_graph_is_cut_out(tmp_path: Path, weight: np.ndarray) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["code"]),
        helper.make_node("Add", ["code", "side"], ["y"]),
    ]
    inputs = [port("x", TensorProto.FLOAT, ["n", DIM]), port("side", TensorProto.FLOAT, ["n", OUT])]
    outputs = [port("y", TensorProto.FLOAT, ["n", OUT])]
    path = save(tmp_path / "m.onnx", nodes, inputs, outputs, {"w": weight})
    encoder = OnnxEncoder(path, output="code", num_threads=1)
    assert [str(each) for each in encoder.inputs] == ["x float32 [n, 4]"]
    assert encoder.dim == OUT
    np.testing.assert_array_equal(encoder.encode(np.eye(DIM)), weight)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode(np.eye(DIM)), weight)
    whole = OnnxEncoder(path, num_threads=1)
    assert again.digest == encoder.digest != whole.digest == encoder._session.digest


def test_run_gives_every_output_or_the_one_asked_for(tower: OnnxEncoder) -> None:
    x = np.ones((2, DIM), np.float32)
    assert list(OnnxEncoder(tower._session.path, num_threads=1).run({"x": x})) == [
        "hidden",
        "vector",
    ]
    found = tower.run({"x": x})
    assert list(found) == ["vector"]
    np.testing.assert_array_equal(found["vector"], tower.encode(x))


def test_normalize_scales_rows(tower: OnnxEncoder, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, DIM)).astype(np.float32)
    scaled = OnnxEncoder(tower._session.path, output="vector", normalize=True, num_threads=1)
    norms = np.linalg.norm(scaled.encode(x), axis=1)
    zero = ~tower.encode(x).any(axis=1)
    np.testing.assert_allclose(norms, np.where(zero, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 8])
def test_fixed_batch_is_filled_up(
    tmp_path: Path, weight: np.ndarray, rng: np.random.Generator, n_rows: int
) -> None:
    encoder = OnnxEncoder(save_tower(tmp_path / "four.onnx", weight, rows=4), num_threads=1)
    x = rng.standard_normal((n_rows, DIM)).astype(np.float32)
    np.testing.assert_allclose(encoder.encode(x), x @ weight, rtol=1e-5, atol=1e-6)


def test_no_rows_give_no_vectors(tower: OnnxEncoder) -> None:
    assert tower.encode(np.empty((0, DIM), np.float32)).shape == (0, OUT)


def test_no_rows_of_a_hidden_dim_are_refused(tmp_path: Path) -> None:
    ports = [port(name, TensorProto.FLOAT, ["n", "d"]) for name in "xy"]
    path = save(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], ports[:1], ports[1:])
    encoder = OnnxEncoder(path, num_threads=1)
    assert encoder.dim is None
    with pytest.raises(ValueError, match="arrays must have at least one row"):
        encoder.encode(np.empty((0, 2), np.float32))


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder = OnnxEncoder(save_sum(tmp_path / "sum.onnx"), num_threads=1)
    row = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"arrays must be a mapping of the graph's inputs: a "):
        encoder.encode(row)
    with pytest.raises(ValueError, match=r"same number of rows, got a \(2, 3\), b \(1, 3\)"):
        encoder.encode({"a": row, "b": row[:1]})
    with pytest.raises(ValueError, match=r"same number of rows, got a \(2, 3\), b \(\)"):
        encoder.encode({"a": row, "b": 1.0})
    with pytest.raises(ValueError, match=r"unknown \['c'\]; it has: a float32 \[n, 3\]"):
        encoder.encode({"a": row, "c": row})
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        encoder.encode({"a": row, "b": row}, batch_size=0)


def test_output_that_is_no_matrix_is_refused(tmp_path: Path) -> None:
    ports = [port("x", TensorProto.FLOAT, ["n", 2, 2]), port("y", TensorProto.FLOAT, ["n", 2, 2])]
    path = save(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], ports[:1], ports[1:])
    with pytest.raises(ValueError, match=r"output y must be real and \(n, dim\), got float32 of"):
        OnnxEncoder(path, num_threads=1).encode(np.ones((3, 2, 2), np.float32))


def test_infinity_is_named(tower: OnnxEncoder) -> None:
    with pytest.raises(ValueError, match=r"the output of tower\.onnx must be finite"):
        tower.encode(np.full((1, DIM), np.inf, np.float32))


def test_pickle_is_a_path(tower: OnnxEncoder) -> None:
    again = pickle.loads(pickle.dumps(tower))
    x = np.ones((2, DIM), np.float32)
    np.testing.assert_array_equal(again.encode(x), tower.encode(x))
    assert again.digest == tower.digest


def test_progress_is_drawn_on_stderr(
    tower: OnnxEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    tower.encode(np.ones((5, DIM), np.float32), batch_size=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err


@pytest.mark.parametrize("n_rows", ["n", 4])
def test_dynamic_quantisation_takes_its_scales_from_one_row(
    tmp_path: Path, rng: np.random.Generator, n_rows: str | int
) -> None:
    """Rows of very unlike size: with the scale of the largest the smallest would be all zeros."""
    weight = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "weight", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["y"]),
    ]
    model = tmp_path / "model.onnx"
    save(
        model,
        nodes,
        [port("x", TensorProto.FLOAT, [n_rows, 4])],
        [port("y", TensorProto.FLOAT, [n_rows, 4])],
        {"weight": weight},
    )
    encoder = OnnxEncoder(model, num_threads=1)
    x = (rng.standard_normal((10, 4)) * 10.0 ** np.arange(-4, 6)[:, None]).astype(np.float32)
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    off = (high - low) / 255 / 2 * np.abs(weight).sum(axis=0).max()
    for found in (encoder.encode(x), encoder.encode(x, batch_size=1)):
        assert (np.abs(found - x @ weight.astype(np.float64)) <= off[:, None] * 1.5).all()
    with pytest.raises(ValueError, match=r"batch_size must be 1 for model\.onnx, got 64"):
        encoder.encode(x, batch_size=64)
