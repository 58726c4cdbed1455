"""`Buckets`: the few shapes that batches are padded to, so that no shape is new after warm-up."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recengine._validation import as_count


@dataclass(frozen=True)
class Buckets:
    """A ladder of rows times a ladder of lengths.

    Attributes
    ----------
    rows, lengths : tuple of int
        Ascending. A batch takes the smallest bucket that holds it.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]

    def fit(self, n_rows: int, length: int) -> tuple[int, int]:
        """Return (rows, length) of the smallest bucket that holds a batch.

        Raises
        ------
        ValueError
            If none does.
        """
        if n_rows > self.rows[-1] or length > self.lengths[-1]:
            raise ValueError(
                f"a batch of {n_rows} x {length} must fit the largest bucket, "
                f"{self.rows[-1]} x {self.lengths[-1]}"
            )
        at = bisect_left(self.rows, n_rows), bisect_left(self.lengths, length)
        return self.rows[at[0]], self.lengths[at[1]]

    def most_rows(self, limit: int) -> int:
        """Return the largest rung of `rows` that is at most `limit`; the lowest if none is."""
        return self.rows[max(0, bisect_right(self.rows, limit) - 1)]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every bucket, the largest first: memory then grows once."""
        pairs = [(n, length) for n in self.rows for length in self.lengths]
        return iter(sorted(pairs, key=lambda pair: pair[0] * pair[1], reverse=True))


def as_buckets(name: str, value: Any) -> Buckets:
    """Return a pair (rows, lengths) of ascending whole numbers as `Buckets`.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : pair of sequences of int
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a pair (rows, lengths), got {type(value).__name__}")
    pair = tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be a pair (rows, lengths), got {len(pair)} entries")
    return Buckets(_as_ladder(f"{name}[0]", pair[0]), _as_ladder(f"{name}[1]", pair[1]))


def _as_ladder(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of int, got {type(value).__name__}")
    rungs = tuple(as_count(name, rung, minimum=1) for rung in value)
    if not rungs or list(rungs) != sorted(set(rungs)):
        raise ValueError(f"{name} must be ascending and not empty, got {list(rungs)}")
    return rungs
