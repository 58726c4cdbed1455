"""Make native onnxruntime sessions: threads, guards, and the choice of the device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from recengine._errors import BundleError, DeviceError
from recengine.runtime._cuda import CUDA, why_no_cuda
from recengine.runtime._wheel import SILENT, load_onnxruntime
from recengine.runtime.files import Built
from recengine.runtime.options import RuntimeOptions
from recengine.runtime.placement import listed, placement_of

CPU = "CPUExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
DEFAULT = RuntimeOptions()
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


def create(path: Path | Built, device: str, num_threads: int, options: RuntimeOptions) -> Native:
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
        session = new_session(ort, path, [CPU], num_threads, options)
        return Native(ort, session, "cpu", "asked for")
    session, problem = try_cuda(ort, path, index, num_threads, options)
    if session is not None:
        reason = "asked for" if kind == "cuda" else "CUDA started"
        return Native(ort, session, f"cuda:{index}", reason)
    if kind == "cuda":
        wanted = CUDA if options.tensorrt is None else TENSORRT
        raise DeviceError(
            f"device={device!r} was asked for, but {wanted} cannot run {path.name}: {problem}; "
            "or pass device='cpu'"
        )
    _log.warning("device='auto': %s runs on the CPU: %s", path.name, problem)
    return Native(ort, new_session(ort, path, [CPU], num_threads, options), "cpu", problem)


def try_cuda(
    ort: Any,
    path: Path | Built,
    index: int,
    num_threads: int,
    options: RuntimeOptions = DEFAULT,
) -> tuple[Any, str]:
    """Return (session, "") wholly on the GPU, or (None, the reason why there is none).

    Three guards: no session is made where nodes would fall to the CPU, the session that was made
    must have the provider first, and none of its nodes may stand on the CPU.
    """
    if problem := why_no_cuda(ort):
        return None, problem
    providers = gpu_providers(index, options)
    wanted = providers[0][0]
    if wanted not in ort.get_available_providers():
        return None, f"the installed onnxruntime {ort.__version__} is a wheel without {wanted}"
    try:
        session = new_session(ort, path, providers, num_threads, options)
    except BundleError as error:
        return None, _why_refused(ort, path, index, str(error.__cause__))
    first = session.get_providers()[0]
    if first != wanted:
        return None, f"the session came back on {first}"
    fallen = placement_of(session).get(CPU)
    return (None, _fallen(fallen)) if fallen else (session, "")


def _why_refused(ort: Any, path: Path | Built, index: int, said: str) -> str:
    """Tell a graph with nodes that CUDA lacks from a CUDA that does not start.

    Raises `BundleError` if the model does not open on the CPU either.
    """
    new_session(ort, path, [CPU], 1)
    try:
        session = new_session(ort, path, [*gpu_providers(index, DEFAULT), CPU], 1, strict=False)
    except BundleError as error:
        return f"the provider does not start: {error.__cause__}"
    if CUDA not in session.get_providers():
        return f"the provider does not start: {said}"
    fallen = placement_of(session).get(CPU)
    return _fallen(fallen) if fallen else said


def _fallen(operators: dict[str, int]) -> str:
    return (
        f"{sum(operators.values())} nodes of the graph would fall to the CPU "
        f"({listed(operators)}; "
        "fix: export the graph with constant shapes and operators that CUDA has)"
    )


def gpu_providers(index: int, options: RuntimeOptions) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of GPU `index`, first the one that is wanted.

    Their options suit variable shapes and keep float32 float32.
    """
    cuda = {
        "device_id": str(index),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "enable_cuda_graph": str(int(options.cuda_graph)),
    }
    if options.gpu_memory_limit is not None:
        cuda["gpu_mem_limit"] = str(options.gpu_memory_limit)
    if options.tensorrt is None:
        return [(CUDA, cuda)]
    options.tensorrt.mkdir(parents=True, exist_ok=True)
    tensorrt = {
        "device_id": str(index),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(options.tensorrt),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(options.tensorrt),
    }
    if options.gpu_memory_limit is not None:
        tensorrt["trt_max_workspace_size"] = str(options.gpu_memory_limit)
    return [(TENSORRT, tensorrt), (CUDA, cuda)]


def new_session(
    ort: Any,
    path: Path | Built,
    providers: list[Any],
    num_threads: int,
    options: RuntimeOptions = DEFAULT,
    *,
    strict: bool = True,
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` with our threads and guards.

    Parameters
    ----------
    ort : module
        onnxruntime.
    path : Path or Built
        An ONNX model.
    providers : list
        As onnxruntime takes them.
    num_threads : int
        Threads inside one operator.
    options : RuntimeOptions
    strict : bool
        With GPU providers alone, refuse nodes on the CPU.
    """
    told = ort.SessionOptions()
    told.intra_op_num_threads = num_threads
    told.inter_op_num_threads = options.inter_op_threads
    modes = ort.ExecutionMode
    sequential = options.inter_op_threads == 1
    told.execution_mode = modes.ORT_SEQUENTIAL if sequential else modes.ORT_PARALLEL
    told.enable_cpu_mem_arena = options.arena
    told.enable_mem_pattern = False  # batches differ in shape: a pattern per shape only grows
    told.log_severity_level = SILENT
    spinning = str(int(options.spinning))
    told.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    told.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    told.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if strict and providers != [CPU]:
        told.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    model = path.content if isinstance(path, Built) else str(path)
    if isinstance(path, Built) and path.folder is not None:
        told.add_session_config_entry(WEIGHTS_FOLDER, str(path.folder))
    try:
        # enable_fallback: onnxruntime's own retry on the CPU, announced by print
        return ort.InferenceSession(model, told, providers=providers, enable_fallback=0)
    except Exception as error:  # its exceptions have no common root
        raise BundleError(f"{path} cannot be opened as an ONNX model: {error}") from error
