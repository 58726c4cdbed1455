"""`OnnxEncoder`: any graph that turns named arrays into one vector a row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array
from recengine._validation import as_count, check_finite
from recengine.encoders.pooling import normalized
from recengine.encoders.progress import progress_bar
from recengine.runtime import Port, open_session


class OnnxEncoder:
    """A graph from named arrays to vectors: a tower, an image or audio encoder, a projection.

    Parameters
    ----------
    path : path
        An ``.onnx`` file. Every input has the rows of the batch as its first axis.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    output : str, optional
        The output to take, (n, dim) and real; the first one when omitted.
    normalize : bool
        Scale each vector to length 1.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`.
    ValueError
        If the graph has no such output.

    Notes
    -----
    Immutable; `encode` may be called from many threads. Fork and pickle are safe: the graph is
    opened anew from its path, and refused if its digest changed.

    Examples
    --------
    >>> encoder = OnnxEncoder("tower.onnx")  # doctest: +SKIP
    >>> vectors = encoder.encode({"genres": genres, "year": years})  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        *,
        output: str | None = None,
        normalize: bool = False,
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = open_session(path, device, num_threads, runtime)
        names = [port.name for port in self.outputs]
        if output is not None and output not in names:
            raise ValueError(f"output must be one of {', '.join(names)}, got {output!r}")
        self._taken = 0 if output is None else names.index(output)
        self.normalize = normalize

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the graph takes: name, dtype and shape of each input."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the graph gives."""
        return self._session.outputs

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:N"."""
        return self._session.device

    @property
    def reason(self) -> str:
        """Why it runs there."""
        return self._session.reason

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""
        return self._session.digest

    @property
    def dim(self) -> int | None:
        """Length of a vector; None where only a run can tell."""
        shape = self.outputs[self._taken].shape
        return shape[-1] if shape and isinstance(shape[-1], int) else None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph once on whole arrays.

        Parameters
        ----------
        feeds : mapping of str to array
            One array for each input.

        Returns
        -------
        dict of str to ndarray
            Every output by name, as the graph gives it.
        """
        names = [port.name for port in self.outputs]
        return dict(zip(names, self._session.run(feeds), strict=True))

    def encode(
        self, arrays: Mapping[str, Any] | Any, batch_size: int = 64, progress: bool = False
    ) -> Float32Array:
        """Encode rows in batches.

        Parameters
        ----------
        arrays : mapping of str to array (n, ...)
            One array for each input, rows alike; a bare array for a graph with one input.
        batch_size : int
            Rows a run. A graph with a fixed first axis takes that many instead, the last batch
            filled up with copies of its last row.
        progress : bool
            Show a progress bar on standard error.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of the rows.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or dtypes do not fit, or the graph gives NaN or infinity.
        """
        batch_size = as_count("batch_size", batch_size, minimum=1)
        vectors = self._encoded(arrays, batch_size, progress)
        return check_finite(f"the output of {self._session.path.name}", vectors)

    def _encoded(self, arrays: Any, batch_size: int, progress: bool = False) -> Float32Array:
        """Encode, and let NaN and infinity through: the caller sees to them."""
        rows, n_rows = self._rows(arrays)
        fixed = self._fixed_batch()
        step = fixed or batch_size
        parts: list[Float32Array] = []
        with progress_bar("encoding", n_rows, shown=progress) as advance:
            for start in range(0, n_rows, step):
                stop = min(start + step, n_rows)
                pick = np.arange(start, start + fixed if fixed else stop).clip(max=stop - 1)
                parts.append(self._vectors({k: v[pick] for k, v in rows.items()}, stop - start))
                advance(stop - start)
        return self._joined(parts)

    def _joined(self, parts: list[Float32Array]) -> Float32Array:
        if not parts:
            if self.dim is None:
                raise ValueError("arrays must have at least one row: the graph hides its dim")
            return np.empty((0, self.dim), np.float32)
        return np.concatenate(parts)

    def _rows(self, arrays: Any) -> tuple[dict[str, NDArray[Any]], int]:
        if not isinstance(arrays, Mapping):
            if len(self.inputs) != 1:
                listed = "; ".join(map(str, self.inputs))
                raise TypeError(f"arrays must be a mapping of the graph's inputs: {listed}")
            arrays = {self.inputs[0].name: arrays}
        rows = {name: np.asarray(value) for name, value in arrays.items()}
        counts = {array.shape[0] if array.ndim else -1 for array in rows.values()}
        if len(counts) != 1 or -1 in counts:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in rows.items())
            raise ValueError(f"arrays must have the same number of rows, got {shapes}")
        return rows, counts.pop()

    def _fixed_batch(self) -> int:
        sizes = {port.shape[0] for port in self.inputs if port.shape}
        numbers = [size for size in sizes if isinstance(size, int)]
        return numbers[0] if numbers else 0

    def _vectors(self, feeds: dict[str, NDArray[Any]], n_rows: int) -> Float32Array:
        found = self._session.run(feeds)[self._taken]
        name = self.outputs[self._taken].name
        if found.ndim != 2 or len(found) < n_rows or found.dtype.kind not in "fiu":
            raise ValueError(
                f"output {name} must be real and (n, dim), got {found.dtype} of {found.shape} "
                f"for {n_rows} rows"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = found[:n_rows].astype(np.float32)
            return normalized(vectors) if self.normalize else vectors
