"""Means over the windows of sounds, while windows of several sounds share a run of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float64Array, Int64Array
from recengine.encoders.audio_graph import AudioGraph
from recengine.encoders.running import UNLIMITED, Countdown
from recengine.encoders.skipping import Encoded, encoded
from recengine.encoders.windows import Stretch


class SoundMeans:
    """Adds up window vectors by sound; at most `batch_size` windows a run.

    A window counts by the share of it that is sound and not padding. Sums are float64 and taken in
    the order of the windows, so a mean depends on its own windows alone.
    """

    def __init__(
        self, graph: AudioGraph, batch_size: int, countdown: Countdown = UNLIMITED
    ) -> None:
        self._graph, self._batch_size, self._countdown = graph, batch_size, countdown
        self._names: list[str] = []
        self._sums: list[Float64Array] = []  # of each sound: its vectors, then their weight
        self._skipped: dict[int, str] = {}
        self._waiting: list[tuple[NDArray[Any], Float64Array, Int64Array]] = []
        self._n_waiting = 0

    @property
    def windows_a_stretch(self) -> int:
        """Windows that go through the front end in one run."""
        return self._graph.stretch

    def begin(self, name: str) -> None:
        """Begin the next sound, which messages call `name`."""
        self._names.append(name)
        self._sums.append(np.zeros(self._graph.dim + 1))

    def add(self, stretch: Stretch) -> None:
        """Add windows of the sound begun last, running the graph on all full batches."""
        owners = np.full(len(stretch.shares), len(self._names) - 1, np.int64)
        windows = self._graph.windows(stretch, self._countdown)
        self._waiting.append((windows, stretch.shares, owners))
        self._n_waiting += len(owners)
        if self._n_waiting >= self._batch_size:
            self._run(self._n_waiting - self._n_waiting % self._batch_size)

    def skip(self, reason: str) -> None:
        """Leave the sound begun last without a vector."""
        self._skipped[len(self._names) - 1] = reason

    def finish(self) -> Encoded:
        """Run the graph on what is left; return the mean of each sound."""
        self._run(self._n_waiting)
        vectors = np.zeros((len(self._sums), self._graph.dim), np.float32)
        for index, total in enumerate(self._sums):
            if index in self._skipped:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                vectors[index] = total[:-1] / total[-1]
            if not np.isfinite(vectors[index]).all():
                model = self._graph.model.path.name
                self._skipped[index] = f"{self._names[index]} makes {model} give NaN or infinity"
        return encoded(vectors, self._skipped)

    def _run(self, n_windows: int) -> None:
        """Run the graph on the first `n_windows` that wait."""
        if n_windows == 0:
            return
        windows, shares, owners = (
            np.concatenate(parts) for parts in zip(*self._waiting, strict=True)
        )
        for start in range(0, n_windows, self._batch_size):
            batch = slice(start, min(start + self._batch_size, n_windows))
            vectors = self._graph.vectors(windows[batch], self._countdown)
            for owner, vector, share in zip(owners[batch], vectors, shares[batch], strict=True):
                with np.errstate(invalid="ignore"):
                    self._sums[owner][:-1] += vector * share
                self._sums[owner][-1] += share
        rest = slice(n_windows, None)
        self._waiting = [(windows[rest].copy(), shares[rest].copy(), owners[rest].copy())]
        self._n_waiting -= n_windows
