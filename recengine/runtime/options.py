"""`RuntimeOptions`: what onnxruntime may be told, checked against a list of our own.

onnxruntime takes unknown keys of its configuration in silence, so a misspelt option would do
nothing; here it is refused, and every option that is known reaches onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from recengine._validation import as_count


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of a session, with what holds when one is left out.

    Attributes
    ----------
    arena : bool
        Keep freed memory for the next run. False returns it at once: slower, and smaller.
    shrink : bool
        After each run give back what the arena has grown by. What its first allocation took
        stays (so let a small run come first), and results that the program holds. Needs `arena`.
    spinning : bool
        Let idle threads of the session burn CPU while they wait for work. Off, because other
        threads (ours, the program's) share the cores.
    inter_op_threads : int
        Operators run at once; more than 1 pays for graphs with independent branches only.
    gpu_memory_limit : int or None
        Bytes the GPU arena may hold, weights included; None for no limit.
    cuda_graph : bool
        Record each warmed shape as one CUDA graph and replay it: no launch costs, one run at a
        time. Other shapes run as usual.
    tensorrt : Path or None
        Compile the graph by TensorRT, in minutes, and keep the engines in this folder.

    Notes
    -----
    `gpu_memory_limit`, `cuda_graph` and `tensorrt` are for ``device="cuda"`` or "auto"; where
    "auto" falls to the CPU they have nothing to act on.
    """

    arena: bool = True
    shrink: bool = False
    spinning: bool = False
    inter_op_threads: int = 1
    gpu_memory_limit: int | None = None
    cuda_graph: bool = False
    tensorrt: Path | None = None


ON_GPU = ("gpu_memory_limit", "cuda_graph", "tensorrt")
_SWITCHES = ("arena", "shrink", "spinning", "cuda_graph")


def as_options(options: Mapping[str, Any] | None, device_kind: str) -> RuntimeOptions:
    """Return `options` as `RuntimeOptions`, checked.

    Parameters
    ----------
    options : mapping of str to value, or None
        The names are those of `RuntimeOptions`.
    device_kind : {"cpu", "cuda", "auto"}

    Raises
    ------
    ValueError, TypeError
        If a key is unknown (the message lists those there are), a value is not fit, or two
        options, or an option and the device, do not go together.
    """
    given = {} if options is None else _as_dict(options)
    known = [field.name for field in fields(RuntimeOptions)]
    if unknown := sorted(set(given) - set(known), key=str):
        raise ValueError(f"options must be of {', '.join(known)}; unknown: {unknown}")
    for name in _SWITCHES:
        if not isinstance(given.get(name, False), bool):
            raise TypeError(f"options[{name!r}] must be a bool, got {type(given[name]).__name__}")
    if "inter_op_threads" in given:
        given["inter_op_threads"] = as_count(
            "options['inter_op_threads']", given["inter_op_threads"], minimum=1
        )
    if given.get("gpu_memory_limit") is not None:
        given["gpu_memory_limit"] = as_count(
            "options['gpu_memory_limit']", given["gpu_memory_limit"], minimum=1, maximum=None
        )
    if given.get("tensorrt") is not None:
        given["tensorrt"] = _as_folder(given["tensorrt"])
    made = RuntimeOptions(**given)
    _check_together(made, device_kind)
    return made


def _as_dict(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping, got {type(options).__name__}")
    return dict(options)


def _as_folder(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"options['tensorrt'] must be a folder, got {type(value).__name__}")
    return Path(value).absolute()


def _check_together(made: RuntimeOptions, device_kind: str) -> None:
    default = RuntimeOptions()
    asked = [name for name in ON_GPU if getattr(made, name) != getattr(default, name)]
    if asked and device_kind == "cpu":
        raise ValueError(f"options[{asked[0]!r}] must go with device 'cuda' or 'auto', got 'cpu'")
    if made.shrink and not made.arena:
        raise ValueError("options['shrink'] must go with an arena, got arena=False")
    if made.cuda_graph and made.tensorrt is not None:
        raise ValueError("options['cuda_graph'] must go without tensorrt, got both")
    if made.cuda_graph and made.shrink:
        raise ValueError(
            "options['cuda_graph'] must go without shrink, got both: a recorded graph keeps its "
            "addresses"
        )
