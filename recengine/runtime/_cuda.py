"""Ask the machine, before a session is made, why CUDA cannot start on it.

onnxruntime tells the reason to its log only, so the same questions are asked here of the dynamic
linker and of the driver. The answers explain a refusal; what *allows* a device is always the
session that was created.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
from pathlib import Path
from typing import Any

CUDA = "CUDAExecutionProvider"
LIBRARY = "libonnxruntime_providers_cuda.so"
DRIVER = "libcuda.so.1"
_log = logging.getLogger("recengine")


def why_no_cuda(ort: Any) -> str:
    """Return what keeps CUDA from starting, with the fix; empty if nothing was found.

    Parameters
    ----------
    ort : module
        onnxruntime.
    """
    if CUDA not in ort.get_available_providers():
        return (
            f"the installed onnxruntime {ort.__version__} is a wheel without CUDA "
            "(fix: pip uninstall -y onnxruntime, then pip install 'recengine[gpu]')"
        )
    driver = _driver_problem(ort.cuda_version or "")
    if not driver:
        _preload(ort)
    library = _library_problem(ort)
    if driver and DRIVER in library:
        library = ""  # the same complaint twice
    problems = [problem for problem in (library, driver) if problem]
    return " and ".join(problems)


def _library_problem(ort: Any) -> str:
    """Return which shared library the provider lacks: the linker names the first one missing."""
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / LIBRARY))
    except OSError as error:
        # Anything else than a missing file (an undefined symbol, for the host library is not
        # global here) is no verdict: the session will tell.
        if "cannot open shared object file" not in str(error):
            return ""
        missing = str(error).partition(":")[0]
        fix = f"pip install 'onnxruntime-gpu[cuda,cudnn]=={ort.__version__}'"
        if missing == DRIVER:
            fix = "install the NVIDIA driver"
        return f"the shared library {missing} is missing (fix: {fix})"
    return ""


def _driver_problem(wheel_cuda: str) -> str:
    """Return what the NVIDIA driver lacks for a wheel built with CUDA `wheel_cuda`."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"no NVIDIA driver answers here ({DRIVER} is missing; fix: run where a GPU is)"
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)) == 0:
        has, wants = version.value // 1000, wheel_cuda.partition(".")[0]
        if wants.isdigit() and has < int(wants):
            return (
                f"the NVIDIA driver supports CUDA {has}, the onnxruntime wheel needs CUDA {wants} "
                "(fix: update the driver, or install an older onnxruntime-gpu)"
            )
    return ""


def _preload(ort: Any) -> None:
    """Load the CUDA libraries that pip installed, which the linker does not find by itself."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints where it should raise
        ort.preload_dlls()
    if said.getvalue():
        _log.debug("onnxruntime.preload_dlls: %s", said.getvalue().strip())
