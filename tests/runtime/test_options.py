"""Every option reaches onnxruntime, by what it tells back or by what it does."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from graphs import port, save, save_sum, save_tower
from onnx import TensorProto, helper
from pretended import CPU, CUDA, made, stand_in

from recengine.runtime import RuntimeOptions, _create, open_session
from recengine.runtime.options import as_options
from recengine.runtime.placement import placement_of

KNOWN = [field.name for field in fields(RuntimeOptions)]
ROW = np.ones((1, 3), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_sum(tmp_path / "sum.onnx")


def opened(path: Path, **options: Any) -> Any:
    return open_session(path, num_threads=1, options=options)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arenas", "gpu_mem_limit", "session.intra_op.allow_spinning", 3])
def test_unknown_option_is_refused_and_known_ones_are_listed(path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match="options must be of ") as caught:
        open_session(path, options={name: True})
    assert all(known in str(caught.value) for known in KNOWN)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arena": 1}, TypeError, r"options\['arena'\] must be a bool, got int"),
        ({"spinning": "0"}, TypeError, r"options\['spinning'\] must be a bool, got str"),
        ({"inter_op_threads": 0}, ValueError, r"\['inter_op_threads'\] must be >= 1, got 0"),
        ({"gpu_memory_limit": 0}, ValueError, r"\['gpu_memory_limit'\] must be >= 1, got 0"),
        ({"gpu_memory_limit": 1e9}, TypeError, r"\['gpu_memory_limit'\] must be an integer"),
        ({"tensorrt": True}, TypeError, r"options\['tensorrt'\] must be a folder, got bool"),
        ({"arena": False, "shrink": True}, ValueError, r"must go with an arena, got arena=False"),
        ({"cuda_graph": True, "tensorrt": "x"}, ValueError, "must go without tensorrt, got both"),
        ({"cuda_graph": True, "shrink": True}, ValueError, "must go without shrink, got both"),
    ],
)
def test_unfit_option_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        as_options(options, "cuda")


@pytest.mark.parametrize(
    "options", [{"gpu_memory_limit": 2**30}, {"cuda_graph": True}, {"tensorrt": "engines"}]
)
def test_option_of_a_gpu_is_refused_on_the_cpu(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must go with device 'cuda' or 'auto', got 'cpu'"):
        open_session(path, "cpu", options=options)
    assert as_options(options, "auto") == as_options(options, "cuda")


def test_options_of_another_type_are_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="options must be a mapping, got list"):
        open_session(path, options=["arena"])  # type: ignore[arg-type]


# --- what reaches onnxruntime ---------------------------------------------------------------------


@pytest.mark.parametrize("arena", [True, False])
def test_arena_reaches_onnxruntime(path: Path, arena: bool) -> None:
    session = opened(path, arena=arena)
    assert session._native.get_session_options().enable_cpu_mem_arena is arena
    np.testing.assert_array_equal(session.run({"a": ROW, "b": ROW})[0], ROW * 2)


@pytest.mark.parametrize("spinning", [True, False])
def test_spinning_reaches_onnxruntime(path: Path, spinning: bool) -> None:
    told = opened(path, spinning=spinning)._native.get_session_options()
    for pool in ("intra_op", "inter_op"):
        entry = told.get_session_config_entry(f"session.{pool}.allow_spinning")
        assert entry == str(int(spinning))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_inter_op_threads_reach_onnxruntime(path: Path, n_threads: int) -> None:
    session = opened(path, inter_op_threads=n_threads)
    told = session._native.get_session_options()
    assert told.inter_op_num_threads == n_threads
    assert told.execution_mode.name == ("ORT_SEQUENTIAL" if n_threads == 1 else "ORT_PARALLEL")
    np.testing.assert_array_equal(session.run({"a": ROW, "b": ROW})[0], ROW * 2)


def test_shrink_gives_memory_back_after_a_run(tmp_path: Path) -> None:
    """One run whose hidden layer takes 100 MB: the arena keeps them, or does not."""
    nodes = [helper.make_node("MatMul", [a, b], [c]) for a, b, c in ("xvh", "hwy")]
    ports = [port(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    weights = {"v": np.ones((1, 5000), np.float32), "w": np.ones((5000, 1), np.float32)}
    path = save(tmp_path / "wide.onnx", nodes, ports[:1], ports[1:], weights)
    x = np.ones((5000, 1), np.float32)
    kept = {}
    for shrink in (False, True):
        session = opened(path, shrink=shrink)
        session.run({"x": x[:1]})  # what the first run takes stays
        before = psutil.Process().memory_info().rss
        session.run({"x": x})
        kept[shrink] = (psutil.Process().memory_info().rss - before) / 1e6
    assert kept[False] - kept[True] > 90, kept


def provider_options(options: dict[str, Any]) -> dict[str, dict[str, str]]:
    return dict(_create.gpu_providers(2, as_options(options, "cuda")))


def test_gpu_options_are_those_of_the_provider(tmp_path: Path) -> None:
    usual = provider_options({})[CUDA]
    assert (usual["device_id"], usual["enable_cuda_graph"], usual["use_tf32"]) == ("2", "0", "0")
    assert "gpu_mem_limit" not in usual
    assert provider_options({"gpu_memory_limit": 2**30})[CUDA]["gpu_mem_limit"] == str(2**30)
    assert provider_options({"cuda_graph": True})[CUDA]["enable_cuda_graph"] == "1"
    both = provider_options({"tensorrt": tmp_path / "engines", "gpu_memory_limit": 7})
    assert list(both) == ["TensorrtExecutionProvider", CUDA], "what TensorRT lacks runs on CUDA"
    assert both["TensorrtExecutionProvider"]["trt_engine_cache_path"] == str(tmp_path / "engines")
    assert both["TensorrtExecutionProvider"]["trt_max_workspace_size"] == "7"
    assert (tmp_path / "engines").is_dir()


@pytest.mark.gpu
def test_gpu_options_are_told_back_by_the_session(path: Path) -> None:
    limit = 2**30
    session = open_session(path, "cuda", options={"gpu_memory_limit": limit, "cuda_graph": True})
    told = session._native.get_provider_options()[CUDA]
    assert (told["gpu_mem_limit"], told["enable_cuda_graph"]) == (str(limit), "1")
    assert (told["use_tf32"], told["arena_extend_strategy"]) == ("0", "kSameAsRequested")


def test_wheel_without_tensorrt_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_create, "why_no_cuda", lambda ort: "")
    options = RuntimeOptions(tensorrt=tmp_path)
    found = _create.try_cuda(stand_in(), Path("m.onnx"), 0, 1, options)
    message = "the installed onnxruntime 1.31.1 is a wheel without TensorrtExecutionProvider"
    assert found == (None, message)


def test_options_travel_by_pickle(path: Path) -> None:
    session = opened(path, arena=False, inter_op_threads=2)
    copy = pickle.loads(pickle.dumps(session))
    assert copy.options == session.options == RuntimeOptions(arena=False, inter_op_threads=2)


# --- placement ------------------------------------------------------------------------------------


def test_placement_tells_who_runs_which_nodes(tmp_path: Path) -> None:
    path = save_tower(tmp_path / "tower.onnx", np.eye(3, dtype=np.float32))
    assert opened(path).placement == {CPU: {"MatMul": 1, "Relu": 1}}


def test_placement_counts_by_provider() -> None:
    parts = [
        SimpleNamespace(ep_name=name, get_nodes=lambda ops=ops: ops)
        for name, ops in [
            (CUDA, [SimpleNamespace(op_type="MatMul")] * 2),
            (CPU, []),
            (CUDA, [SimpleNamespace(op_type=kind) for kind in ("Add", "MatMul")]),
        ]
    ]
    native = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    assert placement_of(native) == {CUDA: {"MatMul": 3, "Add": 1}}


def test_session_with_a_node_on_the_cpu_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third guard, should the second one fail: providers say CUDA, a node stands elsewhere."""
    monkeypatch.setattr(_create, "why_no_cuda", lambda ort: "")
    ort = stand_in(lambda providers, config: made(CUDA, CPU, on_cpu=("NonZero",)))
    session, problem = _create.try_cuda(ort, Path("m.onnx"), 0, 1)
    assert session is None
    assert problem.startswith("1 nodes of the graph would fall to the CPU (NonZero x1; fix")


@pytest.mark.gpu
def test_placement_on_cuda_has_no_node_on_the_cpu(tmp_path: Path) -> None:
    path = save_tower(tmp_path / "tower.onnx", np.eye(3, dtype=np.float32))
    assert list(open_session(path, "cuda").placement) == [CUDA]
