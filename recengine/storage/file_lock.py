"""A file that one process at a time holds, and bytes that are on the disk."""

from __future__ import annotations

import errno
import os
import sys
from io import FileIO
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


def hold(path: Path) -> FileIO:
    """Open a file and take its lock, which ends with the returned stream or with the process.

    Raises
    ------
    BlockingIOError
        Somebody holds it: another process, or this one.
    """
    stream = FileIO(path, "a")
    try:
        _take(stream.fileno())
    except OSError as error:
        stream.close()
        if error.errno not in _HELD:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise BlockingIOError(
            errno.EAGAIN, "it is open for writing already, here or in another process", str(path)
        ) from None
    return stream


def _take(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:  # of the open file, not of the process: closing another descriptor does not end it
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush(descriptor: int) -> None:
    """Return when what was written to a file is on the disk."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's own memory
    elif sys.platform == "win32":
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def flush_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk; Windows opens no folders."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
