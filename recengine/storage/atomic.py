"""A path that holds the old file or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    Parameters
    ----------
    path : path-like
        Where the file shall stand. Its folder must exist; a symbolic link is followed.

    Yields
    ------
    binary stream
        Open for writing. What is written is on the disk (``fsync``) before the name changes hands.

    Raises
    ------
    OSError
        Whatever the system reports, a full disk for example, with the path it is about. `path` is
        then as it was. Also where there is something at `path` that is no file, a device say.

    Notes
    -----
    On Linux the new file has no name until it is complete (``O_TMPFILE``), so even a killed
    process leaves nothing behind. Where the file system cannot do that, the file is named
    ``.recengine-*.tmp`` meanwhile: an error removes it, a killed process may leave it.
    Two writers of one path do not disturb each other; the last to finish wins.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, os.strerror(code), str(target))
    aside = target.with_name(f".recengine-{secrets.token_hex(8)}.tmp")
    with _folder_of(target) as folder:
        try:
            descriptor, named = _open_aside(target.parent, aside)
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(descriptor)
                if not named:
                    # A folder descriptor makes Python call linkat, which follows /proc's link.
                    os.link(f"/proc/self/fd/{descriptor}", aside.name, dst_dir_fd=folder)
            aside.replace(target)
        except BaseException as error:
            aside.unlink(missing_ok=True)
            if isinstance(error, OSError) and (told := _about(target, aside, error)):
                raise told from error
            raise
        if folder is not None:
            os.fsync(folder)


@contextmanager
def _folder_of(target: Path) -> Iterator[int | None]:
    """Open the folder of `target`; None on Windows, which opens no folders (NTFS keeps a log)."""
    if os.name == "nt":
        yield None
        return
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)


def _about(target: Path, aside: Path, error: OSError) -> OSError | None:
    """Return an error of the new file as one of `target`; None for what names another path."""
    if error.filename is None and error.errno is None:  # NumPy's, for a write that was cut short
        return OSError(f"{error}: {str(target)!r}") if type(error) is OSError else None
    mine = (None, str(aside), aside.name)
    if error.filename in mine or str(error.filename).startswith("/proc/self/fd/"):
        return OSError(error.errno, error.strerror, str(target))
    return None


def _open_aside(folder: Path, aside: Path) -> tuple[int, bool]:
    """Return (descriptor of a new file in `folder`, whether it bears the name `aside`)."""
    unnamed = getattr(os, "O_TMPFILE", 0)
    if unnamed and Path("/proc/self/fd").is_dir():
        try:
            return os.open(folder, unnamed | os.O_WRONLY, 0o666), False
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
    binary = getattr(os, "O_BINARY", 0)  # or Windows writes \r\n for \n
    return os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | binary, 0o666), True
