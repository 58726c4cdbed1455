from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from graphs import port, save, save_sum
from onnx import TensorProto, helper
from pretended import CPU, CUDA, made, stand_in

from recengine import DeviceError
from recengine.runtime import _create, _cuda, _wheel, open_session, parse_device, providers_report
from recengine.runtime.report import PROBE


def gpu_here() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


without_gpu = pytest.mark.skipif(gpu_here(), reason="an NVIDIA driver answers: nothing to refuse")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_sum(tmp_path / "sum.onnx")


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ("cpu", 0)), ("auto", ("auto", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))],
)
def test_device_is_read(device: str, expected: tuple[str, int]) -> None:
    assert parse_device(device) == expected


@pytest.mark.parametrize(
    "device", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "cpu:0", "auto:1"]
)
def test_unknown_device_is_refused(path: Path, device: str) -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda', 'cuda:N' or 'auto', got"):
        open_session(path, device)


def test_device_of_another_type_is_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="device must be a str, got int"):
        open_session(path, 0)  # type: ignore[arg-type]


# --- what really happens on a machine without a GPU -----------------------------------------------


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_is_refused_with_reason_and_fix(path: Path, device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_session(path, device)
    message = str(caught.value)
    assert message.startswith(f"device='{device}' was asked for, but {CUDA} cannot run sum.onnx: ")
    assert "fix: " in message
    if "onnxruntime-gpu" in _wheel.installed_wheels():
        assert ".so" in message, "the missing library is named"
        assert "is missing" in message
    else:
        assert "wheel without CUDA" in message
        assert "recengine[gpu]" in message


@without_gpu
def test_created_session_is_the_judge(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if no question to the machine finds a fault, a session on the CPU is not given."""
    monkeypatch.setattr(_create, "why_no_cuda", lambda ort: "")
    with pytest.raises(DeviceError, match="the provider does not start: "):
        open_session(path, "cuda")


@without_gpu
def test_auto_falls_to_the_cpu_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recengine"):
        session = open_session(path, "auto", num_threads=1)
    assert session.device == "cpu"
    assert "fix: " in session.reason
    (record,) = caplog.records
    assert record.name == "recengine"
    assert record.getMessage() == f"device='auto': sum.onnx runs on the CPU: {session.reason}"
    row = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(session.run({"a": row, "b": row})[0], row * 2)


QUIET = """
import sys
import numpy as np
from recengine.runtime import open_session
for device in ("cuda", "cpu"):
    try:
        open_session(sys.argv[1], device)
    except Exception as error:
        print(type(error).__name__)
session = open_session(sys.argv[2], "cpu", 1)
try:
    session.run({"a": np.zeros((2, 3), "f4"), "b": np.zeros((4, 3), "f4")})
except ValueError as error:
    print("ValueError")
"""


@without_gpu
def test_onnxruntime_says_nothing_on_the_terminal(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x08:")
    command = [sys.executable, "-c", QUIET, str(broken), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["DeviceError", "BundleError", "ValueError"]
    assert done.stderr == ""


TELEMETRY = """
import os, sys
n_threads = lambda: len(os.listdir("/proc/self/task"))
import numpy, recengine.runtime
before = n_threads()
session = recengine.runtime.open_session(sys.argv[1], "cpu", 1)
print(os.environ["ORT_DISABLE_TELEMETRY"], n_threads() - before)
"""


def test_telemetry_of_onnxruntime_is_never_started(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its uploader is a thread, so no new thread means no uploader."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    command = [sys.executable, "-c", TELEMETRY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "0"]


# --- what a GPU does ------------------------------------------------------------------------------


@pytest.mark.gpu
def test_cuda_runs_on_cuda(path: Path) -> None:
    row = np.ones((1, 3), np.float32)
    for device in ("cuda", "cuda:0", "auto"):
        session = open_session(path, device)
        assert session.device == "cuda:0"
        np.testing.assert_array_equal(session.run({"a": row, "b": row})[0], row * 2)


@pytest.mark.gpu
def test_node_that_cuda_lacks_is_named(tmp_path: Path) -> None:
    ports = [port(name, TensorProto.STRING, ["n"]) for name in "xy"]
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER")
    path = save(tmp_path / "words.onnx", [node], ports[:1], ports[1:])
    with pytest.raises(DeviceError, match="StringNormalizer x1"):
        open_session(path, "cuda")


# --- answers of machines that are not here, by a stand-in for onnxruntime -------------------------


def tried(monkeypatch: pytest.MonkeyPatch, make_session: Any) -> tuple[Any, str]:
    monkeypatch.setattr(_create, "why_no_cuda", lambda ort: "")
    return _create.try_cuda(stand_in(make_session), Path("m.onnx"), 0, 1)


def test_session_on_cuda_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(providers: list[str], config: dict[str, str]) -> Any:
        assert providers == [CUDA]
        assert config["session.disable_cpu_ep_fallback"] == "1"
        return made(CUDA, CPU)

    session, problem = tried(monkeypatch, make)
    assert session.get_providers()[0] == CUDA
    assert problem == ""


def test_session_that_came_back_on_the_cpu_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, lambda providers, config: made(CPU)) == (
        None,
        f"the session came back on {CPU}",
    )


def test_nodes_that_fell_to_the_cpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(providers: list[str], config: dict[str, str]) -> Any:
        if providers == [CUDA]:
            raise RuntimeError("assigned to the default CPU EP")
        return made(*providers, on_cpu=("Loop", "Resize", "Loop"))

    session, problem = tried(monkeypatch, make)
    assert session is None
    assert problem.startswith("3 nodes of the graph would fall to the CPU (Loop x2, Resize x1; fix")


def test_cuda_that_fails_beside_the_cpu_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(providers: list[str], config: dict[str, str]) -> Any:
        if CUDA in providers:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device")
        return made(CPU)

    _, problem = tried(monkeypatch, make)
    assert problem == "the provider does not start: CUDA failure 100: no CUDA-capable device"


class Driver:
    """libcuda.so.1 that speaks CUDA `major`."""

    def __init__(self, major: int) -> None:
        self.major = major

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.major * 1000
        return 0


def asked(
    monkeypatch: pytest.MonkeyPatch, driver: Driver | None, library_error: str, ort: Any = None
) -> str:
    def load(name: str) -> Any:
        if name == "libcuda.so.1":
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver
        if library_error:
            raise OSError(library_error)
        return SimpleNamespace()

    monkeypatch.setattr(_cuda.ctypes, "CDLL", load)
    return _cuda.why_no_cuda(ort or stand_in())


MISSING = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("driver", "library_error", "expected"),
    [
        (Driver(13), "", ""),
        (Driver(14), "/x.so: undefined symbol: Provider_GetHost", ""),
        (
            Driver(12),
            "",
            "the NVIDIA driver supports CUDA 12, the onnxruntime wheel needs ",
        ),
        (Driver(13), MISSING, "the shared library libcublasLt.so.13 is missing (fix: pip install "),
        (None, MISSING, "the shared library libcublasLt.so.13 is missing (fix: pip install "),
        (None, "libcuda.so.1: cannot open shared object file", "no NVIDIA driver answers here"),
    ],
)
def test_machine_is_asked_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, driver: Driver | None, library_error: str, expected: str
) -> None:
    problem = asked(monkeypatch, driver, library_error)
    assert problem.startswith(expected)
    assert bool(problem) == bool(expected)
    assert ("no NVIDIA driver answers here" in problem) == (driver is None)


def test_preload_does_not_print(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="recengine"):
        asked(monkeypatch, Driver(13), "")
    assert capsys.readouterr().out == ""
    assert "Failed to load libcublas.so.13" in caplog.text


def test_wheel_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = stand_in()
    ort.get_available_providers = lambda: [CPU]
    assert "onnxruntime 1.31.1 is a wheel without CUDA" in asked(monkeypatch, None, MISSING, ort)


# --- wheels ---------------------------------------------------------------------------------------


@pytest.fixture
def two_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-9.9.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("two_wheels")
def test_two_wheels_are_refused(path: Path) -> None:
    message = (
        "onnxruntime 9.9 and onnxruntime-gpu 9.9 are both installed.*"
        "pip uninstall -y onnxruntime onnxruntime-gpu"
    )
    with pytest.raises(DeviceError, match=message):
        open_session(path)


@pytest.mark.usefixtures("two_wheels")
def test_report_tells_of_two_wheels() -> None:
    report = providers_report()
    assert report.wheels == {"onnxruntime": "9.9", "onnxruntime-gpu": "9.9"}
    assert "both installed" in report.problem
    assert (report.providers, report.auto) == ((), "")


@pytest.mark.parametrize(
    ("wheels", "message"),
    [
        ({}, r"recengine\[cpu\].*recengine\[gpu\]"),
        ({"onnxruntime-gpu": "1.27.0"}, r"onnxruntime-gpu 1\.27\.0 is installed but cannot be"),
    ],
)
def test_missing_onnxruntime_names_the_extras(
    path: Path, monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], message: str
) -> None:
    from recengine.runtime import report

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for module in (_wheel, report):
        monkeypatch.setattr(module, "installed_wheels", lambda: wheels)
    with pytest.raises(ImportError, match=message):
        open_session(path)
    assert providers_report().problem


# --- report ---------------------------------------------------------------------------------------


def test_report_tells_what_really_opens() -> None:
    report = providers_report()
    found = {status.name: status for status in report.providers}
    assert report.problem == ""
    assert len(report.wheels) == 1
    assert found[CPU].listed
    assert found[CPU].opened
    assert found[CUDA].listed == ("onnxruntime-gpu" in report.wheels)
    assert found[CUDA].opened == (found[CUDA].reason == "")
    assert report.auto == ("cuda:0" if found[CUDA].opened else "cpu")


@without_gpu
def test_report_does_not_believe_the_list() -> None:
    (status,) = [each for each in providers_report().providers if each.name == CUDA]
    assert not status.opened
    assert "fix: " in status.reason


def test_probe_is_one_addition() -> None:
    ports = [port(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "probe", ports[:1], ports[1:]
    )
    options = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8, "producer_name": ""}
    assert helper.make_model(graph, **options).SerializeToString() == PROBE
