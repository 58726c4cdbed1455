"""A session cut at a tensor inside its graph: the same numbers, and only what leads to them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import port, save, save_sum
from onnx import TensorProto, helper, numpy_helper

from recengine import BundleError
from recengine.runtime import Session, open_session
from recengine.runtime.cutting import cut_at

DIM, CODE = 6, 2
FLOAT = TensorProto.FLOAT


@pytest.fixture
def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    down, up = rng.standard_normal((2, DIM, CODE)).astype(np.float32)
    return {"down": down, "up": up.T.copy()}


def save_autoencoder(path: Path, weights: dict[str, np.ndarray]) -> Path:
    """relu(x @ down) = code; code @ up = y; y - x - side = error: x [n, 6], side [n, 6]."""
    nodes = [
        helper.make_node("MatMul", ["x", "down"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["code"]),
        helper.make_node("MatMul", ["code", "up"], ["y"]),
        helper.make_node("Sub", ["y", "x"], ["off"]),
        helper.make_node("Sub", ["off", "side"], ["error"]),
        helper.make_node("Shape", ["y"], ["rows"]),
    ]
    inputs = [port(name, FLOAT, ["n", DIM]) for name in ("x", "side")]
    outputs = [port(name, FLOAT, ["n", DIM]) for name in ("y", "error")]
    return save(path, nodes, inputs, outputs, weights)


@pytest.fixture
def path(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    return save_autoencoder(tmp_path / "auto.onnx", weights)


def ends(session: Session) -> tuple[list[str], list[str]]:
    return [str(each) for each in session.inputs], [str(each) for each in session.outputs]


def test_cut_gives_what_the_whole_graph_computes_on_its_way(
    path: Path, weights: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    x = rng.standard_normal((5, DIM)).astype(np.float32)
    session = open_session(path, num_threads=1, output="code")
    assert ends(session) == (["x float32 [n, 6]"], ["code float32 [n, 2]"])
    (code,) = session.run({"x": x})
    expected = np.maximum(x.astype(np.float64) @ weights["down"], 0)
    np.testing.assert_allclose(code, expected, rtol=1e-5, atol=1e-6)
    assert (session.output, session.digest) == ("code", open_session(path, num_threads=1).digest)


def test_only_what_leads_to_the_output_is_there(path: Path) -> None:
    assert open_session(path, num_threads=1, output="code").placement == {
        "CPUExecutionProvider": {"MatMul": 1, "Relu": 1}
    }
    session = open_session(path, num_threads=1, output="y")
    assert ends(session) == (["x float32 [n, 6]"], ["y float32 [n, 6]"])
    assert session.placement == {"CPUExecutionProvider": {"MatMul": 2, "Relu": 1}}
    with pytest.raises(ValueError, match=r"unknown \['side'\]; it has: x float32"):
        session.run({"x": np.zeros((1, DIM)), "side": np.zeros((1, DIM))})


def test_weights_behind_the_cut_are_not_read(tmp_path: Path, weights: Any) -> None:
    """64 MB of them: the cut session opens in a fraction of the memory, and stays there."""
    wide = {"down": weights["down"], "up": np.ones((CODE, 8_000_000), np.float32)}
    path = save_autoencoder(tmp_path / "wide.onnx", wide)
    code = (
        "import resource, sys; from recengine.runtime import open_session\n"
        "import onnx, onnxruntime\n"
        "session = open_session(sys.argv[1], num_threads=1, output='code')\n"
        "print(sum(int(line.split()[1]) for line in open('/proc/self/smaps_rollup')"
        " if line.startswith('Rss:')))"
    )
    resident = [
        int(subprocess.check_output([sys.executable, "-W", "ignore", "-c", code, str(each)]))
        for each in (path, save_autoencoder(tmp_path / "narrow.onnx", weights))
    ]
    assert resident[0] - resident[1] < 16_000  # kB
    path.unlink()


@pytest.mark.parametrize("output", ["cod", "x", "down", "", "Code"])
def test_wrong_name_lists_the_tensors(path: Path, output: str) -> None:
    with pytest.raises(
        ValueError, match=r"output must be a tensor that auto\.onnx makes: "
    ) as told:
        open_session(path, num_threads=1, output=output)
    said = str(told.value)
    assert "makes: y float32 [n, 6]; error float32 [n, 6]; " in said
    assert "code float32 [n, 2]" in said
    assert "hidden float32 [n, 2]" in said
    assert "rows" not in said  # int64
    assert said.endswith(f"; got {output!r}")
    if output == "cod":
        assert said.index("code") < said.index("off")


def test_long_list_is_cut_short(tmp_path: Path) -> None:
    names = ["x", *(f"layer{i}" for i in range(100)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    path = save(tmp_path / "deep.onnx", nodes, ports[:1], ports[1:])
    with pytest.raises(
        ValueError, match=r"y float32 .*layer5 .*and 85 more; got 'layer_5'"
    ) as told:
        open_session(path, num_threads=1, output="layer_5")
    assert len(str(told.value)) < 700


def test_constant_tensor_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["w"], ["v"]),
        helper.make_node("Add", ["x", "v"], ["y"]),
    ]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    path = save(tmp_path / "c.onnx", nodes, ports[:1], ports[1:], {"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"output must depend on an input of c\.onnx, got 'v'"):
        open_session(path, num_threads=1, output="v")


def test_output_must_be_a_name(path: Path) -> None:
    with pytest.raises(TypeError, match="output must be a str, got int"):
        open_session(path, output=0)  # type: ignore[arg-type]


# --- without onnx ---------------------------------------------------------------------------------


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)


@pytest.mark.usefixtures("no_onnx")
def test_without_onnx_an_output_is_taken_and_a_tensor_inside_needs_it(path: Path) -> None:
    session = open_session(path, num_threads=1, output="error")
    x = np.arange(DIM, dtype=np.float32)[None]
    whole = open_session(path, num_threads=1).run({"x": x, "side": x})
    assert [port.name for port in session.outputs] == ["error"]
    np.testing.assert_array_equal(session.run({"x": x, "side": x}), whole[1:])
    with pytest.raises(
        ImportError, match=r"'code' is none of those of auto\.onnx \(y, error\); .*"
    ):
        open_session(path, num_threads=1, output="code")


# --- forks, pickles, other files ------------------------------------------------------------------


def test_pickle_keeps_the_cut(path: Path) -> None:
    session = open_session(path, num_threads=1, output="code")
    content = pickle.dumps(session)
    assert len(content) < 1000
    again = pickle.loads(content)
    x = np.ones((2, DIM), np.float32)
    assert ends(again) == ends(session)
    np.testing.assert_array_equal(again.run({"x": x}), session.run({"x": x}))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match="is not the file it was"):
        pickle.loads(content)


FORK = """
import os, sys
import numpy as np
from recengine import BundleError
from recengine.runtime import open_session

