"""`OnnxEncoder`: any graph that turns named arrays into one vector a row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from recengine._types import Float32Array
from recengine._validation import check_finite
from recengine.encoders.encoder import OnGraph
from recengine.encoders.rows import RowGraph
from recengine.encoders.running import MOST_TEXTS, Countdown, rows_a_run
from recengine.runtime import Port, open_session


class OnnxEncoder(OnGraph):
    """A graph from named arrays to vectors: a tower, an image or audio encoder, a projection.

    Parameters
    ----------
    path : path
        An ``.onnx`` file. Every input has the rows of the batch as its first axis.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    output : str, optional
        What to take, (n, dim) and real: an output of the graph, or any tensor inside it, such as
        the code between the halves of an autoencoder. What does not lead to it is cut off and
        never runs (by the package `onnx`). The first output when omitted.
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
        If the graph has no such tensor; the message lists those it has.

    Notes
    -----
    Immutable; `encode` may be called from many threads. Fork and pickle are safe: the graph is
    opened and cut anew from its path, and refused if its digest changed.

    Examples
    --------
    >>> encoder = OnnxEncoder("tower.onnx")  # doctest: +SKIP
    >>> vectors = encoder.encode({"genres": genres, "year": years})  # doctest: +SKIP
    >>> encoder = OnnxEncoder("autoencoder.onnx", output="code")  # doctest: +SKIP
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
        self._session = open_session(path, device, num_threads, runtime, output)
        self._graph = RowGraph(self._session, normalize)
        self.normalize = normalize

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the graph takes: name, dtype and shape of each input that `output` needs."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the graph gives; `output` alone, where one was asked for."""
        return self._session.outputs

    @property
    def digest(self) -> str:
        """SHA-256 of the model file; with an `output`, of that digest and the name."""
        session = self._session
        if session.output is None:
            return session.digest
        return hashlib.sha256(f"{session.digest} {session.output}".encode()).hexdigest()

    @property
    def dim(self) -> int | None:
        """Length of a vector; None where only a run can tell."""
        return self._graph.dim

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph once on whole arrays.

        Parameters
        ----------
        feeds : mapping of str to array
            One array for each input.

        Returns
        -------
        dict of str to ndarray
            Each of `outputs` by name, as the graph gives it.
        """
        names = [port.name for port in self.outputs]
        return dict(zip(names, self._session.run(feeds), strict=True))

    def encode(
        self,
        arrays: Mapping[str, Any] | Any,
        batch_size: int | None = None,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Float32Array:
        """Encode rows in batches.

        Parameters
        ----------
        arrays : mapping of str to array (n, ...)
            One array for each input, rows alike; a bare array for a graph with one input.
        batch_size : int, optional
            Rows a run, 64 when omitted. A graph with a fixed first axis takes that many instead,
            the last batch filled up with copies of its last row. A dynamically quantized graph
            takes 1, also when omitted, and no more: its scales are those of a whole run.
        progress : bool
            Show a progress bar on standard error.
        timeout : float, optional
            Seconds, > 0, for all of it; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of the rows.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or dtypes do not fit, or the graph gives NaN or infinity.
        DeadlineError
            If `timeout` ran out; the encoder stays usable.
        """
        batch_size = rows_a_run(self._session, batch_size, MOST_TEXTS)
        vectors = self._graph.vectors(arrays, batch_size, Countdown(timeout), shown=progress)
        return check_finite(f"the output of {self._session.path.name}", vectors)

    def warm_up(self, requests: Iterable[Mapping[str, Any]]) -> None:
        """Run requests and drop their results, so that later ones of their shapes do not stall.

        Parameters
        ----------
        requests : iterable of mappings
            Feeds as of `run`: one for each number of rows that will come, the largest first, or
            requests on record.

        Raises
        ------
        ValueError, TypeError
            As `run`; also if there are no requests.
        """
        self._session.warm_up(requests)
