"""What is shipped: the source archive is complete, and installs where there is nothing.

CI hands the archive that it installed from over as ``RECENGINE_SDIST``; elsewhere it is built here.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from network import is_offline

ROOT = Path(__file__).parent.parent
NOT_SOURCE = (".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "shared")

pytestmark = [pytest.mark.slow, pytest.mark.network]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that may download; skip where there is no network, fail where it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,  # it builds, on machines that may have other work
        check=False,
    )
    if result.returncode != 0 and is_offline(result.stdout):
        pytest.skip("pip cannot reach its index, and its cache does not do without")
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source archive, built from a copy so that the checkout stays as it is."""
    if given := os.environ.get("RECENGINE_SDIST"):
        return Path(given)
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    for hidden in (".ci", ".clang-format", ".github", ".pre-commit-config.yaml"):
        source = ROOT / hidden
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / hidden)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, copy)
    return next(folder.glob("*.tar.gz"))


def contents(archive: Path) -> set[str]:
    """Return the files of a source archive, without the folder they stand in."""
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def wanted_files() -> set[str]:
    """Return what a build and a test run from the archive need."""
    found = set()
    for folder, suffixes in {
        "csrc": {".h", ".cpp"},
        "recengine": {".py", ".pyi", ".pyx", ".pxd", ".typed"},
        "tests": {".py", ".h", ".cpp"},
    }.items():
        paths = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)
        found |= {path.relative_to(ROOT).as_posix() for path in paths}
    found |= {"pyproject.toml", "setup.py", "Makefile", "README.md", "LICENSE", "MANIFEST.in"}
    return found | {"recengine/py.typed", ".github/workflows/wheels.yml"}


def test_sdist_is_complete_and_holds_no_build_product(sdist: Path) -> None:
    held = contents(sdist)
    assert wanted_files() - held == set()
    kinds = {Path(name).suffix for name in held}
    assert {".pyx", ".pyi", ".h", ".cpp", ".typed"} <= kinds
    assert kinds & {".so", ".o", ".pyc", ".onnx", ".whl"} == set()
    generated = {name for name in held if re.match(r"recengine/.*\.(c|cpp)$", name)}
    assert generated == set()


FIRST_STEPS = """
import importlib.metadata, sys
from pathlib import Path
import numpy as np
import recengine as rec
index = rec.FlatIndex(np.eye(3, dtype=np.float32), ids=[10, 20, 30])
ids, scores = index.search(np.array([0, 1, 0], dtype=np.float32), k=1)
assert ids.tolist() == [20] and scores.tolist() == [1.0]
home = Path(rec.__file__).parent
assert (home / "py.typed").exists() and (home / "_native.pyi").exists()
top = {str(p).split("/")[0] for p in importlib.metadata.files("recengine")}
assert {name for name in top if not name.endswith((".dist-info", ".."))} == {"recengine"}, top
assert importlib.metadata.version("recengine") == rec.__version__
assert not {"scipy", "numba", "onnxruntime", "polars"} & set(sys.modules)
"""


def test_sdist_installs_in_an_empty_environment(sdist: Path, tmp_path: Path) -> None:
    if os.environ.get("RECENGINE_SDIST"):
        pytest.skip("this very environment was installed from the archive a moment ago")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", sdist)
    run(python, "-I", "-c", FIRST_STEPS, cwd=tmp_path)
    assert "doctor" in run(tmp_path / "venv" / "bin" / "recengine", "--help", cwd=tmp_path)


def test_first_steps_run_here() -> None:
    if not list(importlib.metadata.distributions(name="recengine")):
        pytest.skip("recengine is not installed here: an in-place build is on the path")
    run(sys.executable, "-I", "-c", FIRST_STEPS)