session = open_session(sys.argv[1], num_threads=2, output="code")
x = np.arange(12, dtype=np.float32).reshape(2, 6)
expected = session.run({"x": x})[0]
if os.fork() == 0:
    assert (session.run({"x": x})[0] == expected).all()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
open(sys.argv[1], "ab").write(b"x")
if os.fork() == 0:
    try:
        session.run({"x": x})
    except BundleError as error:
        sys.exit(0 if "is not the file it was" in str(error) else 2)
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print("ok")
"""


def test_forked_child_cuts_anew(path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ok", "")


def test_relative_path_and_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    session = open_session(path.name, num_threads=1, output="code")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(session)).output == "code"


# --- graphs inside of nodes, functions, notes, unknown types --------------------------------------


def test_inner_graphs_keep_what_they_read_outside(tmp_path: Path) -> None:
    """if any(x > 0): x * scale - the branch's own: x and scale are read from outside."""
    inner = port("inner", FLOAT, None)
    then = helper.make_graph(
        [helper.make_node("Mul", ["doubled", "scale"], ["inner"])], "then", [], [inner]
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["inner"])], "other", [], [inner])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["chosen", "chosen"], ["y"]),
    ]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    weights = {"scale": np.float32([1, 10, 100]), "zero": np.float32(0)}
    constants = {name: np.asarray(value) for name, value in weights.items()}
    path = save(tmp_path / "if.onnx", nodes, ports[:1], ports[1:], constants)
    session = open_session(path, num_threads=1, output="chosen")
    x = np.float32([[1, 2, 3]])
    np.testing.assert_array_equal(session.run({"x": x})[0], [[2, 40, 600]])
    np.testing.assert_array_equal(session.run({"x": -x})[0], [[1, 2, 3]])


