"""What a figure was measured with: the machine, the versions, the commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "numpy",
    "numba",
    "onnxruntime",
    "onnxruntime-gpu",
    "implicit",
    "irspack",
    "faiss-cpu",
    "usearch",
    "torch",
)


def describe() -> dict[str, Any]:
    """Return the CPU, its SIMD level as recengine uses it, versions and the commit."""
    import recengine
    from recengine import _native

    versions = {name: found for name in PACKAGES if (found := installed(name))}
    return {
        "cpu": cpu_name(),
        "cpus": _native.num_cpus(),
        "simd": _native.simd_level(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"recengine": recengine.__version__} | versions,
        "commit": commit(),
    }


def cpu_name() -> str:
    """Return the model of the CPU with family and model number, which tell generations apart."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line]
    fields = {name.strip(): value.strip() for name, value in reversed(lines)}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"


def installed(package: str) -> str | None:
    """Return the version of a package, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the checkout, with `+changes` when the sources differ from it."""
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "csrc", "recengine", "benchmarks/*.py")
    return f"{head}+changes" if head and changed else head


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
