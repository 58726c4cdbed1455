"""A model and samples for it: what is needed to calibrate a graph and to compare two."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array
from recengine.encoders.folder import read_options
from recengine.encoders.running import shares_scales
from recengine.encoders.text import TextEncoder
from recengine.runtime import Session, open_session

BATCH = 16


class Probe(Protocol):
    """A model with its samples."""

    n_samples: int

    def vectors(self, rows: NDArray[Any]) -> Float32Array:
        """Return (len(rows), dim)."""

    def one(self, row: int) -> Any:
        """Run one sample, alone."""

    def feeds(self, rows: NDArray[Any]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield what the graph takes for these samples."""


def probe_of(
    model: Path, samples: Any, tokenizer: str | os.PathLike[str] | None, num_threads: int
) -> Probe:
    """Open `model` for `samples`: texts with a tokenizer, else arrays."""
    if tokenizer is not None:
        if isinstance(samples, str | bytes) or not isinstance(samples, Sequence):
            raise TypeError(f"samples must be a sequence of str, got {type(samples).__name__}")
        return TextProbe(model, samples, Path(tokenizer), num_threads)
    return ArrayProbe(open_session(model, num_threads=num_threads), samples)


class TextProbe:
    """A text model and texts."""

    def __init__(
        self, model: Path, texts: Sequence[str], tokenizer: Path, num_threads: int
    ) -> None:
        options = asdict(read_options(tokenizer.absolute().parent))
        self._encoder = TextEncoder(model, tokenizer, num_threads=num_threads, **options)
        self._texts, self.n_samples = texts, len(texts)

    def vectors(self, rows: NDArray[Any]) -> Float32Array:
        """Return the vector of each text, encoded alone, as of a query."""
        return np.stack([self.one(int(row)) for row in rows])

    def one(self, row: int) -> Float32Array:
        """Encode one text."""
        return self._encoder.encode_query(self._texts[row])

    def feeds(self, rows: NDArray[Any]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each text, alone."""
        for row in rows:
            tokens = self._encoder._query_tokens(self._texts[row])
            if tokens.ids:
                yield self._encoder._graph.feeds([tokens])[0]


class ArrayProbe:
    """A graph of rows and rows for it; of its outputs the first real one, flattened."""

    def __init__(self, session: Session, samples: Any) -> None:
        self._session = session
        if not isinstance(samples, Mapping):
            if len(session.inputs) != 1:
                listed = "; ".join(map(str, session.inputs))
                raise ValueError(f"samples must name the graph's inputs (use an .npz): {listed}")
            samples = {session.inputs[0].name: samples}
        self._arrays = {name: np.asarray(value) for name, value in samples.items()}
        counts = {array.shape[0] if array.ndim else -1 for array in self._arrays.values()}
        if len(counts) != 1 or -1 in counts:
            raise ValueError("samples must have the same number of rows in each array")
        self.n_samples = counts.pop()
        kinds = ("tensor(float)", "tensor(float16)", "tensor(double)")
        real = [i for i, port in enumerate(session.outputs) if port.kind in kinds]
        if not real:
            listed = "; ".join(map(str, session.outputs))
            raise ValueError(f"model must have a real output, it gives {listed}")
        self._taken = real[0]
        first = {port.shape[0] for port in session.inputs if port.shape}
        self._fixed = next((size for size in first if isinstance(size, int)), 0)

    def vectors(self, rows: NDArray[Any]) -> Float32Array:
        """Return (len(rows), dim), run as an encoder runs them."""
        step = 1 if shares_scales(self._session) else self._fixed or BATCH
        parts = []
        for start in range(0, len(rows), step):
            count = min(step, len(rows) - start)
            found = self._session.run(self._feed(rows[start : start + step]))[self._taken]
            parts.append(found.reshape(len(found), -1)[:count].astype(np.float32))
        return np.concatenate(parts)

    def one(self, row: int) -> Any:
        """Run one row, or the fixed number of rows that the graph takes."""
        return self._session.run(self._feed(np.array([row])))

    def feeds(self, rows: NDArray[Any]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield batches."""
        step = self._fixed or BATCH
        for start in range(0, len(rows), step):
            yield self._feed(rows[start : start + step])

    def _feed(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        if self._fixed:
            rows = rows[np.arange(self._fixed).clip(max=len(rows) - 1)]
        kinds = {port.name: port.dtype for port in self._session.inputs}
        return {
            name: np.ascontiguousarray(array[rows], dtype=_narrowed(array, kinds.get(name)))
            for name, array in self._arrays.items()
        }


def _narrowed(array: NDArray[Any], wanted: Any) -> Any:
    return wanted if array.dtype == np.float64 and wanted == np.float32 else array.dtype
