"""Model files that were made to do harm, or were never models: a `BundleError`, never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import port
from onnx import TensorProto, helper

from recengine import BundleError
from recengine.runtime import open_session

WEIGHT = np.arange(9, dtype=np.float32).reshape(3, 3)


def model(nodes: list[Any], weights: list[Any], opset: int = 17) -> bytes:
    ports = [port(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("somebody", 1)]
    content: bytes = helper.make_model(
        graph, opset_imports=imports, ir_version=8
    ).SerializeToString()
    return content


def product(weight: Any) -> bytes:
    return model([helper.make_node("MatMul", ["x", "W"], ["y"])], [weight])


def tensor(dims: list[int], **fields: Any) -> Any:
    return onnx.TensorProto(name="W", data_type=TensorProto.FLOAT, dims=dims, **fields)


def node(kind: str, inputs: str = "x", **options: Any) -> bytes:
    return model([helper.make_node(kind, list(inputs), ["y"], **options)], [])


LOOP = [helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]

HOSTILE = {
    "empty": b"",
    "zeros": bytes(1000),
    "web_page": b"<html>404</html>",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "zip": b"PK\x03\x04" + bytes(100),
    "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "ort_format": b"\x20\0\0\0ORTM" + b"\xff" * 100,
    "unknown_operator": node("Frobnicate"),
    "operator_of_somebody": node("PyOp", domain="somebody"),
    "opset_of_the_future": model([helper.make_node("Neg", ["x"], ["y"])], [], opset=9999),
    "input_from_nowhere": node("Neg", "z"),
    "circle": model(LOOP, []),
    "too_many_weights": product(tensor([2**40, 2**30], raw_data=bytes(16))),
    "negative_size": product(tensor([-3, 3], raw_data=bytes(36))),
    "too_few_bytes": product(tensor([3, 3], raw_data=bytes(4))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_file_that_is_no_good_model_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(BundleError, match=r"bad\.onnx cannot be opened as an ONNX model: "):
        open_session(path, num_threads=1)


# --- weights kept in files beside the model -------------------------------------------------------


def beside(folder: Path, location: str, where: str, **entries: Any) -> Path:
    """Save x @ W = y with W in the file `location`, as a weight or as a constant of a node."""
    weight = tensor([3, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    content = product(weight)
    if where == "constant":
        constant = helper.make_node("Constant", [], ["W"], value=weight)
        content = model([constant, helper.make_node("MatMul", ["x", "W"], ["y"])], [])
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with weights in it, a link out of it, and weights outside of it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for file in (folder / "w.bin", folder / "sub" / "w.bin", tmp_path / "outside.bin"):
        file.write_bytes(WEIGHT.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    return folder


@pytest.mark.parametrize("where", ["weight", "constant"])
@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin"])
def test_weights_beside_the_model_are_read(folder: Path, location: str, where: str) -> None:
    session = open_session(beside(folder, location, where), num_threads=1)
    np.testing.assert_array_equal(session.run({"x": np.eye(3)})[0], WEIGHT)


@pytest.mark.parametrize("where", ["weight", "constant"])
@pytest.mark.parametrize(
    "location",
    ["../outside.bin", "sub/../../outside.bin", "{absolute}", "link.bin", "/proc/self/environ"],
)
def test_weights_outside_the_folder_are_refused(folder: Path, location: str, where: str) -> None:
    place = location.format(absolute=folder.parent / "outside.bin")
    with pytest.raises(BundleError, match="External data path"):
        open_session(beside(folder, place, where), num_threads=1)


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("absent.bin", {}),
        ("", {}),
        ("sub", {}),
        ("*/_ORT_MEM_ADDR_/*", {"offset": 4096, "length": 36}),
        ("w.bin", {"length": 4000}),
        ("w.bin", {"offset": 10**12}),
        ("w.bin", {"offset": -4}),
        ("w.bin", {"offset": "zero"}),
    ],
)
def test_weights_that_are_not_there_are_refused(
    folder: Path, location: str, entries: dict[str, Any]
) -> None:
    with pytest.raises(BundleError, match="cannot be opened as an ONNX model: "):
        open_session(beside(folder, location, "weight", **entries), num_threads=1)
