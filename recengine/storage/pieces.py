"""An array that is written piece by piece, because it does not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pieces:
    """Rows of one array, in order.

    Attributes
    ----------
    dtype : dtype
        bool, integer or float; stored little-endian.
    shape : tuple of int
        Of the whole.
    parts : callable
        Returns an iterable of ndarrays (n, ...) that together have `shape`; called twice, for the
        digest and to write, and must give the same both times.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[NDArray[Any]]]

    @property
    def nbytes(self) -> int:
        """How many bytes the whole has."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def chunks(self) -> Iterator[memoryview]:
        """Yield the bytes of each part."""
        for part in self.parts():
            if part.dtype != self.dtype or part.shape[1:] != self.shape[1:]:
                raise ValueError(
                    f"pieces must be {self.dtype} of rows {self.shape[1:]}, got {part.dtype} of "
                    f"{part.shape}"
                )
            plain = np.asarray(part, self.dtype.newbyteorder("<"), order="C")
            yield plain.reshape(-1).view(np.uint8).data


def digest_of(chunks: Iterable[memoryview], n_bytes: int) -> str:
    """Return the sha256 of `chunks`, which must have `n_bytes` in all."""
    digest, found = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        found += len(chunk)
    if found != n_bytes:
        raise ValueError(f"pieces must have {n_bytes} bytes in all, got {found}")
    return digest.hexdigest()
