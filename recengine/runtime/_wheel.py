"""Find onnxruntime: which wheels are installed, and the module, loaded once and kept quiet.

Quiet in two ways. Its log does not reach the terminal: what matters is raised. And its telemetry,
which its wheels since 1.29 send to Microsoft unless told not to, is switched off before it starts;
the thread it runs would also hang every forked child at exit (seen with 1.31.1).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from typing import Any

from recengine._errors import DeviceError

# Distributions that all install the one module `onnxruntime`, and overwrite each other's files.
WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
SILENT = 4  # onnxruntime's severity "fatal": what it would log, we raise


def installed_wheels() -> dict[str, str]:
    """Return distribution name -> version of the onnxruntime wheels that are installed."""
    found = {}
    for name in WHEELS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_onnxruntime() -> Any:
    """Return the module onnxruntime.

    If we are the first to import it, ``ORT_DISABLE_TELEMETRY=1`` is set in the environment (a value
    already there stays) and its process-wide log is silenced. A program that imported onnxruntime
    before keeps its log level, and telemetry is only told to send no more.

    Raises
    ------
    ImportError
        If no wheel is installed, or the one installed cannot be imported.
    DeviceError
        If two wheels are installed: which files won is then unknown.
    """
    first = "onnxruntime" not in sys.modules
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise DeviceError(two_wheels_message(wheels))
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(_missing_message(wheels, error)) from error
    if first:
        module.set_default_logger_severity(SILENT)
    module.disable_telemetry_events()
    return module


def two_wheels_message(wheels: dict[str, str]) -> str:
    """Say why two wheels cannot stand together, and the way out."""
    both = " and ".join(f"{name} {version}" for name, version in wheels.items())
    names = " ".join(wheels)
    return (
        f"{both} are both installed and overwrite each other's files, so the device would be "
        f"left to chance; run: pip uninstall -y {names}; then "
        "pip install 'recengine[gpu]' or 'recengine[cpu]'"
    )


def _missing_message(wheels: dict[str, str], error: ImportError) -> str:
    if wheels:
        name, version = next(iter(wheels.items()))
        return f"{name} {version} is installed but cannot be imported: {error}"
    return (
        "onnxruntime is not installed; encoders need exactly one of its wheels: "
        "pip install 'recengine[cpu]', or 'recengine[gpu]' with an NVIDIA GPU"
    )
