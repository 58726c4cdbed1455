"""What this machine's onnxruntime really does: every provider is tried, not believed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from recengine.runtime._create import CPU, new_session, try_cuda
from recengine.runtime._cuda import CUDA
from recengine.runtime._wheel import installed_wheels, load_onnxruntime, two_wheels_message

# y = x + x on float32 [n], opset 17: the smallest graph that has a kernel on every provider.
PROBE = bytes.fromhex(
    "080812003a3b0a0e0a01780a01781201792203416464120570726f62655a100a0178120b0a09080112050a03"
    "12016e62100a0179120b0a09080112050a0312016e42040a001011"
)


@dataclass(frozen=True)
class ProviderStatus:
    """One execution provider.

    Attributes
    ----------
    name : str
        onnxruntime's name for it.
    listed : bool
        Whether the wheel claims to have it.
    opened : bool
        Whether a session was created on it, and stayed there.
    reason : str
        Why it did not open; empty if it did.
    """

    name: str
    listed: bool
    opened: bool
    reason: str


@dataclass(frozen=True)
class ProvidersReport:
    """The onnxruntime of this environment, as `providers_report` found it.

    Attributes
    ----------
    wheels : dict of str to str
        Distribution -> version of the onnxruntime wheels installed.
    providers : tuple of ProviderStatus
        Empty if onnxruntime could not be used at all.
    problem : str
        Why it could not; empty if it could.
    """

    wheels: dict[str, str]
    providers: tuple[ProviderStatus, ...]
    problem: str

    @property
    def auto(self) -> str:
        """The device that ``device="auto"`` gives here; empty if there is none."""
        opened = [status.name for status in self.providers if status.opened]
        if CUDA in opened:
            return "cuda:0"
        return "cpu" if CPU in opened else ""


def providers_report() -> ProvidersReport:
    """Try every provider that recengine uses on a graph of one node.

    Returns
    -------
    ProvidersReport
        A machine without onnxruntime, or with two wheels of it, is an answer and not an error.
    """
    wheels = installed_wheels()
    if len(wheels) > 1:
        return ProvidersReport(wheels, (), two_wheels_message(wheels))
    try:
        ort = load_onnxruntime()
    except ImportError as error:
        return ProvidersReport(wheels, (), str(error))
    with tempfile.TemporaryDirectory(prefix="recengine-") as folder:
        probe = Path(folder) / "probe.onnx"
        probe.write_bytes(PROBE)
        new_session(ort, probe, [CPU], 1)
        on_cuda, problem = try_cuda(ort, probe, 0, 1)
    listed = ort.get_available_providers()
    tried = [
        ProviderStatus(CPU, CPU in listed, True, ""),
        ProviderStatus(CUDA, CUDA in listed, on_cuda is not None, problem),
    ]
    others = [
        ProviderStatus(name, True, False, "recengine does not use it")
        for name in listed
        if name not in (CPU, CUDA)
    ]
    return ProvidersReport(wheels, (*tried, *others), "")
