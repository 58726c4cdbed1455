"""The house stands: every source is read and held against the floors and walls of `walls.py`.

Each rule is also fed a snippet that breaks it, so that no rule passes because it sees nothing.
"""

from __future__ import annotations

import ast
import inspect
import statistics
from pathlib import Path
from typing import Any

import pytest
import walls

import recengine

ROOT = Path(__file__).parent.parent
PYTHON = (".py", ".pyi", ".pyx", ".pxd")
CPP = (".h", ".cpp")
BUILD_FILES = ("setup.py", "pyproject.toml", "Makefile", ".ci/run")


def read_tree(folders: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return path -> text of the sources, without what Cython wrote beside its own."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            generated = path.suffix == ".cpp" and path.with_suffix(".pyx").exists()
            if path.suffix in suffixes and not generated:
                found[path.relative_to(ROOT).as_posix()] = path.read_text()
    return found


PACKAGE = read_tree(("recengine",), PYTHON)
NATIVE = read_tree(("csrc",), CPP)
EVERYTHING = read_tree(("recengine", "csrc", "tests", "benchmarks", "examples"), PYTHON + CPP)
BUILD = {name: (ROOT / name).read_text() for name in BUILD_FILES if (ROOT / name).exists()}

HELD = [
    (walls.floors, PACKAGE),
    (walls.import_walls, PACKAGE),
    (walls.python_words, PACKAGE),
    (walls.cpp_walls, NATIVE),
    (walls.build_flags, BUILD | NATIVE | PACKAGE),
    (walls.names, EVERYTHING),
    (walls.length, EVERYTHING),
]

BROKEN = [
    (walls.floors, "recengine/retrieval/flat.py", "from recengine.engine import Engine"),
    (walls.floors, "recengine/retrieval/flat.py", "from ..factorization import ALS"),
    (walls.floors, "recengine/retrieval/_a.pyx", "from recengine.engine cimport x\ny = 1"),
    (walls.floors, "recengine/retrieval/flat.py", "def f():\n  import recengine.ranking.fuse"),
    (walls.floors, "recengine/retrieval/flat.py", "from recengine import FlatIndex"),
    (walls.floors, "recengine/retrieval/flat.py", "import recengine as rec"),
    (walls.floors, "recengine/data/ids.py", "from recengine.storage import read_bundle"),
    (walls.floors, "recengine/_types.py", "from recengine._validation import as_ids"),
    (walls.floors, "recengine/engine/build.py", "from recengine.evaluation import evaluate"),
    (walls.floors, "recengine/engine/build.py", "from recengine import evaluation"),
    (walls.floors, "recengine/evaluation/metrics.py", "from recengine.retrieval import topk"),
    (walls.floors, "recengine/engine/build.py", "from ..cli import main"),
    (walls.floors, "recengine/attic/x.py", "from recengine.data import IdMap"),
    (walls.floors, "recengine/data/x.py", "import_module('recengine.engine')"),
    (walls.import_walls, "recengine/encoders/text.py", "import onnxruntime as ort"),
    (walls.import_walls, "recengine/encoders/text.py", "def f():\n  from onnxruntime import x"),
    (walls.import_walls, "recengine/engine/engine.py", "def f():\n  import numba"),
    (walls.import_walls, "recengine/factorization/als.py", "from numba import njit"),
    (walls.import_walls, "recengine/storage.py", "import pickle"),
    (walls.import_walls, "recengine/storage.py", "from pickle import loads"),
    (walls.import_walls, "recengine/encoders/text.py", "try:\n  import torch\nfinally: pass"),
    (walls.python_words, "recengine/factorization/_k.py", "@njit(parallel=True)"),
    (walls.python_words, "recengine/factorization/_k.py", "for i in numba.prange(3): pass"),
    (walls.python_words, "recengine/storage.py", "np.load(p, allow_pickle=True)"),
    (walls.cpp_walls, "csrc/core/canonical.cpp", "#include <immintrin.h>"),
    (walls.cpp_walls, "csrc/core/canonical.cpp", "  auto x = _mm256_setzero_ps();"),
    (walls.cpp_walls, "csrc/core/canonical.cpp", "#include <pybind11/numpy.h>"),
    (walls.cpp_walls, "csrc/simd/dispatch.cpp", '#include "Python.h"'),
    (walls.cpp_walls, "csrc/simd/dispatch.cpp", "std::thread worker(run);"),
    (walls.cpp_walls, "csrc/core/types.h", "#pragma omp parallel for"),
    (walls.build_flags, "setup.py", 'flags = ["-O3", "-march=native"]'),
    (walls.build_flags, "setup.py", 'flags = ["-ffast-math"]'),
    (walls.names, "recengine/data/_utils.py", ""),
    (walls.names, "recengine/common/x.py", ""),
    (walls.length, "recengine/x.py", "\n" * 501),
]

ALLOWED = [
    (walls.floors, "recengine/cli/app.py", "from recengine import Engine, evaluate"),
    (walls.floors, "recengine/cli/app.py", "from recengine.evaluation import evaluate"),
    (walls.floors, "recengine/engine/build.py", "from recengine.retrieval import FlatIndex"),
    (walls.floors, "recengine/engine/build.py", "from .state import _State"),
    (walls.floors, "recengine/storage.py", "from recengine import __version__"),
    (walls.floors, "recengine/retrieval/_search.pyx", "from recengine import _native"),
    (walls.floors, "recengine/__init__.pyi", "from recengine.engine import Engine as Engine"),
    (walls.import_walls, "recengine/runtime.py", "def f():\n  import onnxruntime"),
    (walls.import_walls, "recengine/factorization/_bpr_kernels.py", "import numba"),
    (walls.import_walls, "recengine/factorization/_jit.py", "from pickle import UnpicklingError"),
    (walls.cpp_walls, "csrc/simd/kernels_avx2.cpp", "#include <immintrin.h>"),
    (walls.cpp_walls, "csrc/core/thread_pool.cpp", "std::thread worker(run);"),
    (walls.cpp_walls, "csrc/core/thread_pool.h", "std::thread::id owner;"),
    (walls.cpp_walls, "csrc/bindings/module.cpp", "#include <pybind11/pybind11.h>"),
    (walls.build_flags, "setup.py", 'flags = ["-march=x86-64-v2", "-ffp-contract=off"]'),
    (walls.build_flags, "setup.py", "# never -march=native"),
]


def named(case: tuple[Any, ...]) -> str:
    return case[0].__name__


@pytest.mark.parametrize(("rule", "sources"), HELD, ids=map(named, HELD))
def test_house_holds_rule(rule: walls.Rule, sources: dict[str, str]) -> None:
    assert sources, "the rule looks at no file"
    breaches = [line for path, text in sources.items() for line in rule(path, text)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN, ids=map(named, BROKEN))
def test_rule_catches_breach(rule: walls.Rule, path: str, text: str) -> None:
    breaches = rule(path, text)
    assert breaches
    assert all(breach.startswith(path) for breach in breaches)


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED, ids=map(named, ALLOWED))
def test_rule_allows(rule: walls.Rule, path: str, text: str) -> None:
    assert rule(path, text) == []


