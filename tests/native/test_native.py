"""csrc without Python: built with sanitizers, one instruction set per file, and put under stress.

The flags are read from setup.py, the one place that knows them.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SANITIZERS = {
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def load_build() -> ModuleType:
    """Return setup.py as a module (it builds nothing when imported)."""
    spec = spec_from_file_location("recengine_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_objects(build: ModuleType, sources: list[str], flags: list[str], out: Path) -> None:
    """Compile `sources` (relative to the checkout), each with its own instruction set."""

    def compile_one(source: str) -> None:
        isa = build.ISA_FLAGS.get(source, [])
        target = out / f"{Path(source).stem}.o"
        options = [*build.BASELINE_FLAGS, *build.WARNING_FLAGS, *isa, *flags, "-Icsrc"]
        run([os.environ.get("CXX", "g++"), *options, "-c", source, "-o", str(target)])

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
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}"
    return result.stdout


def require_sanitizer(flags: list[str], folder: Path) -> None:
    """Skip where the compiler cannot build a program with these sanitizers."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler named {compiler}")
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    command = [compiler, *flags, str(empty), "-o", str(folder / "empty")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"{compiler} cannot link with {flags[0]}: {result.stderr.strip()}")


@pytest.fixture(scope="module", params=sorted(SANITIZERS))
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile csrc/core and csrc/simd with one sanitizer; return the folder of object files."""
    flags = SANITIZERS[request.param]
    out = tmp_path_factory.mktemp(request.param)
    require_sanitizer(flags, out)
    build = load_build()
    sources = [s for s in build.native_sources() if not s.startswith("csrc/bindings/")]
    assert any(s.startswith("csrc/simd/") for s in sources)
    sources += [f"tests/native/{path.name}" for path in sorted(HERE.glob("stress_*.cpp"))]
    compile_objects(build, sources, ["-O1", "-g", *flags], out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("program", ["stress_pool", "stress_kernels"])
def test_native_survives_stress(objects: Path, program: str) -> None:
    sanitizer = objects.name.rstrip("0123456789")
    library = [str(p) for p in sorted(objects.glob("*.o")) if not p.name.startswith("stress_")]
    target = str(objects / program)
    link = [os.environ.get("CXX", "g++"), *SANITIZERS[sanitizer], "-pthread"]
    run([*link, str(objects / f"{program}.o"), *library, "-o", target])
    command = [target]
    if sanitizer == "tsan":
        command.append("without-forks")  # TSan cannot follow a child that starts threads
        if shutil.which("setarch"):  # and it wants its own memory layout
            command = ["setarch", platform.machine(), "--addr-no-randomize", *command]
    assert "ok" in run(command, ENVIRONMENT)
