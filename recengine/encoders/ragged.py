"""Ragged histories over rows of a matrix, and the weight of each event in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float64Array, Int64Array
from recengine._validation import as_indices, as_real, refuse_masked

BLOCK = 1 << 20  # numbers of a block of gathered rows: 8 MiB in float64


class Events(NamedTuple):
    """Events of many users: user u owns events indptr[u]:indptr[u + 1], oldest first.

    Attributes
    ----------
    indptr : ndarray (n_users + 1,), int64
    rows : ndarray (n_events,), int64
        Which row of the matrix each event is about.
    weights : ndarray (n_events,), float64
        >= 0 and finite; an event of weight 0 counts as if it were not there.
    """

    indptr: Int64Array
    rows: Int64Array
    weights: Float64Array

    @property
    def n_users(self) -> int:
        """How many users."""
        return len(self.indptr) - 1

    @property
    def owners(self) -> Int64Array:
        """Return the user of each event."""
        return np.repeat(np.arange(self.n_users), np.diff(self.indptr))

    def blocks(self, width: int) -> Iterator[tuple[slice, Events]]:
        """Yield (users, their histories) with at most `BLOCK` numbers of `width` an event.

        A longer history stands alone in its block.
        """
        most, start = max(1, BLOCK // max(1, width)), 0
        while start < self.n_users:
            end = int(np.searchsorted(self.indptr, self.indptr[start] + most, side="right")) - 1
            stop = min(max(end, start + 1), self.n_users)
            events = slice(int(self.indptr[start]), int(self.indptr[stop]))
            indptr = self.indptr[start : stop + 1] - events.start
            yield slice(start, stop), Events(indptr, self.rows[events], self.weights[events])
            start = stop


def as_events(
    histories: Any, n_rows: int, weights: Any, ages: Any, half_life: float | None
) -> Events:
    """Read histories without their events of weight 0.

    Parameters
    ----------
    histories : (indptr, rows) or list of array_like of int
    n_rows : int
        Of the matrix.
    weights, ages : array_like (n_events,) or list of array_like, optional
        Strength, >= 0; age, >= 0, in the unit of `half_life`.
    half_life : float, optional
        Weights are multiplied by 2 ** (-age / half_life).
    """
    indptr, rows = _ragged("histories", histories)
    rows = as_indices("histories", rows, size=n_rows)
    strength = np.ones(len(rows))
    if weights is not None:
        strength = _per_event("weights", weights, indptr)
    if (ages is None) != (half_life is None):
        raise ValueError("ages and half_life must be given together, got only one of them")
    if ages is not None:
        half = as_real("half_life", half_life, minimum=0.0, exclusive=True)
        strength = strength * np.exp2(-_per_event("ages", ages, indptr) / half)
    counted = strength > 0
    if not counted.all():
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(counted, dtype=np.int64)])
        indptr, rows, strength = kept[indptr], rows[counted], strength[counted]
    return Events(indptr, rows, strength)


def _ragged(name: str, value: Any) -> tuple[Int64Array, Any]:
    """Return (indptr, flat values) of a pair (indptr, values) or of a list of arrays."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{name} as a tuple must be (indptr, rows), got {len(value)} entries")
        starts = np.asarray(value[0])
        if starts.ndim != 1 or starts.dtype.kind not in "iu" or not len(starts):
            raise TypeError(f"{name}[0] must be 1-D integers, n_users + 1 of them")
        flat = np.asarray(value[1])
        if (
            starts[0] != 0
            or starts[-1] != len(flat)
            or (np.diff(starts.astype(np.int64)) < 0).any()
        ):
            raise ValueError(f"{name}[0] must rise from 0 to the number of events, {len(flat)}")
        return starts.astype(np.int64), flat
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        raise TypeError(
            f"{name} must be (indptr, rows) or a list of arrays, got {type(value).__name__}"
        )
    arrays = [np.asarray(part) for part in value]
    if shapes := [part.shape for part in arrays if part.ndim != 1]:
        raise ValueError(f"{name} must hold one 1-D array per user, got shape {shapes[0]}")
    starts = np.zeros(len(arrays) + 1, np.int64)
    starts[1:] = np.cumsum([len(part) for part in arrays])
    filled = [part for part in arrays if len(part)]
    return starts, np.concatenate(filled) if filled else np.empty(0, np.int64)


def _per_event(name: str, value: Any, indptr: Int64Array) -> Float64Array:
    """Return one finite number >= 0 for each event, given flat or per user."""
    refuse_masked(name, value)
    nested = isinstance(value, list | tuple) and bool(value) and hasattr(value[0], "__len__")
    if nested:
        starts, value = _ragged(name, list(value))
        if not np.array_equal(starts, indptr):
            raise ValueError(f"{name} must have the lengths of histories")
    array = np.asarray(value)
    if array.size and array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.shape != (int(indptr[-1]),):
        raise ValueError(f"{name} must have one entry per event ({indptr[-1]}), got {array.shape}")
    numbers: Float64Array = array.astype(np.float64)
    if len(numbers) and not (np.isfinite(numbers).all() and numbers.min() >= 0):
        bad = numbers[~(np.isfinite(numbers) & (numbers >= 0))][0]
        raise ValueError(f"{name} must be finite and >= 0, got {bad}")
    return numbers
