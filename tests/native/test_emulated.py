"""The kernels on machines that this one is not: run by qemu-user, cross-compiled where need be.

A CPU without AVX must get by with the baseline (and start at all: nothing of the AVX files may run
when a program is loaded); an aarch64 must find its dot product, or do without.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from building import COMPILER, compile_objects, load_build, run

PROGRAMS = ("stress_codes", "stress_kernels", "stress_quantize", "stress_rows")
CROSS = {"aarch64": "aarch64-linux-gnu-g++", "x86_64": "x86_64-linux-gnu-g++"}
CPUS = [
    ("x86_64", "Nehalem", ["scalar"]),
    ("x86_64", "Haswell", ["scalar", "avx2"]),
    ("aarch64", "cortex-a53", ["scalar"]),
    ("aarch64", "max", ["scalar", "neon"]),
]

pytestmark = pytest.mark.slow


def compiler_for(machine: str) -> str:
    return COMPILER if machine == platform.machine() else CROSS[machine]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what builds the stress programs, statically, for a machine, once each."""

    @cache
    def build_for(machine: str) -> Path:
        compiler, build, out = compiler_for(machine), load_build(), tmp_path_factory.mktemp(machine)
        library = [s for s in build.native_sources(machine) if not s.startswith("csrc/bindings/")]
        sources = [*library, *(f"tests/native/{program}.cpp" for program in PROGRAMS)]
        compile_objects(build, sources, [], out, machine=machine, compiler=compiler)
        objects = [str(out / f"{Path(source).stem}.o") for source in library]
        for program in PROGRAMS:
            command = [compiler, "-static", "-pthread", str(out / f"{program}.o"), *objects]
            run([*command, "-o", str(out / program)])
        return out

    return build_for


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("machine", "cpu", "levels"), CPUS, ids=[cpu for _, cpu, _ in CPUS])
def test_kernels_hold_on_other_cpus(
    programs: Callable[[str], Path], program: str, machine: str, cpu: str, levels: list[str]
) -> None:
    compiler, emulator = compiler_for(machine), f"qemu-{machine}"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler} (Debian: g++-{machine.replace('_', '-')}-linux-gnu)")
    if shutil.which(emulator) is None:
        pytest.skip(f"needs {emulator} (Debian: qemu-user)")
    printed = run([emulator, "-cpu", cpu, str(programs(machine) / program)])
    done = [line.split()[1].rstrip(":") for line in printed.splitlines() if line.endswith(": ok")]
    assert done == (["all"] if program in ("stress_quantize", "stress_rows") else levels)
