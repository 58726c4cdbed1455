"""A stand-in for the module onnxruntime, to answer as machines do that are not here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def stand_in(make_session: Any = None, **attributes: Any) -> Any:
    """Return a module onnxruntime whose sessions are made by `make_session(providers, config)`."""

    class Options(SimpleNamespace):
        def add_session_config_entry(self, key: str, value: str) -> None:
            vars(self).setdefault("config", {})[key] = value

    def session(path: str, options: Any, providers: list[Any], enable_fallback: int) -> Any:
        assert enable_fallback == 0
        names = [each if isinstance(each, str) else each[0] for each in providers]
        return make_session(names, options.config)

    return SimpleNamespace(
        __version__="1.31.1",
        __file__="/nowhere/onnxruntime/__init__.py",
        cuda_version="13.0",
        get_available_providers=lambda: [CUDA, CPU],
        preload_dlls=lambda: print("Failed to load libcublas.so.13"),
        SessionOptions=Options,
        InferenceSession=session,
        ExecutionMode=SimpleNamespace(ORT_SEQUENTIAL=0, ORT_PARALLEL=1),
        **attributes,
    )


def made(*providers: str, on_cpu: tuple[str, ...] = ()) -> Any:
    nodes = [SimpleNamespace(op_type=name) for name in on_cpu]
    parts = [
        SimpleNamespace(ep_name=CUDA, get_nodes=lambda: [SimpleNamespace(op_type="MatMul")]),
        SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes),
    ]
    return SimpleNamespace(
        get_providers=lambda: list(providers), get_provider_graph_assignment_info=lambda: parts
    )
