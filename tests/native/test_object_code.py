"""No instruction beyond the baseline stands outside the files that are compiled for it.

The built libraries are disassembled. AVX may stand only in the functions of the per-ISA files, and
those files may export nothing but their table of kernels: an inline function of the standard
library compiled there with AVX could be the copy that the linker keeps for everybody.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from building import COMPILER, compile_objects, load_build, run

import recengine

LIBRARIES = sorted(Path(recengine.__file__).parent.rglob("*.so"))
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\t(\S+)(.*)$")
# VEX and EVEX mnemonics start with v; the rest are BMI and the like, which x86-64-v2 lacks too.
# (tzcnt is how objdump shows the `rep bsf` that every CPU runs.)
BEYOND_BASELINE = re.compile(
    r"v(?!err|erw)[a-z]\w+|(shl|shr|sar|ror|mul)x|andn|bextr|bls\w+|pdep|pext|movbe|lzcnt"
)

pytestmark = [
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason="reads x86-64 code; this is another machine"
    ),
    pytest.mark.skipif(
        not all(map(shutil.which, ("objdump", "nm"))), reason="needs objdump and nm (binutils)"
    ),
]


def beyond_baseline(listing: str) -> Counter[str]:
    """Count the functions of each name, in a disassembly, that leave the baseline."""
    found: Counter[str] = Counter()
    function, counted = "", True
    for line in listing.splitlines():
        if opened := FUNCTION.match(line):
            function, counted = opened[1], False
        elif not counted and leaves_baseline(line):
            found[function] += 1
            counted = True
    return found


def leaves_baseline(line: str) -> bool:
    """Tell whether a line of a disassembly is an instruction that x86-64-v2 lacks."""
    code = INSTRUCTION.match(line)
    if code is None:
        return False
    return bool(BEYOND_BASELINE.fullmatch(code[1]) or re.search(r"%[yz]mm", code[2]))


def disassemble(binary: Path) -> str:
    return run(["objdump", "--disassemble", "--no-show-raw-insn", str(binary)])


@pytest.fixture(scope="module")
def isa_objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Compile the per-ISA files exactly as the build does."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler named {COMPILER}")
    build = load_build()
    out = tmp_path_factory.mktemp("isa")
    compile_objects(build, list(build.ISA_FLAGS), ["-fPIC"], out)
    return sorted(out.glob("*.o"))


def total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter[str]())


def test_isa_stays_in_its_files(isa_objects: list[Path]) -> None:
    allowed = total(beyond_baseline(disassemble(path)) for path in isa_objects)
    assert allowed, "the ISA files hold no AVX: the test sees nothing"
    native = [path for path in LIBRARIES if path.name.startswith("_native.")]
    assert len(native) == 1
    found = beyond_baseline(disassemble(native[0]))
    assert found, "no AVX in the library: the symbols are stripped, or the levels are not built"
    assert not found - allowed, "functions outside the ISA files use more than the baseline"


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name.partition(".")[0])
def test_drivers_are_baseline(library: Path) -> None:
    if not library.name.startswith("_native."):
        assert beyond_baseline(disassemble(library)) == Counter()


def test_isa_files_export_one_table(isa_objects: list[Path]) -> None:
    for path in isa_objects:
        symbols = run(["nm", "--defined-only", "--extern-only", "--demangle", str(path)])
        names = [line.split(" ", 2)[2] for line in symbols.splitlines()]
        assert len(names) == 1, f"{path.name} exports {names}"
        assert names[0].startswith("recengine::kKernels")


def test_beyond_baseline_is_noticed() -> None:
    listing = """
0000000000000010 <scalar>:
      10:\tmovaps (%rdi),%xmm0
      13:\ttzcnt  %eax,%eax
      17:\tverr   %ax
0000000000000020 <wide>:
      20:\tvmovups (%rdi),%ymm0
      24:\tvmovups (%rsi),%ymm1
0000000000000030 <narrow>:
      30:\tvaddss %xmm1,%xmm0,%xmm0
0000000000000040 <bits>:
      40:\tshlx   %eax,%ecx,%edx
"""
    assert beyond_baseline(listing) == Counter(wide=1, narrow=1, bits=1)
