"""csrc without Python: built with sanitizers, one instruction set per file, and put under stress.

The pool is hurried from many threads and through forks, the kernels get every tail and every size
of number, in arrays of exactly the promised length.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from building import COMPILER, compile_objects, load_build, run

HERE = Path(__file__).parent
SANITIZERS = {
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def require_sanitizer(flags: list[str], folder: Path) -> None:
    """Skip where the compiler cannot build a program with these sanitizers."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler named {COMPILER}")
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    command = [COMPILER, *flags, str(empty), "-o", str(folder / "empty")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"{COMPILER} cannot link with {flags[0]}: {result.stderr.strip()}")


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
@pytest.mark.parametrize(
    "program",
    [
        "stress_als",
        "stress_pool",
        "stress_kernels",
        "stress_codes",
        "stress_quantize",
        "stress_rows",
    ],
)
def test_native_survives_stress(objects: Path, program: str) -> None:
    sanitizer = objects.name.rstrip("0123456789")
    library = [str(p) for p in sorted(objects.glob("*.o")) if not p.name.startswith("stress_")]
    target = str(objects / program)
    link = [COMPILER, *SANITIZERS[sanitizer], "-pthread"]
    run([*link, str(objects / f"{program}.o"), *library, "-o", target])
    command = [target]
    if sanitizer == "tsan":
        command.append("without-forks")  # TSan cannot follow a child that starts threads
        if shutil.which("setarch"):  # and it wants its own memory layout
            command = ["setarch", platform.machine(), "--addr-no-randomize", *command]
    assert "ok" in run(command, ENVIRONMENT)
