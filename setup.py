"""Builds the native parts: `recengine._native` (pybind11) and every Cython module.

One instruction set per file: `ISA_FLAGS` names the flags that only that file is compiled with;
everything else is built for the baseline. The table of kernels is chosen at run time.

The sources are C++17 with the extensions of GCC and clang, so each system has its compiler:

- Linux: the C++ compiler of Python's own build, or `CXX`; GCC 11 or clang 12 and later.
- macOS: the same, Apple's clang. One architecture a build, the one in `ARCHFLAGS` or else this
  machine's: a file's flags belong to one instruction set, so there are no universal2 builds.
- Windows: clang, from the PyPI package `ziglang`, which pip installs for the build; its C++ library
  is linked in. MSVC lacks the extensions, and MinGW's GCC misaligns the stack of AVX code (GCC bug
  54412).
"""

import os
import platform
import re
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SYSTEM = sysconfig.get_platform().partition("-")[0]  # linux, macosx, win


def target_machine() -> str:
    """Return the architecture to build for, as GCC calls it."""
    machine = sysconfig.get_platform().rpartition("-")[2]  # universal2: Python runs on both
    if SYSTEM == "macosx":
        wanted = sorted(set(re.findall(r"-arch[ =](\S+)", os.environ.get("ARCHFLAGS", ""))))
        if len(wanted) > 1:
            sys.exit(f"ARCHFLAGS must name one architecture, got {' '.join(wanted)}: build each")
        machine = (wanted or [platform.machine() if machine == "universal2" else machine])[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())


MACHINE = target_machine()

# -ffp-contract=off: canonical scores must not be fused. No -march=native, no -ffast-math.
COMMON_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
MACHINE_FLAGS = {"x86_64": ["-march=x86-64-v2"], "aarch64": ["-march=armv8-a"]}
if SYSTEM == "macosx":
    ARCH = {"aarch64": "arm64"}.get(MACHINE, MACHINE)
    SYSTEM_FLAGS = LINK_FLAGS = ["-arch", ARCH]
elif SYSTEM == "win":
    MACHINE_FLAGS["x86_64"] = ["-march=x86_64_v2"]  # as zig spells it
    TARGET = ["-target", f"{MACHINE}-windows-gnu"]
    SYSTEM_FLAGS = [*TARGET, "-DMS_WIN64"]  # Python's own header says so to MSVC alone
    LINK_FLAGS = [*TARGET, "-shared", "-s"]
else:
    SYSTEM_FLAGS = ["-fPIC"]
    LINK_FLAGS = ["-pthread", "-Wl,--strip-debug"]
BASELINE_FLAGS = COMMON_FLAGS + MACHINE_FLAGS.get(MACHINE, [])
# GCC's own headers leave pass-through operands uninitialized on purpose.
GCC_AVX512 = [
    "-Wno-unknown-warning-option",  # clang has but one of the two
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
]
ISA_FLAGS_OF = {
    "x86_64": {
        "csrc/simd/als_avx2.cpp": ["-mavx2", "-mfma"],
        "csrc/simd/als_avx512.cpp": ["-mavx512f", "-mavx512dq", "-mfma", *GCC_AVX512],
        "csrc/simd/kernels_avx2.cpp": ["-mavx2", "-mfma"],
        "csrc/simd/kernels_avxvnni.cpp": ["-mavx2", "-mfma", "-mavxvnni"],
        "csrc/simd/kernels_avx512vnni.cpp": [
            "-mavx512f",
            "-mavx512bw",
            "-mavx512vl",
            "-mavx512dq",
            "-mavx512vnni",
            "-mfma",
            *GCC_AVX512,
        ],
    },
    "aarch64": {"csrc/simd/kernels_neon_dotprod.cpp": ["-march=armv8.2-a+dotprod"]},
}
ISA_FLAGS = ISA_FLAGS_OF.get(MACHINE, {})
CYTHON_DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}
WARNING_FLAGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
if os.environ.get("RECENGINE_WERROR"):
    WARNING_FLAGS += ["-Werror"]


def native_sources(machine: str = MACHINE) -> list[str]:
    """Return the C++ sources, leaving out the instruction sets of other machines."""
    sources = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.cpp"))
    foreign = [file for other, files in ISA_FLAGS_OF.items() if other != machine for file in files]
    return [source for source in sources if source not in foreign]


