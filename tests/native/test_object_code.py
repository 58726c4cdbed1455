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
        assert names[0].startswith(("recengine::kKernels", "recengine::kAls"))


def demangled(path: Path) -> str:
    return run(["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(path)])


def loops_with_stack_traffic(listing: str, name: str) -> list[bool]:
    """Tell, for each function whose name holds `name`, whether its innermost loops touch the stack.

    A loop is what lies between a backward jump and its target; innermost loops hold no other.
    """
    functions: dict[str, list[tuple[int, str]]] = {}
    body: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if opened := FUNCTION.match(line):
            body = functions.setdefault(opened[1], [])
        elif code := re.match(r"^\s*([0-9a-f]+):\t(.*)$", line):
            body.append((int(code[1], 16), code[2]))
    found = []
    for function, lines in functions.items():
        if name not in function:
            continue
        loops = []
        for address, text in lines:
            jump = re.match(r"j\w+\s+([0-9a-f]+) ", text)
            if jump and lines[0][0] <= int(jump[1], 16) < address:
                loops.append((int(jump[1], 16), address))
        inner = [
            a for a in loops if not any(a != b and a[0] <= b[0] <= b[1] <= a[1] for b in loops)
        ]
        assert inner, f"{function} has no loop: the test sees nothing"
        found.append(
            any(
                re.search(r"\(%r[sb]p", text)
                for first, last in inner
                for address, text in lines
                if first <= address <= last
            )
        )
    return found


@pytest.mark.parametrize(
    ("source", "tile", "count"),
    [
        ("kernels_avx512vnni", "code_tile<12, ", 2),  # both planes, and the high one alone
        ("kernels_avx512vnni", "Dot, 12>(", 1),
        ("kernels_avx512vnni", "NegativeSquares, 12>(", 1),
        ("kernels_avxvnni", "code_tile<3>(", 1),
        ("kernels_avx2", "code_tile<3>(", 1),
        ("kernels_avx2", ", 6>(", 2),
        ("kernels_avx512vnni", "lane_tile<", 12),  # of 1 to 6 queries, two kinds of sum
        ("kernels_avx2", "lane_tile<", 6),
    ],
)
def test_hot_tiles_stay_in_registers(
    isa_objects: list[Path], source: str, tile: str, count: int
) -> None:
    path = next(path for path in isa_objects if path.stem == source)
    assert loops_with_stack_traffic(demangled(path), tile) == [False] * count


def test_stack_traffic_is_noticed() -> None:
    listing = """
0000000000000000 <void hot<2>(int)>:
       0:\tpush   %rbp
       4:\tvmovups (%rdi),%zmm0
       8:\tvmovups %zmm0,0x40(%rsp)
       c:\tjne    4 <void hot<2>(int)+0x4>
      10:\tret
0000000000000020 <void hot<3>(int)>:
      20:\tvmovups %zmm0,0x40(%rsp)
      24:\tvmovups (%rdi),%zmm0
      28:\tjne    24 <void hot<3>(int)+0x4>
"""
    assert loops_with_stack_traffic(listing, "hot<") == [True, False]


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
