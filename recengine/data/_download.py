"""Bring one wheel here, check it, and take files out of it; nothing of it is ever executed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recengine._errors import FetchError


@dataclass(frozen=True)
class Member:
    """A file wanted from a wheel: its path inside, the name it gets, its size in bytes."""

    path: str
    name: str
    size: int


@dataclass(frozen=True)
class Wheel:
    """A package at one version, known by the sha256 of its wheel, and the files wanted from it."""

    package: str
    version: str
    filename: str
    sha256: str
    megabytes: float
    members: tuple[Member, ...]

    @property
    def requirement(self) -> str:
        """The package as pip is asked for it."""
        return f"{self.package}=={self.version}"


def obtain(wheel: Wheel, shelf: Path, into: Path, say: Callable[[str], None]) -> Path:
    """Return a checked wheel: from `shelf`, where people put files by hand, else through pip.

    Raises
    ------
    FetchError
        If it can be had from neither, or is not the wheel that was meant.
    """
    by_hand = shelf / wheel.filename
    if by_hand.is_file():
        say(f"{wheel.requirement}: taken from {by_hand}")
        _check(by_hand, wheel, "remove it, or put the right one there")
        return by_hand
    say(f"{wheel.requirement}: downloading {wheel.megabytes:g} MB with pip")
    failure = _pip_download(wheel.requirement, into)
    archive = into / wheel.filename
    if not failure and not archive.is_file():
        brought = ", ".join(sorted(path.name for path in into.iterdir())) or "nothing"
        failure = f"pip brought {brought}"
    if failure:
        raise FetchError(
            f"cannot obtain {wheel.requirement}: {failure}\n"
            f"Without a network, put the file {wheel.filename} (sha256 {wheel.sha256}) "
            f"into {shelf} and try again."
        )
    _check(archive, wheel, "the download is broken, or the index serves another file")
    say(f"{wheel.requirement}: sha256 is as expected")
    return archive


def unpack(archive: Path, wheel: Wheel, into: Path) -> None:
    """Write the wanted members of a wheel into a folder, through to the disk."""
    with zipfile.ZipFile(archive) as opened:
        for member in wheel.members:
            target = into / member.name
            with opened.open(member.path) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
                unpacked.flush()
                os.fsync(unpacked.fileno())
            if target.stat().st_size != member.size:
                raise FetchError(
                    f"{member.path} of {wheel.filename} must have {member.size} bytes, "
                    f"got {target.stat().st_size}"
                )


@contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a file lock, which the system frees when a process dies; no lock where it has none."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is fetching this; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pip_download(requirement: str, into: Path) -> str:
    """Run pip; return why it failed, or nothing."""
    if not sys.executable:
        return "this Python does not know its own executable, so pip cannot be run"
    into.mkdir(exist_ok=True)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    pip = [sys.executable, "-P", "-m", "pip"]  # -P: nothing of the current folder is run
    command = [*pip, "download", *options, "--dest", str(into), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{sys.executable} cannot be run: {error}"
    if done.returncode == 0:
        return ""
    if "No module named pip" in done.stderr:
        return f"{sys.executable} has no pip (`{sys.executable} -m ensurepip` installs it)"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"pip failed with code {done.returncode}: " + " / ".join(lines[-3:])


def _check(archive: Path, wheel: Wheel, remedy: str) -> None:
    with archive.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise FetchError(
            f"{archive.name} must have sha256 {wheel.sha256}, got {digest}; {remedy} ({archive})"
        )
