"""A path holds the old bundle or the new one: errors, full disks and SIGKILL in between."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from recengine.storage import atomic, read_bundle, write_bundle

OLD, NEW = np.arange(100), np.arange(100, 400)


def write(path, values):
    write_bundle(path, {"values": values}, {}, kind="test", schema=1)


def read(path):
    return read_bundle(path, kind="test", schema=1).arrays["values"]


@pytest.fixture(params=["unnamed", "named"])
def saved(request, tmp_path, monkeypatch):
    """Return the path of an old bundle, for a system with and one without unnamed files."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")
    write(tmp_path / "a.rec", OLD)
    return tmp_path / "a.rec"


def assert_old(saved):
    np.testing.assert_array_equal(read(saved), OLD)
    assert [path.name for path in saved.parent.iterdir()] == ["a.rec"]


def test_write_replaces_and_leaves_nothing_else(saved):
    write(saved, NEW)
    np.testing.assert_array_equal(read(saved), NEW)
    assert [path.name for path in saved.parent.iterdir()] == ["a.rec"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_error_in_the_middle_leaves_the_old_file(saved, error):
    def write_half():
        with atomic.replacing(saved) as stream:
            stream.write(b"half a file")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert_old(saved)


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_error_of_the_system_leaves_the_old_file(saved, monkeypatch, call):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(OSError, match="no space left") as caught:
        write(saved, NEW)
    monkeypatch.undo()
    assert_old(saved)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(saved))


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.EIO, "i/o error"), "[Errno 5] i/o error: '{}'"),
        (OSError("8 requested and 2 written"), "8 requested and 2 written: '{}'"),
        (OSError(errno.ENOENT, "gone", "/another"), "[Errno 2] gone: '/another'"),
        (TimeoutError("too late"), "too late"),
    ],
)
def test_an_error_names_the_path_unless_it_names_another(saved, error, shown):
    with pytest.raises(type(error)) as caught, atomic.replacing(saved):
        raise error
    assert str(caught.value) == shown.format(saved)
    assert_old(saved)


def test_what_is_no_file_is_not_replaced(tmp_path):
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path, code in ((pipe, errno.EINVAL), (folder, errno.EISDIR)):
        with pytest.raises(OSError) as caught:
            write(path, NEW)
        assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "nowhere" / "a.rec", NEW)
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_file_system_without_unnamed_files_is_served(saved, monkeypatch):
    calls = []
    real = os.open

    def refuse(path, flags, *args, **options):
        if flags & getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        calls.append(path)
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    write(saved, NEW)
    assert any(".recengine-" in str(path) for path in calls)
    np.testing.assert_array_equal(read(saved), NEW)


def child(saved, code, **options):
    """Run `code` in a fresh interpreter, where `saved` and `NEW` are known."""
    program = textwrap.dedent(code).strip()
    prelude = textwrap.dedent(
        f"""
        import os, resource, signal
        import numpy as np
        from recengine.storage import write_bundle
        if {options.get("named", False)}:
            del os.O_TMPFILE
        def save(values):
            write_bundle({str(saved)!r}, {{"values": values}}, {{}}, kind="test", schema=1)
        def die(*_args, **_options):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + program],
        cwd=saved.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("named", [False, True])
def test_full_disk_leaves_the_old_file(tmp_path, named):
    """RLIMIT_FSIZE makes the kernel refuse bytes in the middle of the file, as a full disk does."""
    saved = tmp_path / "a.rec"
    write(saved, OLD)
    code = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        save(np.arange(100_000))
    except OSError as error:
        print("refused", error.errno, error.filename)
    """
    done = child(saved, code, named=named)
    assert done.stdout.split() == ["refused", str(errno.EFBIG), str(saved)], done.stderr
    assert_old(saved)


def has_unnamed_files(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))
    except (OSError, AttributeError):
        return False
    return True


@pytest.mark.parametrize(
    ("moment", "survivor"),
    [("os.fsync", OLD), ("os.link", OLD), ("pathlib.Path.replace", OLD), ("os.close", NEW)],
)
def test_killed_writer_leaves_a_whole_file(tmp_path, moment, survivor):
    """SIGKILL before the bytes are safe, before and after the name changes hands."""
    if not has_unnamed_files(tmp_path):
        pytest.skip(f"the file system of {tmp_path} has no O_TMPFILE")
    saved = tmp_path / "a.rec"
    write(saved, OLD)
    module, _, name = moment.rpartition(".")
    code = f"import pathlib\n{module}.{name} = die\nsave(np.arange(100, 400))"
    assert child(saved, code).returncode == -signal.SIGKILL
    np.testing.assert_array_equal(read(saved), survivor)
    # Only between the two names of the finished file is there a second one; it is whole.
    others = [path for path in tmp_path.iterdir() if path != saved]
    assert len(others) == (moment == "pathlib.Path.replace")
    for other in others:
        np.testing.assert_array_equal(read(other), NEW)


def test_writer_killed_at_any_time_leaves_a_whole_file(tmp_path, rng):
    saved = tmp_path / "a.rec"
    write(saved, np.full(100_000, 0))
    code = (
        "import numpy as np; from recengine.storage import write_bundle\n"
        "n = 0\n"
        "while True:\n"
        f"    write_bundle({str(saved)!r}, {{'values': np.full(100_000, n)}}, {{}},"
        " kind='test', schema=1)\n"
        "    n += 1\n"
        "    print(n, flush=True)\n"
    )
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path
        ) as writer:
            for _ in range(int(rng.integers(1, 20))):
                assert writer.stdout.readline()
            writer.kill()
        values = read(saved)
        assert len(values) == 100_000
        assert (values == values[0]).all()


def test_writers_of_one_path_do_not_disturb_each_other(saved):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write(saved, np.full(5000, n)), range(40)))
    values = read(saved)
    assert len(values) == 5000
    assert (values == values[0]).all()
    assert [path.name for path in saved.parent.iterdir()] == ["a.rec"]


def test_reader_keeps_what_it_opened(saved):
    before = read(saved)
    write(saved, NEW)
    np.testing.assert_array_equal(before, OLD)


def test_no_descriptor_is_left_open(saved):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        write(saved, NEW)
        read(saved)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
