"""The floors and walls of the house, as functions that read source text and list what is wrong.

A rule takes a path (relative to the checkout, with forward slashes) and the text of that file, and
returns one line for each breach. `test_architecture.py` applies them to the tree, and to bad
snippets that every rule must catch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

Rule = Callable[[str, str], list[str]]

# Imports point down only: a room may import rooms with a smaller number, and itself.
FLOORS = {
    "cli": 4,
    "serving": 4,
    "distributed": 4,
    "compat": 4,
    "engine": 3,
    "encoders": 2,
    "factorization": 2,
    "retrieval": 2,
    "ranking": 2,
    "privacy": 2,
    "data": 1,
    "runtime": 1,
    "storage": 1,
    "_validation": 0,
    "_types": -1,
    "_errors": -1,
    "_native": -1,
}
GROUND = {"_validation", "_types", "_errors", "_native"}
# `evaluation` stands beside the house: what it reads, and who reads it.
EVALUATION_READS = {"data"} | GROUND
READS_EVALUATION = {"cli", "evaluation"}

ALLOWED_IN = {
    "onnxruntime": r"recengine/runtime(/|\.py$)",
    "numba": r"recengine/(factorization|evaluation)/_\w+\.py$",
    "pickle": "",
    "cloudpickle": "",
    "dill": "",
    "joblib": "",
    "marshal": "",
    "shelve": "",
    "torch": "",
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager"}
MAX_LINES = 500
MAX_MEDIAN_LINES = 200


class Import(NamedTuple):
    """One imported name: its dotted module, the name taken from it, and when it is imported."""

    module: str
    name: str
    line: int
    when: str  # "import" (with the module), "types" (TYPE_CHECKING) or "call" (inside a function)


def module_of(path: str) -> str:
    """Return the dotted name of the module in file `path`."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the room of a module of recengine; empty for the front door and for others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "recengine" and len(parts) > 1 else ""


@cache  # a chain of imports reads the whole package, once for each door and package
def imports_of(path: str, text: str) -> tuple[Import, ...]:
    """List the imports of a .py, .pyi, .pyx or .pxd file, relative ones made absolute."""
    if path.endswith((".pyx", ".pxd")):
        return tuple(_cython_imports(text))
    return tuple(_python_imports(ast.parse(text), path, "import"))


def _python_imports(node: ast.AST, path: str, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, "", child.lineno, when)
        elif isinstance(child, ast.ImportFrom):
            source = _absolute(path, child.level, child.module or "")
            for alias in child.names:
                yield Import(source, alias.name, child.lineno, when)
        elif isinstance(child, ast.Call) and _is_import_call(child):
            argument = child.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(argument.value, "", child.lineno, when)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _python_imports(child, path, "call")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _python_imports(ast.Module([part], []), path, "types")
            for part in child.orelse:
                yield from _python_imports(ast.Module([part], []), path, when)
        else:
            yield from _python_imports(child, path, when)


