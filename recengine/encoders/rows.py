"""A graph of rows: named arrays, rows alike, through it in batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array
from recengine.encoders.pooling import normalized
from recengine.encoders.progress import progress_bar
from recengine.encoders.running import UNLIMITED, Countdown, shares_scales
from recengine.runtime import Session


class RowGraph:
    """A session of which the first output, (n, dim), is taken.

    Parameters
    ----------
    session : Session
        Every input has the rows of the batch as its first axis.
    normalize : bool
        Scale each vector to length 1.

    Attributes
    ----------
    dim : int or None
        Length of a vector; None where only a run can tell.
    fixed_rows : int
        Rows of every run of a graph with a fixed first axis; 0 for any number.
    """

    def __init__(self, session: Session, normalize: bool) -> None:
        self.session, self._normalize = session, normalize
        shape = session.outputs[0].shape
        self.dim = shape[-1] if shape and isinstance(shape[-1], int) else None
        sizes = {port.shape[0] for port in session.inputs if port.shape}
        self.fixed_rows = next((size for size in sizes if isinstance(size, int)), 0)
        self._alone = shares_scales(session)

    def vectors(
        self,
        arrays: Mapping[str, Any] | Any,
        batch_size: int,
        countdown: Countdown = UNLIMITED,
        *,
        shown: bool = False,
    ) -> Float32Array:
        """Return (n, dim) in the order of the rows, NaN and infinity too: the caller sees to them.

        See `OnnxEncoder.encode`.
        """
        rows, n_rows = self._rows(arrays)
        step = 1 if self._alone else self.fixed_rows or batch_size
        parts: list[Float32Array] = []
        with progress_bar("encoding", n_rows, shown=shown) as advance:
            for start in range(0, n_rows, step):
                stop = min(start + step, n_rows)
                end = start + self.fixed_rows if self.fixed_rows else stop
                pick = np.arange(start, end).clip(max=stop - 1)
                feeds = {name: array[pick] for name, array in rows.items()}
                parts.append(self._batch(feeds, stop - start, countdown))
                advance(stop - start)
        return self._joined(parts)

    def _joined(self, parts: list[Float32Array]) -> Float32Array:
        if not parts:
            if self.dim is None:
                raise ValueError("arrays must have at least one row: the graph hides its dim")
            return np.empty((0, self.dim), np.float32)
        return np.concatenate(parts)

    def _rows(self, arrays: Any) -> tuple[dict[str, NDArray[Any]], int]:
        inputs = self.session.inputs
        if not isinstance(arrays, Mapping):
            if len(inputs) != 1:
                listed = "; ".join(map(str, inputs))
                raise TypeError(f"arrays must be a mapping of the graph's inputs: {listed}")
            arrays = {inputs[0].name: arrays}
        rows = {name: np.asarray(value) for name, value in arrays.items()}
        counts = {array.shape[0] if array.ndim else -1 for array in rows.values()}
        if len(counts) != 1 or -1 in counts:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in rows.items())
            raise ValueError(f"arrays must have the same number of rows, got {shapes}")
        return rows, counts.pop()

    def _batch(
        self, feeds: dict[str, NDArray[Any]], n_rows: int, countdown: Countdown
    ) -> Float32Array:
        found = countdown.run(self.session, feeds)[0]
        name = self.session.outputs[0].name
        if found.ndim != 2 or len(found) < n_rows or found.dtype.kind not in "fiu":
            raise ValueError(
                f"output {name} must be real and (n, dim), got {found.dtype} of {found.shape} "
                f"for {n_rows} rows"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = found[:n_rows].astype(np.float32)
            return normalized(vectors) if self._normalize else vectors