def test_functions_and_notes_on_quantisation_survive(tmp_path: Path) -> None:
    """A local function, a note of a weight and of a tensor that goes, and no type for `code`."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], imports[:1]
    )
    nodes = [
        helper.make_node("Twice", ["x"], ["code"], domain="local"),
        helper.make_node("Add", ["code", "w"], ["y"]),
    ]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    graph.quantization_annotation.add(tensor_name="w").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[twice])
    onnx.save(model, tmp_path / "f.onnx")
    session = open_session(tmp_path / "f.onnx", num_threads=1, output="code")
    np.testing.assert_array_equal(session.run({"x": [[1.0, 2.0, 3.0]]})[0], [[2, 4, 6]])


def test_weight_that_is_also_an_input_stays_one(tmp_path: Path) -> None:
    """As files of IR version 3 have them: an input with a default."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    inputs = [port("x", FLOAT, ["n", 3]), port("w", FLOAT, [3, 3])]
    weight = {"w": np.eye(3, dtype=np.float32)}
    path = save(tmp_path / "old.onnx", nodes, inputs, [port("y", FLOAT, ["n", 3])], weight)
    session = open_session(path, num_threads=1, output="h")
    assert [each.name for each in session.inputs] == ["x"]
    np.testing.assert_array_equal(session.run({"x": [[1.0, 2.0, 3.0]]})[0], [[1, 2, 3]])


# --- hostile files --------------------------------------------------------------------------------


def opened(path: Path, output: str) -> Session | ValueError:
    try:
        return open_session(path, num_threads=1, output=output)
    except ValueError as error:  # BundleError is one
        return error


def test_truncated_graph_is_refused_by_name(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    bad = tmp_path / "bad.onnx"
    n_refused = 0
    for length in range(0, len(whole), 3):
        bad.write_bytes(whole[:length])
        found = opened(bad, "code")
        if isinstance(found, Session):
            assert ends(found)[1] == ["code float32 [n, 2]"]
        else:
            assert "bad.onnx" in str(found)
            n_refused += 1
    assert n_refused > len(whole) // 3 - 10


@pytest.mark.parametrize("output", ["code", "cod"])
def test_flipped_bytes_never_crash(path: Path, tmp_path: Path, output: str) -> None:
    whole = path.read_bytes()
    bad = tmp_path / "bad.onnx"
    n_refused = 0
    for place in range(len(whole)):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        n_refused += not isinstance(opened(bad, output), Session)
    assert n_refused > len(whole) // 4


@pytest.mark.parametrize("content", [b"", bytes(1000), b"<html>404</html>", b"PK\x03\x04"])
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"bad\.onnx cannot be opened as an ONNX model: "):
        open_session(path, num_threads=1, output="code")


def test_circle_is_refused_in_time(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    path = save(tmp_path / "circle.onnx", nodes, ports[:1], ports[1:])
    start = time.monotonic()
    with pytest.raises(BundleError, match=r"circle\.onnx cannot be opened"):
        open_session(path, num_threads=1, output="b")
    assert time.monotonic() - start < 5


def beside(folder: Path, location: str) -> Path:
    """Save x @ W = h, relu(h) = y, with W in the file `location`."""
    weight = TensorProto(name="W", data_type=FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    ports = [port(name, FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_weights_beside_the_file_are_read(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = rng.standard_normal((3, 3)).astype(np.float32)
    (tmp_path / "w.bin").write_bytes(weight.tobytes())
    path = beside(tmp_path, "w.bin")
    monkeypatch.chdir("/")
    session = open_session(path, num_threads=1, output="h")
    np.testing.assert_array_equal(session.run({"x": np.eye(3)})[0], weight)


@pytest.mark.parametrize("location", ["../out.bin", "{absolute}", "link.bin", "absent.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder, outside = tmp_path / "model", tmp_path / "out.bin"
    folder.mkdir()
    outside.write_bytes(bytes(36))
    (folder / "link.bin").symlink_to(outside)
    path = beside(folder, location.format(absolute=outside))
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened as an ONNX model"):
        open_session(path, num_threads=1, output="h")


def test_file_with_that_one_output_is_opened_as_it_is(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "sum.onnx")
    assert cut_at(path, "c") == path
    assert ends(open_session(path, num_threads=1, output="c"))[1] == ["c float32 [n, 3]"]
