"""Where a graph comes from, a file or this process, and the digests that tell one from another."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from recengine._errors import BundleError


@dataclass(frozen=True)
class Built:
    """A graph that this process made, in the place of a file.

    Attributes
    ----------
    name : str
        For messages.
    content : bytes
        The ONNX model, weights included.
    folder : Path, optional
        Where weights that are kept in files of their own lie, of a part of a graph from a file.
    """

    name: str
    content: bytes = field(repr=False)
    folder: Path | None = None

    def __str__(self) -> str:
        return self.name


def source_digest(source: Path | Built) -> str:
    """Return the SHA-256 of a graph in hexadecimal."""
    if isinstance(source, Built):
        return hashlib.sha256(source.content).hexdigest()
    return file_digest(source)


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
