"""The digests that tell one model file from another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from recengine._errors import BundleError


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Parameters
    ----------
    path : path
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, expected: str, found: str) -> None:
    """Refuse a file whose digest `found` is not the one `expected`.

    Parameters
    ----------
    path : Path
    expected, found : str
        SHA-256, hexadecimal.

    Raises
    ------
    BundleError
    """
    if found != expected:
        raise BundleError(
            f"{path} is not the file it was: its SHA-256 must be {expected}, got {found}"
        )
