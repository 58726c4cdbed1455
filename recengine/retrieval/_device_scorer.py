"""`Scorer`: the session of a scoring graph, and that of the encoder joined with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine.retrieval._device_graph import (
    LARGEST,
    LEAST,
    N_KEPT,
    OUTPUTS,
    PREFIX,
    QUERIES,
    Shape,
    joined,
    library,
    scorer,
)
from recengine.retrieval._device_table import Laid
from recengine.retrieval._segment import frozen
from recengine.runtime import Port, Session, open_session

RUNGS = (32, 128, 512, 2048)  # how many items the device gives for a query
MOST_KEPT = RUNGS[-1]
MOST_QUERIES = 256  # of a run: its scores of a tile are so many rows


class Found(NamedTuple):
    """What one run gave: see `_device_graph.scorer`; `queries` are those that were scored."""

    values: Float32Array
    rows: Int64Array
    scaled: Float32Array
    scale: float
    queries: Float32Array


class Scorer:
    """Sessions over placed tiles.

    Parameters
    ----------
    shape : Shape
        Its `n_tiles` grows with the catalogue.
    device, num_threads, runtime
        As of `open_session`.
    encoder : path, optional
        A graph from named arrays to queries, joined with the scorer.
    output : str, optional
        Its output; the first one when omitted.

    Notes
    -----
    A graph is made for a power of two of tiles; those that hold no items are bound to one that
    hides all its rows. So a catalogue may double before a graph is made anew. That takes
    milliseconds without an encoder, whose weights are the only ones there are.
    """

    def __init__(
        self,
        shape: Shape,
        device: str,
        num_threads: int | None,
        runtime: Mapping[str, Any] | None,
        encoder: str | os.PathLike[str] | None,
        output: str | None,
    ) -> None:
        _check_options(runtime)
        if output is not None and encoder is None:
            raise ValueError(f"output must go with an encoder, got {output!r}")
        self._shape, self._asked = shape, (device, num_threads, runtime)
        self._sessions: dict[tuple[int, bool], Session] = {}
        self._opening = threading.Lock()
        self._encoder: Any = None
        self.inputs: tuple[Port, ...] = ()
        if encoder is not None:
            self._encoder, self._output = _read(Path(encoder), output, shape.dim)
        self.plain = self._session(1, joined_too=False)
        empty = np.zeros((MOST_KEPT, shape.dim), shape.storage)
        self._no_items = self.plain.place(frozen(empty))
        self._hidden = self.plain.place(frozen(np.full(MOST_KEPT, -np.inf, np.float32)))
        if self._encoder is not None:
            ports = self._session(1, joined_too=True).inputs
            self.inputs = tuple(port for port in ports if not port.name.startswith(PREFIX))

    def run(self, laid: Laid, queries: Float32Array, n_kept: int, timeout: float | None) -> Found:
        """Score queries (n, dim), n > 0, and return the best `n_kept`, a rung."""
        session = self._session(len(laid.table.tiles), joined_too=False)
        feeds = {QUERIES: queries, **self._beside(laid, n_kept)}
        values, rows, scaled, scale = session.run(feeds, timeout)
        return Found(values, rows, scaled, float(scale), queries)

    def encode(
        self,
        laid: Laid | None,
        feeds: Mapping[str, NDArray[Any]],
        n_kept: int,
        timeout: float | None,
    ) -> Found:
        """Encode queries and score them in one run; without items they are only encoded."""
        n_tiles = 1 if laid is None else len(laid.table.tiles)
        session = self._session(n_tiles, joined_too=True)
        placed = {PREFIX + name: value for name, value in self._beside(laid, n_kept).items()}
        found = session.run({**feeds, **placed}, timeout)
        by_name = {port.name: value for port, value in zip(session.outputs, found, strict=True)}
        values, rows, scaled, scale = (by_name[PREFIX + name] for name in OUTPUTS)
        return Found(values, rows, scaled, float(scale), by_name[self._output])

    def _beside(self, laid: Laid | None, n_kept: int) -> dict[str, Any]:
        """Return the feeds beside the queries, empty tiles at the end."""
        tiles, parts = ([], []) if laid is None else (laid.table.tiles, laid.added.parts)
        largest = np.float32(LEAST) if laid is None else laid.added.largest
        feeds: dict[str, Any] = {N_KEPT: np.array([n_kept]), LARGEST: largest}
        for number in range(_capacity(len(tiles))):
            here = number < len(tiles)
            feeds[f"items_{number}"] = tiles[number] if here else self._no_items
            feeds[f"added_{number}"] = parts[number] if here else self._hidden
        return feeds

    def _session(self, n_tiles: int, *, joined_too: bool) -> Session:
        capacity = _capacity(n_tiles)
        key = (capacity, joined_too)
        session = self._sessions.get(key)
        if session is not None:
            return session
        with self._opening:
            session = self._sessions.get(key)
            if session is None:
                shape = self._shape._replace(n_tiles=capacity)
                built = joined(self._encoder, self._output, shape) if joined_too else scorer(shape)
                session = open_session(built, *self._asked)
                for smaller in [each for each in self._sessions if each[0] < capacity]:
                    del self._sessions[smaller]
                self._sessions[key] = session
        return session

    def renew_lock(self) -> None:
        """Begin with a free lock in a forked child."""
        self._opening = threading.Lock()


def _capacity(n_tiles: int) -> int:
    return 1 << max(0, n_tiles - 1).bit_length()


def _check_options(runtime: Mapping[str, Any] | None) -> None:
    given = runtime if isinstance(runtime, Mapping) else {}
    if given.get("cuda_graph"):
        raise ValueError("runtime['cuda_graph'] must not be set: tiles are placed")
    if given.get("tensorrt") is not None:
        raise ValueError(
            "runtime['tensorrt'] must not be set: it may round products to TF32, which the proof "
            "of an answer does not allow"
        )


def _read(path: Path, output: str | None, dim: int) -> tuple[Any, str]:
    """Return an encoder as a model, and which of its outputs are the queries."""
    if not path.is_file():
        raise FileNotFoundError(f"encoder must be an ONNX file, there is none at {path}")
    ports = open_session(path, "cpu", 1).outputs
    names = [port.name for port in ports]
    if output is not None and output not in names:
        raise ValueError(f"output must be one of {', '.join(names)}, got {output!r}")
    port = ports[0 if output is None else names.index(output)]
    fits = port.kind == "tensor(float)" and len(port.shape) in (0, 2)
    if not fits or (port.shape and isinstance(port.shape[1], int) and port.shape[1] != dim):
        raise ValueError(f"encoder must give queries float32 [n, {dim}], got {port}")
    return library().load(path), port.name
