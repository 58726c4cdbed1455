"""What the rows of a catalogue hold: its identity, cheap to take, and the hash of its content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

from recengine.encoders.audio import AudioEncoder
from recengine.encoders.image import ImageEncoder
from recengine.encoders.text import TextEncoder
from recengine.encoders.tokens import checked_text

CatalogueEncoder = TextEncoder | ImageEncoder | AudioEncoder
Kind = Literal["text", "file"]


def kind_of(encoder: Any) -> Kind:
    """Return what the encoder takes: "text", or "file" for paths and the bytes of files."""
    if isinstance(encoder, TextEncoder):
        return "text"
    if isinstance(encoder, ImageEncoder | AudioEncoder):
        return "file"
    raise TypeError(
        f"encoder must be a TextEncoder, ImageEncoder or AudioEncoder, got {type(encoder).__name__}"
    )


def identity(kind: Kind, name: str, content: Any) -> bytes:
    """Return what tells whether a row is what it was: of a file its path, size and time.

    Raises
    ------
    TypeError
        If it is nothing that this kind of encoder takes; None, a missing value, is no such error.
    """
    if content is None:
        return b"missing"
    if kind == "text":
        if not isinstance(content, str):
            raise TypeError(f"{name} must be a str, got {type(content).__name__}")
        return b"text" + content.encode("utf-8", "surrogatepass")
    if isinstance(content, bytes | bytearray | memoryview):
        return b"bytes" + hashlib.sha256(content).digest()
    if not isinstance(content, str | os.PathLike):
        raise TypeError(
            f"{name} must be a path or the bytes of a file, got {type(content).__name__}"
        )
    try:
        told = Path(content).stat()
        seen = f"{told.st_size} {told.st_mtime_ns}"
    except OSError:
        seen = "gone"
    return f"path {os.fspath(content)}\0{seen}".encode("utf-8", "surrogateescape")


def content_hash(kind: Kind, name: str, content: Any) -> bytes:
    """Return the SHA-256 of the content itself: of a file, its bytes.

    Raises
    ------
    ValueError
        For a missing value, or text that has no UTF-8 form.
    OSError
        If a file cannot be read.
    """
    if content is None:
        raise ValueError(f"{name} must not be missing")
    if kind == "text":
        return hashlib.sha256(checked_text(name, content).encode()).digest()
    if isinstance(content, bytes | bytearray | memoryview):
        return hashlib.sha256(content).digest()
    with Path(content).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
