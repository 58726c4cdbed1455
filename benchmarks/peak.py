"""The peaks that a share is a share of, measured in the same run by a small C++ program.

`peak.cpp` is compiled once with the C++ compiler of this machine ($CXX, c++ or g++) and kept in
the user cache. Without a compiler there is no peak, and the report says so by null.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from recengine import _native
from recengine.data.sources import cache_dir

SOURCE = Path(__file__).with_name("peak.cpp")
FLAGS = ("-O2", "-std=c++17", "-pthread")


def compiler() -> str | None:
    """Return the C++ compiler to use, None without one."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def program() -> Path | None:
    """Return the compiled program, building it on first use; None without a compiler."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = cache_dir() / "benchmarks" / f"peak-{digest}"
    if path.exists():
        return path
    if (cxx := compiler()) is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        aside = Path(folder) / "peak"
        subprocess.run([cxx, *FLAGS, str(SOURCE), "-o", str(aside)], check=True)
        aside.replace(path)
    return path


def measure(num_threads: int) -> dict[str, Any] | None:
    """Return int8 GOP/s and read GB/s of `num_threads` threads at recengine's SIMD level."""
    if (path := program()) is None:
        return None
    done = subprocess.run(
        [str(path), str(num_threads), _native.simd_level()],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def better(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the higher of each figure: what else ran on the machine only takes from it."""
    if first is None or second is None:
        return first or second
    return {name: max(first[name], second[name]) for name in first}
