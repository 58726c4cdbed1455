"""What lies on the device: the rows of one base, scaled, in tiles; and what is added to scores.

A row y stands for x (dot and l2) or x / |x| (cosine), divided by one power of two so that its
numbers fit what it is stored in. How far it is off is measured row by row, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine.retrieval import _bias, _bits
from recengine.retrieval._bits import Words
from recengine.retrieval._device_graph import LEAST
from recengine.retrieval._generation import Generation
from recengine.retrieval._segment import Segment, frozen
from recengine.retrieval._vectors import Vectors, widened
from recengine.retrieval.similarity import METRICS
from recengine.runtime import Placed, Session

COSINE, L2 = METRICS.index("cosine"), METRICS.index("l2")
CHUNK_NUMBERS = 1 << 18  # of float64 at once
HIGHEST = {"float32": 40, "float16": 15}  # numbers are stored below this power of two
MIDDLE = 40  # float32 numbers whose largest lies within 2^±40 are stored as they are
LARGEST = float(np.finfo(np.float32).max)
WIDER = 1 + 2.0**-30  # more than float64 loses in these sums


class Reach(NamedTuple):
    """The largest of each over all rows, rounded up.

    Attributes
    ----------
    item : float
        |x|, or 1 under cosine.
    stored : float
        |y|.
    lost : float
        |x - scale y|.
    """

    item: float
    stored: float
    lost: float


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one base on the device.

    Attributes
    ----------
    base : Segment
    metric : int
    scale : float
        A power of two.
    reach : Reach
    tiles : list of Placed
        (rows, dim) each; all but the last have `tile_rows` rows, the last at least `n_least`,
        zeros at its end.
    tile_rows : int
    """

    base: Segment
    metric: int
    scale: float
    reach: Reach
    tiles: list[Placed]
    tile_rows: int

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(tile.nbytes for tile in self.tiles)


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to the scores of rows: biases, -|x|²/2 under l2, -inf where a row is hidden.

    Attributes
    ----------
    parts : list of Placed
        (rows,) float32 of each tile, divided by the table's scale.
    largest : float32
        Of the parts, but for -inf; never 0.
    reach : float
        The largest addend itself, rounded up.
    lost : float
        How far a part is off, in the unit of scores.
    """

    parts: list[Placed]
    largest: np.float32
    reach: float
    lost: float

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(part.nbytes for part in self.parts)


class Laid(NamedTuple):
    """What a run reads."""

    table: Table
    added: Added


def laid_out(
    session: Session, base: Segment, metric: int, storage: str, tile_rows: int, n_least: int
) -> Table:
    """Lay the rows of a base on the device of `session`. O(n_rows dim).

    Where the tile's rows are what is stored they are placed as they are: on the CPU that copies
    nothing.
    """
    scale = _scale_of(base, metric, storage)
    as_it_is = (
        metric != COSINE and scale == 1.0 and storage == "float32"
    ) and base.vectors.dtype == np.float32
    dtype = np.dtype(storage)
    tiles, reaches = [], []
    for first in range(0, base.n_rows, tile_rows):
        rows = slice(first, min(first + tile_rows, base.n_rows))
        n_rows = max(rows.stop - first, n_least)
        if as_it_is and n_rows == rows.stop - first:
            part: Any = base.vectors[rows]
            norm = float(np.sqrt(base.sq_norms[rows].max()))
            reaches.append(Reach(norm, norm, 0.0))
        else:
            part = np.zeros((n_rows, base.vectors.shape[1]), dtype)
            reaches.append(_fill(part, base, rows, metric, scale))
        tiles.append(session.place(frozen(part)))
    reach = Reach(*(max(column) * WIDER for column in zip(*reaches, strict=True)))
    return Table(base, metric, scale, reach, tiles, tile_rows)


def _scale_of(base: Segment, metric: int, storage: str) -> float:
    """Return the power of two that stored numbers are divided by."""
    if metric == COSINE:
        return 1.0 if storage == "float32" else 2.0 ** -HIGHEST[storage]
    step = max(1, CHUNK_NUMBERS // base.vectors.shape[1])
    parts = (widened(base.vectors[at : at + step]) for at in range(0, base.n_rows, step))
    largest = max(float(np.abs(part).max()) for part in parts)
    power = int(np.frexp(largest)[1])  # largest < 2^power
    if storage == "float32" and (largest == 0 or -MIDDLE < power <= MIDDLE):
        return 1.0
    return float(2.0 ** (power - HIGHEST[storage]))


def _fill(part: Any, base: Segment, rows: slice, metric: int, scale: float) -> Reach:
    """Write rows of the base, scaled, to the head of `part`, and say how far they are off."""
    step = max(1, CHUNK_NUMBERS // part.shape[1])
    most = np.zeros(3)
    for first in range(rows.start, rows.stop, step):
        some = slice(first, min(first + step, rows.stop))
        exact = _exact(base.vectors[some], base.sq_norms[some], metric)
        stored = part[first - rows.start : some.stop - rows.start]
        stored[...] = exact / scale
        wide = stored.astype(np.float64)
        norms = [_norms(exact), _norms(wide), _norms(exact - wide * scale)]
        most = np.maximum(most, [each.max() for each in norms])
    lost = most[2] + (part.shape[1] + 8) * 2.0**-53 * most[0]  # under cosine `exact` is not quite
    return Reach(most[0], most[1], lost)


def _exact(vectors: Vectors, sq_norms: Float64Array, metric: int) -> Float64Array:
    wide = widened(vectors).astype(np.float64)
    if metric == COSINE:
        norms = np.sqrt(sq_norms)[:, None]
        np.divide(wide, norms, out=wide, where=norms > 0)
    return wide


def _norms(rows: Float64Array) -> Float64Array:
    norms: Float64Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def added_to(
    session: Session,
    table: Table,
    now: Generation,
    mask: Words | None,
    bias: Float32Array | None,
) -> Added:
    """Lay on the device what is added to scores. O(n_rows).

    Parameters
    ----------
    session : Session
    table : Table
        Of ``now.base``.
    now : Generation
        Says which rows are alive.
    mask : uint64 words, optional
        By ordinal: what may be returned; nothing beyond its end may.
    bias : ndarray (n_ordinals,), float32, optional
        Of the request, beside what the base holds.
    """
    extra = None if table.metric == L2 else _bias.of_rows(table.base, bias)
    parts, reach, lost, largest = [], 0.0, 0.0, LEAST
    for number, tile in enumerate(table.tiles):
        first = number * table.tile_rows
        rows = slice(first, min(first + table.tile_rows, table.base.n_rows))
        exact = _addends(table, extra, rows)
        part = np.full(tile.shape[0], -np.inf, np.float32)
        shown = part[: len(exact)]
        shown[:] = np.clip(exact / table.scale, -LARGEST, LARGEST)
        reach = max(reach, float(np.abs(exact).max()))
        largest = max(largest, float(np.abs(shown).max()))
        lost = max(lost, float(np.abs(exact - shown.astype(np.float64) * table.scale).max()))
        shown[~_shown(table.base, now.base_alive, mask, rows)] = -np.inf
        parts.append(session.place(frozen(part)))
    return Added(parts, np.float32(largest), reach * WIDER, lost * WIDER)


def _addends(table: Table, extra: Float32Array | None, rows: slice) -> Float64Array:
    """Return what is added to the scores of some rows, exactly."""
    if table.metric == L2:
        return table.base.sq_norms[rows] * -0.5
    if extra is None:
        return np.zeros(rows.stop - rows.start)
    return extra[rows].astype(np.float64)


def _shown(base: Segment, alive: Words | None, mask: Words | None, rows: slice) -> Any:
    """Return which of some rows may be returned."""
    numbers = np.arange(rows.start, rows.stop)
    shown = _bits.has(alive, numbers)
    if mask is None:
        return shown
    ordinals = base.ordinals_of(numbers)
    shown &= ordinals < 64 * len(mask)
    shown[shown] = _bits.has(mask, ordinals[shown])
    return shown
