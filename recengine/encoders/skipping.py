"""What ``on_error="skip"`` gives, the same for texts, images and sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_count

ON_ERROR = ("raise", "skip")


@dataclass(frozen=True)
class Skipped:
    """An entry that has no vector.

    Attributes
    ----------
    index : int
        Its place among the entries given.
    reason : str
        What was wrong with it, beginning with that place and the path.
    """

    index: int
    reason: str


class Encoded(NamedTuple):
    """What could be encoded, and what could not.

    Attributes
    ----------
    vectors : ndarray (n_kept, dim), float32
        Finite, in the order of the entries: what an index takes as it is.
    kept : ndarray (n_kept,), int64
        The place among the entries given of each row, ascending.
    skipped : tuple of Skipped
        Ascending; together with `kept` every entry.
    """

    vectors: Float32Array
    kept: Int64Array
    skipped: tuple[Skipped, ...]

    def spread(self, n_entries: int) -> tuple[Float32Array, NDArray[np.bool_]]:
        """Return a row for every entry, zeros where it was skipped, and which rows are vectors.

        Parameters
        ----------
        n_entries : int
            How many entries there were; at least ``kept[-1] + 1``.

        Returns
        -------
        vectors : ndarray (n_entries, dim), float32
        present : ndarray (n_entries,), bool
        """
        lowest = int(self.kept[-1]) + 1 if len(self.kept) else 0
        n_entries = as_count("n_entries", n_entries, minimum=lowest)
        vectors = np.zeros((n_entries, self.vectors.shape[1]), np.float32)
        present = np.zeros(n_entries, np.bool_)
        vectors[self.kept], present[self.kept] = self.vectors, True
        return vectors, present


def encoded(vectors: Float32Array, skipped: Mapping[int, str]) -> Encoded:
    """Return the result for one row per entry, of which some are to be dropped.

    Parameters
    ----------
    vectors : ndarray (n, dim), float32
    skipped : mapping of int to str
        The reason by the place of each row that is none.
    """
    kept = np.ones(len(vectors), np.bool_)
    kept[list(skipped)] = False
    reasons = tuple(Skipped(index, reason) for index, reason in sorted(skipped.items()))
    rows = vectors[kept] if reasons else vectors
    return Encoded(rows, np.flatnonzero(kept).astype(np.int64), reasons)


def not_finite(vectors: Float32Array) -> Int64Array:
    """Return the numbers of the rows that hold NaN or infinity."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=1)).astype(np.int64)