def test_every_rule_is_tested_to_fail() -> None:
    assert {rule for rule, _ in HELD} == {case[0] for case in BROKEN}


def test_median_file_is_short() -> None:
    lengths = [text.count("\n") for text in EVERYTHING.values()]
    assert statistics.median(lengths) < walls.MAX_MEDIAN_LINES


def test_every_room_has_a_floor() -> None:
    rooms = {walls.room_of(walls.module_of(path)) for path in PACKAGE} - {"", "evaluation"}
    assert rooms <= set(walls.FLOORS)


# --- what an import brings with it ----------------------------------------------------------------

DOORS = sorted(set(recengine._HOME.values()))


@pytest.mark.parametrize("package", ["numba", "onnxruntime", "tokenizers", "polars", "PIL", "onnx"])
@pytest.mark.parametrize("door", ["recengine", *DOORS, "recengine.runtime", "recengine.storage"])
def test_import_does_not_reach(door: str, package: str) -> None:
    assert walls.import_chain(PACKAGE, door, package) == []


def test_import_chain_finds_the_way() -> None:
    sources = {
        "recengine/a/__init__.py": "from recengine.a.b import f",
        "recengine/a/b.py": "if x:\n  from . import _c\ndef f():\n  from recengine.a import lazy",
        "recengine/a/_c.py": "import numba.core",
        "recengine/a/lazy.py": "import scipy",
    }
    chain = walls.import_chain(sources, "recengine.a", "numba")
    assert chain == ["recengine.a", "recengine.a.b", "recengine.a._c", "numba.core"]
    assert walls.import_chain(sources, "recengine.a", "scipy") == []
    typed = {"recengine/a.py": "if TYPE_CHECKING:\n  import numba"}
    assert walls.import_chain(typed, "recengine.a", "numba") == []


