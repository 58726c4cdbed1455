"""How tests compile: with the flags of setup.py, the one place that knows them."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX", "g++")


def load_build() -> ModuleType:
    """Return setup.py as a module (it builds nothing when imported)."""
    spec = spec_from_file_location("recengine_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_objects(
    build: ModuleType,
    sources: list[str],
    flags: list[str],
    out: Path,
    *,
    machine: str | None = None,
    compiler: str = COMPILER,
) -> None:
    """Compile `sources` (relative to the checkout), each with its own instruction set.

    For this machine, or with a cross `compiler` for another one.
    """
    machine = machine or build.MACHINE
    baseline = [*build.COMMON_FLAGS, *build.MACHINE_FLAGS.get(machine, []), *build.WARNING_FLAGS]

    def compile_one(source: str) -> None:
        isa = build.ISA_FLAGS_OF.get(machine, {}).get(source, [])
        target = out / f"{Path(source).stem}.o"
        options = [*baseline, *isa, *flags, "-Icsrc"]
        run([compiler, *options, "-c", source, "-o", str(target)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, sources))


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    """Run `command` in the checkout; return what it printed, and show it when it fails."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}"
    return result.stdout
