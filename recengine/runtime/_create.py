"""Make native onnxruntime sessions: threads, guards, and the choice of the device."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from recengine._errors import BundleError, DeviceError
from recengine.runtime._cuda import CUDA, why_no_cuda
from recengine.runtime._wheel import SILENT, load_onnxruntime

CPU = "CPUExecutionProvider"
_log = logging.getLogger("recengine")


class Native(NamedTuple):
    """A native session and its module, the device it runs on, and why that one."""

    ort: Any
    session: Any
    device: str
    reason: str


def parse_device(device: Any) -> tuple[str, int]:
    """Return (kind, index) of a device name: kind is "cpu", "cuda" or "auto".

    Parameters
    ----------
    device : {"cpu", "cuda", "cuda:N", "auto"}
    """
    if not isinstance(device, str):
        raise TypeError(f"device must be a str, got {type(device).__name__}")
    kind, colon, index = device.partition(":")
    plain = kind in ("cpu", "auto", "cuda") and not colon
    numbered = kind == "cuda" and index.isascii() and index.isdigit()
    if not (plain or numbered):
        raise ValueError(f"device must be 'cpu', 'cuda', 'cuda:N' or 'auto', got {device!r}")
    return kind, int(index or 0)


def create(path: Path, device: str, num_threads: int) -> Native:
    """Open the graph at `path` on `device`, or refuse.

    Raises
    ------
    DeviceError
        If "cuda" was asked and the created session does not run all of the graph there.
    BundleError
        If the file is no ONNX model that onnxruntime can open.
    """
    kind, index = parse_device(device)
    ort = load_onnxruntime()
    if kind == "cpu":
        return Native(ort, new_session(ort, path, [CPU], num_threads), "cpu", "asked for")
    session, problem = try_cuda(ort, path, index, num_threads)
    if session is not None:
        return Native(
            ort, session, f"cuda:{index}", "asked for" if kind == "cuda" else "CUDA started"
        )
    if kind == "cuda":
        raise DeviceError(
            f"device={device!r} was asked for, but {CUDA} cannot run {path.name}: {problem}; "
            "or pass device='cpu'"
        )
    _log.warning("device='auto': %s runs on the CPU: %s", path.name, problem)
    return Native(ort, new_session(ort, path, [CPU], num_threads), "cpu", problem)


def try_cuda(ort: Any, path: Path, index: int, num_threads: int) -> tuple[Any, str]:
    """Return (session, "") wholly on the GPU, or (None, the reason why there is none)."""
    if problem := why_no_cuda(ort):
        return None, problem
    try:
        session = new_session(ort, path, [cuda_provider(index)], num_threads)
    except BundleError as error:
        return None, _why_refused(ort, path, index, str(error.__cause__))
    first = session.get_providers()[0]
    return (session, "") if first == CUDA else (None, f"the session came back on {first}")


def _why_refused(ort: Any, path: Path, index: int, said: str) -> str:
    """Tell a graph with nodes that CUDA lacks from a CUDA that does not start.

    Raises `BundleError` if the model does not open on the CPU either.
    """
    new_session(ort, path, [CPU], 1)
    try:
        session = new_session(ort, path, [cuda_provider(index), CPU], 1, strict=False)
    except BundleError as error:
        return f"the provider does not start: {error.__cause__}"
    if CUDA not in session.get_providers():
        return f"the provider does not start: {said}"
    nodes = [
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    ]
    if not nodes:
        return said
    return (
        f"{len(nodes)} nodes of the graph would fall to the CPU ({_counted(nodes)}; "
        "fix: export the graph with constant shapes and operators that CUDA has)"
    )


def _counted(names: list[str]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in Counter(names).most_common(8))


def cuda_provider(index: int) -> tuple[str, dict[str, str]]:
    """Return the CUDA provider with options for variable shapes and float32 that stays float32."""
    options = {
        "device_id": str(index),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }
    return CUDA, options


def new_session(
    ort: Any, path: Path, providers: list[Any], num_threads: int, *, strict: bool = True
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` with our threads and guards.

    Parameters
    ----------
    ort : module
        onnxruntime.
    path : Path
        An ONNX model.
    providers : list
        As onnxruntime takes them.
    num_threads : int
        Threads inside one operator; operators run one after another.
    strict : bool
        With a GPU provider alone, refuse nodes on the CPU; False records who runs each node.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # batches differ in shape: a pattern per shape only grows
    options.log_severity_level = SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not strict:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    elif providers != [CPU]:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback: onnxruntime's own retry on the CPU, announced by print
        return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exceptions have no common root
        raise BundleError(f"{path} cannot be opened as an ONNX model: {error}") from error
