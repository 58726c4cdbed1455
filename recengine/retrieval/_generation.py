"""One immutable state of an index: what a request reads, from its first look to its last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, IdArray, Int64Array
from recengine.data import IdMap
from recengine.retrieval import _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._columns import Columns
from recengine.retrieval._delta import DeltaLog
from recengine.retrieval._id_book import IdBook
from recengine.retrieval._segment import Segment, frozen
from recengine.retrieval._vectors import Vectors, widened


@dataclass(frozen=True, slots=True)
class Generation:
    """A base segment with codes, a delta behind it, and which of their rows count.

    An item that is in the index has exactly one live row, in the base or in the delta. The arrays
    are read-only. `log` and `book` grow while this generation is in use; it looks at their first
    `delta.n_rows` rows and `n_ordinals` ids only, which never change.

    Attributes
    ----------
    metric : int
        The number of the metric in `METRICS`.
    book : IdBook
    n_ordinals : int
        How many ordinals were ever given.
    n_alive : int
        How many items are in the index.
    columns : Columns
        What `where` compares, by ordinal.
    base : Segment
        Ascending by ordinal.
    base_alive : uint64 words, or None
        Which rows of the base count; None where all do.
    n_base_alive : int
    log : DeltaLog
    delta : Segment
        The rows of the log that this generation knows, in order of arrival.
    delta_alive : uint64 words
        Which rows of the delta count; bits beyond its end are set.
    """

    metric: int
    book: IdBook
    n_ordinals: int
    n_alive: int
    columns: Columns
    base: Segment
    base_alive: Words | None
    n_base_alive: int
    log: DeltaLog
    delta: Segment
    delta_alive: Words

    @property
    def dim(self) -> int:
        return int(self.base.vectors.shape[1])

    @property
    def is_clean(self) -> bool:
        """Whether the base is all there is: no delta, no dead rows."""
        return self.delta.n_rows == 0 and self.n_base_alive == self.base.n_rows

    def segments(self) -> list[tuple[Segment, Words | None]]:
        """Return the segments that hold rows, each with the words of those that count."""
        parts = [(self.base, self.base_alive), (self.delta, self.delta_alive)]
        return [part for part in parts if part[0].n_rows]

    def known_ordinals(self, ids: IdArray) -> Int64Array:
        """Return the ordinal that each id was ever given, −1 where none was."""
        return self.book.find(ids, self.n_ordinals)

    def ordinals_of(self, ids: IdArray) -> Int64Array:
        """Return the ordinal of each id: −1 where it is unknown or deleted."""
        ordinals = self.known_ordinals(ids)
        if self.n_alive == self.n_ordinals:
            return ordinals
        ordinals[~self.are_alive(ordinals)] = -1
        return ordinals

    def ordinal_of(self, item_id: object) -> int:
        """Return the ordinal of one id, or −1."""
        ordinal = self.book.find_one(item_id, self.n_ordinals)
        return ordinal if ordinal >= 0 and self.vector(ordinal) is not None else -1

    def vector(self, ordinal: int) -> Float32Array | None:
        """Return the vector of an ordinal >= 0, None where it is deleted."""
        if self.delta.n_rows:
            row = self.log.row_of(ordinal, self.delta.n_rows)
            if _bits.has_one(self.delta_alive, row):
                return _read_only(self.delta.vectors[row])
        row = int(self.base.rows_of(np.array([ordinal]))[0])
        if not _bits.has_one(self.base_alive, row):
            return None
        return _read_only(self.base.vectors[row])

    def locate(self, ordinals: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return the live row of each ordinal (>= 0) in the base and in the delta, −1 if none."""
        base = self.base.rows_of(ordinals)
        if self.base_alive is not None:
            base = np.where(_bits.has(self.base_alive, base), base, -1)
        if self.delta.n_rows == 0:
            return base, np.full(len(ordinals), -1, np.int64)
        delta = self.log.rows_of(ordinals, self.delta.n_rows)
        return base, np.where(_bits.has(self.delta_alive, delta), delta, -1)

    def are_alive(self, ordinals: Int64Array) -> NDArray[np.bool_]:
        """Return whether each ordinal is in the index; −1 is not."""
        if self.n_ordinals == 0:
            return np.zeros(len(ordinals), bool)
        base, delta = self.locate(np.maximum(ordinals, 0))
        return (ordinals >= 0) & ((base >= 0) | (delta >= 0))

    def alive_mask(self) -> NDArray[np.bool_]:
        """Return the mask, by ordinal (n_ordinals,), of the items in the index. O(n_ordinals)."""
        mask = np.zeros(self.n_ordinals, bool)
        for segment, alive in self.segments():
            mask[segment.ordinals_of(np.flatnonzero(_bits.unpacked(alive, segment.n_rows)))] = True
        return mask

    def live_ids(self) -> IdArray:
        """Return the ids that are not deleted, in order of ordinal."""
        names = self.book.all_names(self.n_ordinals)
        return names if self.n_alive == self.n_ordinals else names[self.alive_mask()]


def _read_only(row: Vectors) -> Float32Array:
    vector: Float32Array = frozen(widened(row))
    return vector


def first_generation(
    base: Segment, ids: IdMap, metric: int, columns: Columns | None = None
) -> Generation:
    """Return the state of an index in which every row of `base` is alive; O(1).

    `ids` and `columns` may cover more ordinals than `base` holds: those of deleted items.
    """
    log = DeltaLog(base.vectors.shape[1], metric, base.vectors.dtype, len(ids))
    return Generation(
        metric=metric,
        book=IdBook(ids),
        n_ordinals=len(ids),
        n_alive=base.n_rows,
        columns=Columns(n_rows=len(ids)) if columns is None else columns,
        base=base,
        base_alive=None,
        n_base_alive=base.n_rows,
        log=log,
        delta=log.segment(0),
        delta_alive=_bits.full(0),
    )
