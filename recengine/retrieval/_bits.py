"""Sets of rows as uint64 words: bit ``r & 63`` of word ``r >> 6`` speaks of row r."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recengine._types import Int64Array

Words: TypeAlias = NDArray[np.uint64]
ONE = np.uint64(1)


def full(n_rows: int) -> Words:
    """Return words for `n_rows` rows or a few more, every bit set."""
    return np.full((n_rows + 63) // 64, ~np.uint64(0))


def extended(words: Words, n_rows: int) -> Words:
    """Return words for `n_rows` rows or more, the new bits set; `words` itself where it does."""
    if 64 * len(words) >= n_rows:
        return words
    longer = full(max(n_rows, 128 * len(words)))
    longer[: len(words)] = words
    return longer


def packed(keep: NDArray[np.bool_]) -> Words:
    """Return the words of a mask (n_rows,); bits beyond its end are 0."""
    bits = np.packbits(keep, bitorder="little")
    words = np.zeros((len(keep) + 63) // 64, np.uint64)
    words.view(np.uint8)[: len(bits)] = bits
    return words


def unpacked(words: Words | None, n_rows: int) -> NDArray[np.bool_]:
    """Return the mask (n_rows,) of words that speak of at least so many rows; None is all."""
    if words is None:
        return np.ones(n_rows, bool)
    bits = np.unpackbits(words.view(np.uint8), count=n_rows, bitorder="little")
    return bits.view(bool)


def has(words: Words | None, rows: Int64Array) -> NDArray[np.bool_]:
    """Return for each row whether it is in the set; a negative row is not."""
    inside = rows >= 0
    if words is None or not inside.any():
        return inside
    shifted = words[rows >> 6] >> (rows & 63).astype(np.uint64)
    found: NDArray[np.bool_] = inside & (shifted & ONE).astype(bool)
    return found


def has_one(words: Words | None, row: int) -> bool:
    """Say whether one row is in the set; a negative row is not."""
    return row >= 0 and (words is None or bool(int(words[row >> 6]) >> (row & 63) & 1))


def without(words: Words, rows: Int64Array) -> Words:
    """Return a copy of the words in which the bits of `rows` are 0."""
    # Not `words.copy()`: that releases the GIL, and the writer would have to wait for its return.
    copy = np.frombuffer(bytearray(words), np.uint64)
    if len(rows) == 1:
        row = int(rows[0])
        copy[row >> 6] = int(copy[row >> 6]) & ~(1 << (row & 63))
    else:
        np.bitwise_and.at(copy, rows >> 6, ~(ONE << (rows & 63).astype(np.uint64)))
    copy.flags.writeable = False
    return copy


def of_rows(rows: Int64Array, n_rows: int) -> Words:
    """Return words for `n_rows` rows in which the bits of `rows` alone are set."""
    keep = np.zeros(n_rows, bool)
    keep[rows] = True
    return packed(keep)


def members(words: Words, start: int = 0) -> Int64Array:
    """Return the rows whose bits are set, ascending, from `start` (a multiple of 64) on."""
    bits = np.unpackbits(words[start // 64 :].view(np.uint8), bitorder="little")
    rows: Int64Array = np.flatnonzero(bits.view(bool))
    return rows + start if start else rows


def count(words: Words) -> int:
    """Return how many bits are set."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def without_rows(rows: Int64Array, n_rows: int) -> Words:
    """Return words for `n_rows` rows in which all bits but those of `rows` are set."""
    keep = np.ones(n_rows, bool)
    keep[rows] = False
    return packed(keep)
