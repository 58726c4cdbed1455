"""Rows that are equal bit for bit: coded once, scored once.

Catalogues hold copies (variants of a product, items without content that share a default vector).
Copies tie at every query, so no bound can drop one of them and not the others. A code table with
one slot for all of them meets them once; their ordinals are looked at only where they belong to
the answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Int64Array

WORTHWHILE = 0.1  # share of the rows that must be copies
CHUNK_NUMBERS = 1 << 20


def equal_rows(vectors: NDArray[Any]) -> tuple[Int64Array, Int64Array] | None:
    """Group equal rows; None where fewer than a tenth are copies.

    Parameters
    ----------
    vectors : ndarray (n, dim)
        Of 2 or 4 bytes a number; compared by their bits.

    Returns
    -------
    order : ndarray (n,), int64
        The rows, group by group: groups by their first row, rows of a group ascending.
    starts : ndarray (n_groups + 1,), int64
        Where each group begins in `order`.

    Notes
    -----
    Three numbers of each row are compared first: O(n log n) where those differ. Else O(n dim) more.
    """
    n_rows, dim = vectors.shape
    bits = vectors.view(np.dtype(f"u{vectors.itemsize}"))
    few = bits[:, [0, dim // 2, dim - 1]]
    if _copies(_mixed(few)) < WORTHWHILE * n_rows:
        return None
    step = max(1, CHUNK_NUMBERS // dim)
    keys = np.concatenate([_mixed(bits[i : i + step]) for i in range(0, n_rows, step)])
    if _copies(keys) < WORTHWHILE * n_rows:
        return None
    order = np.argsort(keys, kind="stable")
    first = np.empty(n_rows, bool)
    first[0] = True
    # Neighbours with one key are compared in full: a chance meeting of keys begins a new group.
    for i in range(1, n_rows, step):
        here, before = order[i : i + step], order[i - 1 : i - 1 + step][: len(order) - i]
        first[i : i + step] = (bits[here] != bits[before]).any(axis=1)
    starts = np.flatnonzero(first)
    by_row = np.argsort(order[starts], kind="stable")
    lengths = np.diff(starts, append=n_rows)[by_row]
    ends = np.cumsum(lengths)
    place = np.repeat(starts[by_row] - (ends - lengths), lengths) + np.arange(n_rows)
    return order[place], np.concatenate([[0], ends])


def _mixed(bits: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a key of each row; equal rows have equal keys."""
    odd = np.random.default_rng(0).integers(0, 2**63, bits.shape[1], dtype=np.uint64) * 2 + 1
    keys: NDArray[np.uint64] = (bits * odd).sum(axis=1, dtype=np.uint64)
    keys ^= keys >> np.uint64(32)  # low bits of a product know low bits only
    return keys * np.uint64(0x9E3779B97F4A7C15)


def _copies(keys: NDArray[np.uint64]) -> int:
    """Return how many keys there are beyond those that differ."""
    ordered = np.sort(keys)
    return int((ordered[1:] == ordered[:-1]).sum())
