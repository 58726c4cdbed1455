"""One immutable state of an index, and how the next one is made from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine import _native
from recengine._errors import UnknownItemError
from recengine._types import (
    PADDING_ID,
    Float32Array,
    Float64Array,
    IdArray,
    Int64Array,
    TopK,
)
from recengine._validation import as_matrix
from recengine.data import IdMap
from recengine.retrieval import _coding, _score

GATHER_SHARE = 2  # rows are gathered, not masked, when at most one in this many may be returned


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a batch may return: by mask, by list, or (both None) all of them.

    Attributes
    ----------
    mask : ndarray (ceil(n_rows / 64),), uint64, or None
        Bit r & 63 of word r >> 6 speaks of row r.
    rows : ndarray (m,), int64, ascending, or None
    """

    mask: NDArray[np.uint64] | None
    rows: Int64Array | None

    @classmethod
    def of(cls, keep: NDArray[np.bool_]) -> Selection:
        """Return the selection of the rows marked in `keep` (n_rows,), the cheaper way to scan."""
        if np.count_nonzero(keep) * GATHER_SHARE <= len(keep):
            return cls(None, np.flatnonzero(keep))
        padded = np.pad(keep, (0, -len(keep) % 64))
        return cls(np.packbits(padded, bitorder="little").view(np.uint64), None)


EVERYTHING = Selection(None, None)


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
    codes : dict of arrays, or None
        What the int8 scan reads (`_coding.encode`); None where there is nothing to code.
    ids : IdMap
        The id of each row, deleted rows included.
    alive : ndarray (n_rows,), bool, or None
        Which rows are not deleted; None when no row is.
    n_alive : int
    selection : Selection
        The same for the scan.
    metric : int
        The number of the metric in `METRICS`.
    """

    vectors: Float32Array
    sq_norms: Float64Array
    reach: Float32Array
    codes: dict[str, Any] | None
    ids: IdMap
    alive: NDArray[np.bool_] | None
    n_alive: int
    selection: Selection
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
            rows[known] = np.where(self.alive[rows[known]], rows[known], -1)
        return rows

    def row_of(self, item_id: Any) -> int:
        """Return the row of one id, or −1."""
        row = self.ids.index(item_id)
        return row if row < 0 or self.alive is None or self.alive[row] else -1

    def live_ids(self) -> IdArray:
        """Return the ids that are not deleted, in order of ordinal."""
        if self.alive is None:
            return self.ids.ids
        return self.ids.ids[self.alive]

    def answer(
        self, rows: Int64Array, scores: Float32Array, *, single: bool, partial: bool = False
    ) -> TopK:
        """Return rows (n_queries, k), −1 where padded, as the caller's ids."""
        names = self.ids.ids
        fill = None if names.dtype == object else PADDING_ID
        if self.n_rows == 0:
            ids = np.full(rows.shape, fill, names.dtype)
        else:
            ids = names[rows]  # −1 reads the last id, which is then overwritten
            ids[rows < 0] = fill
        if single:
            return TopK(ids[0], scores[0], ordinals=rows[0], partial=partial)
        return TopK(ids, scores, ordinals=rows, partial=partial)


def owned(name: str, value: Any) -> Float32Array:
    """Return a read-only float32 matrix: the caller's memory only if it is read-only too."""
    table = as_matrix(name, value)
    if table.flags.writeable:
        if table is value or table.base is not None:
            table = table.copy()
        table.flags.writeable = False
    return table


def first_generation(vectors: Float32Array, ids: IdMap, metric: int) -> Generation:
    """Return the state of a new index over read-only `vectors`."""
    norms = _freeze(_score.squared_norms(_native.api(), vectors))
    return restored(vectors, norms, ids, None, metric)


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
    alive = None if old.alive is None else _with_rows(old.alive, n_rows, rows, True)
    reach = _with_rows(old.reach, n_rows, rows, _score.reach(old.metric, norms))
    table = _with_rows(old.vectors, n_rows, rows, vectors)
    all_norms = _with_rows(old.sq_norms, n_rows, rows, norms)
    return replace(
        old,
        vectors=table,
        sq_norms=all_norms,
        codes=_coding.encode(table, all_norms, reach, old.metric),
        reach=reach,
        ids=id_map,
        **_liveness(alive, n_rows),
    )


def _with_rows(old: Any, n_rows: int, rows: Any, values: Any) -> Any:
    """Return a copy of `old`, `n_rows` long, in which `rows` are `values`."""
    table = np.empty((n_rows, *old.shape[1:]), old.dtype)
    table[: len(old)] = old
    table[rows] = values
    return _freeze(table)


def deleted(old: Generation, ids: IdArray) -> Generation:
    """Return `old` without these (distinct) items. O(n_rows + len(ids))."""
    rows = old.rows_of(ids)
    if (rows < 0).any():
        lost = ids[rows < 0].tolist()
        raise UnknownItemError(f"ids must be in the index, got {lost[0]!r}")
    if len(rows) == 0:
        return old
    alive = np.ones(old.n_rows, bool) if old.alive is None else old.alive.copy()
    alive[rows] = False
    return replace(old, **_liveness(_freeze(alive), old.n_rows))


def restored(
    vectors: Float32Array,
    sq_norms: Float64Array,
    ids: IdMap,
    alive: NDArray[np.bool_] | None,
    metric: int,
) -> Generation:
    """Return a state from the arrays that were saved."""
    reach = _freeze(_score.reach(metric, sq_norms))
    codes = _coding.encode(vectors, sq_norms, reach, metric)
    whole = Generation(vectors, sq_norms, reach, codes, ids, None, len(vectors), EVERYTHING, metric)
    return replace(whole, **_liveness(alive, len(vectors)))


def _liveness(alive: NDArray[np.bool_] | None, n_rows: int) -> dict[str, Any]:
    if alive is None or alive.all():
        return {"alive": None, "n_alive": n_rows, "selection": EVERYTHING}
    n_alive = int(np.count_nonzero(alive))
    return {"alive": alive, "n_alive": n_alive, "selection": Selection.of(alive)}


def _freeze(array: Any) -> Any:
    array.flags.writeable = False
    return array
