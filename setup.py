"""Builds the native parts: `recengine._native` (pybind11) and every Cython module.

One instruction set per file: `ISA_FLAGS` names the flags that only that file is compiled with;
everything else is built for the baseline. The table of kernels is chosen at run time.
"""

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)

# -ffp-contract=off: canonical scores must not be fused. No -march=native, no -ffast-math.
COMMON_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
MACHINE_FLAGS = {"x86_64": ["-march=x86-64-v2"], "aarch64": ["-march=armv8-a"]}
BASELINE_FLAGS = COMMON_FLAGS + MACHINE_FLAGS.get(MACHINE, [])
ISA_FLAGS_OF = {
    "x86_64": {
        "csrc/simd/kernels_avx2.cpp": ["-mavx2", "-mfma"],
        "csrc/simd/kernels_avxvnni.cpp": ["-mavx2", "-mfma", "-mavxvnni"],
        "csrc/simd/kernels_avx512vnni.cpp": [
            "-mavx512f",
            "-mavx512bw",
            "-mavx512vl",
            "-mavx512dq",
            "-mavx512vnni",
            "-mfma",
            # GCC's own headers leave pass-through operands uninitialized on purpose.
            "-Wno-uninitialized",
            "-Wno-maybe-uninitialized",
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
        if ext.name != "recengine._native":
            super().build_extension(ext)
            return
        import pybind11

        newest_header = max(Path(header).stat().st_mtime for header in native_headers())
        includes = [*ext.include_dirs, pybind11.get_include()]

        def compile_one(source):
            target = Path(self.build_temp) / Path(source).with_suffix(".o")
            fresh = max(
                newest_header, Path(source).stat().st_mtime, Path("setup.py").stat().st_mtime
            )
            if not target.exists() or target.stat().st_mtime < fresh or self.force:
                flags = BASELINE_FLAGS + WARNING_FLAGS + ISA_FLAGS.get(source, [])
                includes_flags = [f"-I{path}" for path in includes[:1]]
                system = [f"-isystem{path}" for path in [*includes[1:], *self._python_includes()]]
                target.parent.mkdir(parents=True, exist_ok=True)
                command = [*self.compiler.compiler_so_cxx[:1], "-fPIC", *flags]
                command += [*includes_flags, *system, "-c", source, "-o", str(target)]
                self.spawn(command)
            return str(target)

        with ThreadPoolExecutor(self.parallel or os.cpu_count() or 1) as pool:
            objects = list(pool.map(compile_one, ext.sources))
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            extra_postargs=["-pthread", "-Wl,--strip-debug"],
            target_lang="c++",
        )

    def _python_includes(self):
        import sysconfig

        paths = sysconfig.get_paths()
        return sorted({paths["include"], paths["platinclude"]})


if __name__ == "__main__":
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
