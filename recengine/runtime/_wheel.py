"""Find onnxruntime: which wheels are installed, and the module, loaded once and kept quiet."""

from __future__ import annotations

import importlib
import importlib.metadata
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

    Its process-wide log is silenced if we are the first to import it; a program that imported
    onnxruntime before keeps the log level it chose.

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
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(_missing_message(wheels, error)) from error
    if first:
        module.set_default_logger_severity(SILENT)
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
