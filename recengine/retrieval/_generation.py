"""One immutable state of an index, and how the next one is made from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine import _native
from recengine._errors import UnknownItemError
from recengine._types import Float32Array, Float64Array, IdArray, Int64Array
from recengine.data import IdMap
from recengine.retrieval import _score

Words = NDArray[np.uint64]  # bit r & 63 of word r >> 6 speaks of row r


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything that a request reads. Its arrays are read-only and never change.

    Attributes
    ----------
    vectors : ndarray (n_rows, dim), float32, C-contiguous
        Deleted rows included: an ordinal is a row number and is never reused.
    sq_norms : ndarray (n_rows,), float64
        The canonical x·x of each row.
    reach : ndarray (n_rows,), float32
        What the float32 scan needs to know of each row under the metric (`_score.reach`).
    ids : IdMap
        The id of each row, deleted rows included.
    alive : ndarray (ceil(n_rows / 64),), uint64, or None
        Bit r says that row r is not deleted; None when no row is.
    n_alive : int
    metric : int
        The number of the metric in `METRICS`.
    """

    vectors: Float32Array
    sq_norms: Float64Array
    reach: Float32Array
    ids: IdMap
    alive: Words | None
    n_alive: int
    metric: int

    @property
    def n_rows(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def rows_of(self, ids: IdArray) -> Int64Array:
        """Return the row of each id: −1 where it is unknown or deleted."""
        if len(ids) == 0 or self.n_rows == 0:
            return np.full(len(ids), -1, np.int64)
        rows = self.ids.indices(ids, missing="mark")
        if self.alive is not None:
            known = rows >= 0
            rows[known] = np.where(bits_at(self.alive, rows[known]), rows[known], -1)
        return rows

    def row_of(self, item_id: Any) -> int:
        """Return the row of one id, or −1."""
        row = self.ids.index(item_id)
        if row >= 0 and self.alive is not None and not bits_at(self.alive, np.array([row]))[0]:
            return -1
        return row

    def live_ids(self) -> IdArray:
        """Return the ids that are not deleted, in order of ordinal."""
        if self.alive is None:
            return self.ids.ids
        return self.ids.ids[bits_at(self.alive, np.arange(self.n_rows))]


def first_generation(vectors: Float32Array, ids: IdMap, metric: int) -> Generation:
    """Return the state of a new index over read-only `vectors`."""
    norms = _freeze(_score.squared_norms(_native.api(), vectors))
    reach = _freeze(_score.reach(metric, norms))
    return Generation(vectors, norms, reach, ids, None, len(vectors), metric)


def upserted(old: Generation, ids: IdArray, vectors: Float32Array) -> Generation:
    """Return `old` with these (distinct) items added or replaced. O(n_rows dim): copies."""
    if len(ids) == 0:
        return old
    rows = old.ids.indices(ids, missing="mark") if old.n_rows else np.full(len(ids), -1, np.int64)
    new = rows < 0
    n_rows = old.n_rows + int(new.sum())
    rows[new] = np.arange(old.n_rows, n_rows)
    norms = _score.squared_norms(_native.api(), vectors)
    fresh = ids[new]
    id_map = IdMap(fresh) if old.n_rows == 0 else old.ids.extended(fresh)
    alive, n_alive = old.alive, n_rows
    if alive is not None:
        alive = _lengthened(alive, n_words(n_rows))
        n_alive = old.n_alive + len(rows) - int(bits_at(alive, rows).sum())
        set_bits(alive, rows)
        _freeze(alive)
    return replace(
        old,
        vectors=_with_rows(old.vectors, n_rows, rows, vectors),
        sq_norms=_with_rows(old.sq_norms, n_rows, rows, norms),
        reach=_with_rows(old.reach, n_rows, rows, _score.reach(old.metric, norms)),
        ids=id_map,
        alive=alive,
        n_alive=n_alive,
    )


def _with_rows(old: Any, n_rows: int, rows: Any, values: Any) -> Any:
    """Return a copy of `old`, `n_rows` long, in which `rows` are `values`."""
    table = _lengthened(old, n_rows)
    table[rows] = values
    return _freeze(table)


def _lengthened(old: Any, n_rows: int) -> Any:
    table = np.zeros((n_rows, *old.shape[1:]), old.dtype)
    table[: len(old)] = old
    return table


def deleted(old: Generation, ids: IdArray) -> Generation:
    """Return `old` without these (distinct) items. O(n_rows / 64 + len(ids))."""
    rows = old.rows_of(ids)
    if (rows < 0).any():
        lost = ids[rows < 0].tolist()
        raise UnknownItemError(f"ids must be in the index, got {lost[0]!r}")
    if len(rows) == 0:
        return old
    alive = full_bits(old.n_rows) if old.alive is None else old.alive.copy()
    clear_bits(alive, rows)
    return replace(old, alive=_freeze(alive), n_alive=old.n_alive - len(rows))


def n_words(n_rows: int) -> int:
    """Return how many 64-bit words hold one bit per row."""
    return (n_rows + 63) // 64


def full_bits(n_rows: int) -> Words:
    """Return words whose first `n_rows` bits are set, and no other."""
    words = np.full(n_words(n_rows), ~np.uint64(0))
    if n_rows % 64:
        words[-1] = np.uint64((1 << (n_rows % 64)) - 1)
    return words


def bits_at(words: Words, rows: Int64Array) -> NDArray[np.bool_]:
    """Return the bit of each row."""
    hits: NDArray[np.bool_] = (words[rows >> 6] & _bit(rows)) != 0
    return hits


def set_bits(words: Words, rows: Int64Array) -> None:
    """Set the bit of each row in place."""
    np.bitwise_or.at(words, rows >> 6, _bit(rows))


def clear_bits(words: Words, rows: Int64Array) -> None:
    """Clear the bit of each row in place."""
    np.bitwise_and.at(words, rows >> 6, ~_bit(rows))


def _bit(rows: Int64Array) -> Words:
    return np.left_shift(np.uint64(1), (rows & 63).astype(np.uint64))


def _freeze(array: Any) -> Any:
    array.flags.writeable = False
    return array
