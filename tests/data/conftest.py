"""A small source of two wheels, and a pip that serves them without a network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from recengine.data import sources
from recengine.data._download import Member, Wheel

FAKE_PIP = """
    import os, pathlib, shutil, sys, time
    log = pathlib.Path(os.environ["FAKE_PIP_LOG"])
    with log.open("a") as out:
        out.write(" ".join(sys.argv[1:]) + "\\n")
    into = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
    package, version = sys.argv[-1].split("==")
    wheel = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    packed = (pathlib.Path(os.environ["FAKE_PIP_SHELF"]) / wheel).read_bytes()
    (into / wheel).write_bytes(packed[: len(packed) // 2])
    time.sleep(float(os.environ.get("FAKE_PIP_SLEEP", "0")))
    if os.environ.get("FAKE_PIP_ERROR"):
        print("a line before", file=sys.stderr)
        sys.exit(os.environ["FAKE_PIP_ERROR"])
    (into / wheel).write_bytes(packed)
"""

CHILD = """
    import json, os, resource, sys
    from recengine.data import sources
    from recengine.data._download import Member, Wheel
    wheels = [
        Wheel(**{**w, "members": tuple(Member(*m) for m in w["members"])})
        for w in json.loads(os.environ["SMALL_SOURCE"])
    ]
    sources.SOURCES["small"] = sources.Source("small", tuple(wheels), "MIT", "be kind")
    if os.environ.get("FILE_SIZE_LIMIT"):
        limit = int(os.environ["FILE_SIZE_LIMIT"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    print(sources.fetch("small", progress=lambda line: print(line, file=sys.stderr)))
"""


@dataclass
class FakePip:
    """The fake pip's shelf of wheels, its log of calls, and the source it serves."""

    shelf: Path
    log: Path
    source: sources.Source

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def child(self, **environment: str) -> subprocess.Popen[str]:
        """Start another process that fetches the small source."""
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD)],
            env={**os.environ, **environment},
            cwd=self.shelf,  # not the checkout, whose package is not the one under test
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def make_wheel(shelf: Path, package: str, files: dict[str, bytes]) -> Wheel:
    path = shelf / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{package}/data/{name}", content)
        archive.writestr(f"{package}/__init__.py", b"raise SystemExit('a wheel was imported')")
    return Wheel(
        package=package,
        version="1.0",
        filename=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        megabytes=0.1,
        members=tuple(
            Member(f"{package}/data/{name}", name, len(content)) for name, content in files.items()
        ),
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECENGINE_CACHE", str(folder))
    return folder


@pytest.fixture
def fake_pip(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """`python -m pip` is a script that copies wheels from a folder; "small" is a source there."""
    package = tmp_path / "fake" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(textwrap.dedent(FAKE_PIP))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheels = (
        make_wheel(shelf, "small-one", {"model.bin": bytes(200_000), "about.txt": b"one"}),
        make_wheel(shelf, "small-two", {"words.json": b'{"a": 1}'}),
    )
    source = sources.Source("small", wheels, "MIT", "be kind")
    monkeypatch.setitem(sources.SOURCES, "small", source)
    described = [
        {**vars(wheel), "members": [list(vars(member).values()) for member in wheel.members]}
        for wheel in wheels
    ]
    monkeypatch.setenv("SMALL_SOURCE", json.dumps(described))
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_PIP_SHELF", str(shelf))
    monkeypatch.setenv("FAKE_PIP_LOG", str(tmp_path / "pip.log"))
    return FakePip(shelf, tmp_path / "pip.log", source)