def _is_import_call(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return name in {"import_module", "__import__", "pyximport"} and bool(call.args)


def _absolute(path: str, level: int, module: str) -> str:
    if level == 0:
        return module
    package = PurePosixPath(path).parent.parts
    base = package[: len(package) - level + 1]
    return ".".join([*base, module] if module else base)


def _cython_imports(text: str) -> Iterator[Import]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*from\s+([\w.]+)\s+c?import\s+\(?\s*(\w+)", line):
            yield Import(found[1], found[2], number, "import")
        elif found := re.match(r"\s*c?import\s+([\w.]+)", line):
            yield Import(found[1], "", number, "import")


# --- rules of one Python or Cython file -----------------------------------------------------------


def floors(path: str, text: str) -> list[str]:
    """Imports point down only; rooms of one floor, and evaluation and engine, never meet."""
    room = room_of(module_of(path))
    breaches = []
    for found in imports_of(path, text):
        if found.module.partition(".")[0] != "recengine":
            continue
        deeper = found.module == "recengine" and found.name
        target = room_of(f"recengine.{found.name}" if deeper else found.module)
        if (reason := _floor_breach(room, target, found)) is not None:
            breaches.append(f"{path}:{found.line}: {reason}")
    return breaches


def _floor_breach(room: str, target: str, found: Import) -> str | None:
    if not room or target in (room, "__version__"):
        return None
    if target not in FLOORS and target != "evaluation":
        front_door = found.module == "recengine"
        if front_door and FLOORS.get(room, 0) == FLOORS["cli"]:
            return None
        return f"{room} must not use the front door" if front_door else f"{target} has no floor"
    if target == "evaluation":
        return None if room in READS_EVALUATION else f"{room} must not import evaluation"
    if room == "evaluation":
        return None if target in EVALUATION_READS else f"evaluation must not import {target}"
    if room not in FLOORS:
        return f"{room} has no floor"
    return None if FLOORS[target] < FLOORS[room] else f"{room} must not import {target}"


def import_walls(path: str, text: str) -> list[str]:
    """onnxruntime, numba and the like are imported where they live; pickle and torch nowhere."""
    breaches = []
    for found in imports_of(path, text):
        package = found.module.partition(".")[0]
        place = ALLOWED_IN.get(package)
        if found.name == "UnpicklingError":  # an error that Numba's cache can raise
            continue
        if place is not None and not (place and re.match(place, path)):
            where = f"outside {place}" if place else "anywhere"
            breaches.append(f"{path}:{found.line}: {package} must not be imported {where}")
    return breaches


def python_words(path: str, text: str) -> list[str]:
    """No Numba threads (they abort the process), no OpenMP, nothing loaded by executing it."""
    words = {
        r"parallel\s*=\s*True": "Numba kernels are split over our own threads",
        r"\bprange\b": "neither Numba's nor Cython's prange",
        r"\bopenmp\b": "no OpenMP",
        r"allow_pickle\s*=\s*True": "nothing loaded is executed",
    }
    return _forbidden_words(path, text, words)


# --- rules of one C++ or build file ---------------------------------------------------------------


def cpp_walls(path: str, text: str) -> list[str]:
    """Python only under csrc/bindings, intrinsics under csrc/simd, threads in thread_pool."""
    words = {}
    if not path.startswith("csrc/bindings/"):
        words[r"#\s*include\s*[<\"](pybind11/|Python\.h|numpy/)"] = "Python only in csrc/bindings"
    if not path.startswith("csrc/simd/"):
        words[r"#\s*include\s*<(\w*intrin|arm_neon|arm_sve)\.h>"] = "intrinsics only in csrc/simd"
        words[r"\b_mm\d*_\w+|\b__m(128|256|512)"] = "intrinsics only in csrc/simd"
    if not re.match(r"csrc/core/thread_pool\.(h|cpp)$", path):
        words[r"\bstd::j?thread\b(?!::)|\bstd::async\b"] = "std::thread only in thread_pool"
        words[r"\bpthread_create\b"] = "threads only in thread_pool"
    words[r"#\s*pragma\s+omp"] = "no OpenMP"
    words[r"#\s*pragma\s+(GCC|clang)\s+optimize"] = "flags stand in setup.py"
    return _forbidden_words(path, text, words)


def build_flags(path: str, text: str) -> list[str]:
    """No flag that ties the build to this machine or lets the compiler reorder arithmetic."""
    words = {
        r"-m(arch|tune|cpu)=native": "wheels run elsewhere",
        r"-ffast-math|-Ofast|-funsafe-math-optimizations|-fassociative-math": "bits must not move",
        r"-ffp-contract=(fast|on)\b": "bits must not move",
        r"-fopenmp": "no OpenMP",
    }
    uncommented = "\n".join(line.partition("#")[0] for line in text.splitlines())
    return _forbidden_words(path, uncommented, words)


def _forbidden_words(path: str, text: str, words: Mapping[str, str]) -> list[str]:
    breaches = []
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, reason in words.items():
            if found := re.search(pattern, line):
                breaches.append(f"{path}:{number}: {found[0]}: {reason}")
    return breaches


# --- rules of any code file -----------------------------------------------------------------------


def names(path: str, text: str) -> list[str]:
    """No file or folder called by a name that says nothing."""
    parts = (part.partition(".")[0].strip("_").lower() for part in PurePosixPath(path).parts)
    return [f"{path}: the name {part!r} says nothing" for part in parts if part in FORBIDDEN_NAMES]


def length(path: str, text: str) -> list[str]:
    """No file over 500 lines."""
    n_lines = text.count("\n")
    return [f"{path}: {n_lines} lines, more than {MAX_LINES}"] if n_lines > MAX_LINES else []


# --- rules of the whole tree ----------------------------------------------------------------------


def import_chain(sources: Mapping[str, str], start: str, target: str) -> list[str]:
    """Return how importing module `start` comes to import package `target`; empty if it does not.

    Only what runs with the import counts: not function bodies, not ``TYPE_CHECKING``.
    """
    modules = {module_of(path): (path, text) for path, text in sources.items()}
    chains: list[list[str]] = [[start]]
    seen = {start}
    while chains:
        chain = chains.pop()
        for found in imports_of(*modules[chain[-1]]):
            if found.when != "import":
                continue
            if found.module.partition(".")[0] == target:
                return [*chain, found.module]
            for module in _with_parents(f"{found.module}.{found.name}".strip(".")):
                if module in modules and module not in seen:
                    seen.add(module)
                    chains.append([*chain, module])
    return []


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