def native_headers() -> list[str]:
    """Return every header under csrc: a change in one rebuilds what may include it."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.h"))


def cython_extensions() -> list[Extension]:
    """Return one extension per .pyx file of the package."""
    import numpy
    from Cython.Build import cythonize

    extensions = [
        Extension(
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            language="c++",
            include_dirs=["csrc", numpy.get_include()],
            extra_compile_args=[*BASELINE_FLAGS, "-Wno-unused-function"],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=native_headers(),
        )
        for path in sorted((ROOT / "recengine").rglob("*.pyx"))
    ]
    return cythonize(extensions, quiet=True, compiler_directives=CYTHON_DIRECTIVES)


class BuildPerFile(build_ext):
    """Compiles csrc with per-file flags, side by side, and only what changed."""

    def build_extension(self, ext):
        if ext.name == "recengine._native":
            import pybind11

            ext.include_dirs = [*ext.include_dirs, pybind11.get_include()]
            ext.extra_compile_args = BASELINE_FLAGS + WARNING_FLAGS
        elif SYSTEM != "win":
            ext.extra_compile_args += SYSTEM_FLAGS
            ext.extra_link_args += LINK_FLAGS
            super().build_extension(ext)
            return
        newest = max(Path(name).stat().st_mtime for name in [*native_headers(), "setup.py"])
        macros = [f"-D{name}={value}" for name, value in ext.define_macros]
        system = [*ext.include_dirs[1:], *python_includes()]
        includes = [f"-I{ext.include_dirs[0]}", *(f"-isystem{path}" for path in system)]
        flags = [*SYSTEM_FLAGS, *macros, *ext.extra_compile_args, *includes]

        def compile_one(source):
            target = Path(self.build_temp) / Path(source).with_suffix(".o")
            fresh = max(newest, Path(source).stat().st_mtime)
            if not target.exists() or target.stat().st_mtime < fresh or self.force:
                target.parent.mkdir(parents=True, exist_ok=True)
                own = ISA_FLAGS.get(Path(source).as_posix(), [])
                self.spawn([*self._compiler(), *flags, *own, "-c", source, "-o", str(target)])
            return str(target)

        with ThreadPoolExecutor(self.parallel or os.cpu_count() or 1) as pool:
            objects = list(pool.map(compile_one, ext.sources))
        self._link(objects, self.get_ext_fullpath(ext.name))

    def _compiler(self):
        if SYSTEM == "win":
            return [sys.executable, "-m", "ziglang", "c++"]
        return list(takewhile(lambda word: word[0] != "-", self.compiler.compiler_so_cxx))

    def _link(self, objects, target):
        if SYSTEM == "win":
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.spawn([*self._compiler(), *LINK_FLAGS, *objects, python_library(), "-o", target])
            return
        self.compiler.link_shared_object(
            objects, target, extra_postargs=LINK_FLAGS, target_lang="c++"
        )


def python_includes() -> list[str]:
    """Return the folders of Python's own headers."""
    paths = sysconfig.get_paths()
    return sorted({paths["include"], paths["platinclude"]})


def python_library() -> str:
    """Return the import library that modules link with on Windows."""
    version = f"python{sys.version_info.major}{sys.version_info.minor}.lib"
    return str(Path(sys.base_prefix) / "libs" / version)


def name_macos_target() -> None:
    """Say in the wheel's name what is in it: one architecture, and the macOS that it needs.

    C++17's aligned `new` needs macOS 10.14; arm64 begins with 11.
    """
    needed = {"arm64": "11.0"}.get(ARCH, "10.15")
    target = os.environ.setdefault("MACOSX_DEPLOYMENT_TARGET", needed)
    os.environ.setdefault("_PYTHON_HOST_PLATFORM", f"macosx-{target}-{ARCH}")


if __name__ == "__main__":
    if SYSTEM == "macosx":
        name_macos_target()
    setup(
        ext_modules=[
            Extension(
                "recengine._native",
                native_sources(),
                include_dirs=["csrc"],
                language="c++",
                depends=native_headers(),
            ),
            *cython_extensions(),
        ],
        cmdclass={"build_ext": BuildPerFile},
    )