# --- the front door -------------------------------------------------------------------------------


def stub_names(text: str) -> set[str]:
    """Return the names that a stub declares public."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname for alias in node.names if alias.asname}
        elif isinstance(node, ast.AnnAssign):
            found.add(ast.unparse(node.target))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return {name for name in found if not name.startswith("_")}


def test_stub_and_exports_agree() -> None:
    assert stub_names(PACKAGE["recengine/__init__.pyi"]) == set(recengine.__all__)


def test_stub_names_sees_what_is_public() -> None:
    text = "from a import B as B, c\n__version__: str\nd: int\ndef e(): ...\ndef _f(): ..."
    assert stub_names(text) == {"B", "d", "e"}


@pytest.mark.parametrize("name", recengine.__all__)
def test_export_resolves_and_is_documented(name: str) -> None:
    value = getattr(recengine, name)
    missing = undocumented(name, value)
    assert not missing, "\n".join(missing)


def test_unknown_export_is_refused() -> None:
    with pytest.raises(AttributeError, match="'recengine' has no attribute 'nothing'"):
        _ = recengine.nothing


def undocumented(name: str, value: Any) -> list[str]:
    """List what the docstrings of a public object, and of its public members, leave unsaid."""
    if inspect.ismodule(value):
        own = {
            k: v for k, v in vars(value).items() if getattr(v, "__module__", "") == value.__name__
        }
        members = {k: v for k, v in own.items() if not k.startswith("_") and callable(v)}
        assert members, f"{name} holds nothing public"
        return [line for k, v in members.items() for line in undocumented(f"{name}.{k}", v)]
    if not inspect.isclass(value):
        return _unsaid(name, value, returns=True)
    doc = inspect.cleandoc(value.__doc__ or "")
    missing = [] if doc else [f"{name}: no docstring"]
    by_caller = not issubclass(value, Exception) and "made by" not in doc.partition("\n\n")[0]
    if doc and by_caller and _arguments(value.__init__):
        missing += [] if _has_section(doc, "Parameters", "Attributes") else [f"{name}: Parameters"]
    own = [kind for kind in value.__mro__ if kind.__module__.startswith(("recengine", __name__))]
    for member, raw in (pair for kind in own for pair in vars(kind).items()):
        inner = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
        if member.startswith("_"):
            continue
        if isinstance(inner, property):
            missing += [] if inner.__doc__ else [f"{name}.{member}: no docstring"]
        elif inspect.isroutine(inner):
            missing += _unsaid(f"{name}.{member}", inner, returns=False)
    return missing


def _unsaid(name: str, function: Any, *, returns: bool) -> list[str]:
    doc = inspect.cleandoc(function.__doc__ or "")
    if not doc:
        return [f"{name}: no docstring"]
    if not _arguments(function):
        return []
    missing = [] if _has_section(doc, "Parameters") else [f"{name}: Parameters"]
    if returns and not _has_section(doc, "Returns"):
        missing.append(f"{name}: Returns")
    return missing


def _arguments(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a builtin without a signature
        return []
    return [name for name in parameters if name not in {"self", "cls", "args", "kwargs"}]


def _has_section(doc: str, *titles: str) -> bool:
    return any(f"{title}\n{'-' * len(title)}" in doc for title in titles)


def test_undocumented_is_noticed() -> None:
    class Bare:
        """A class."""

        def __init__(self, dim: int) -> None: ...

        def add(self, other: int) -> None:
            """Add."""

        @property
        def size(self) -> int:
            return 0

    def half(count: int) -> int:
        """Halve.

        Parameters
        ----------
        count : int
        """
        return count // 2

    missing = ["Bare: Parameters", "Bare.add: Parameters", "Bare.size: no docstring"]
    assert undocumented("Bare", Bare) == missing
    assert undocumented("half", half) == ["half: Returns"]
