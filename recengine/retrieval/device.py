"""DeviceIndex: the exact answers of a `FlatIndex`, scored by an ONNX graph on its device."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array, TopK
from recengine._validation import as_choice, as_count, as_queries, check_finite
from recengine.retrieval import _request
from recengine.retrieval._device_answer import (
    COUNTERS,
    Asked,
    ask,
    by_device,
    by_index,
    is_for_the_index,
    rungs,
)
from recengine.retrieval._device_graph import Shape
from recengine.retrieval._device_scorer import MOST_KEPT, MOST_QUERIES, RUNGS, Scorer
from recengine.retrieval._device_table import Added, Laid, Table, added_to, laid_out
from recengine.retrieval._generation import Generation
from recengine.retrieval.filters import Filter
from recengine.retrieval.flat import FlatIndex
from recengine.retrieval.predicate import Predicate
from recengine.runtime import Port

STORAGES = ("float32", "float16")
TILE_ROWS = 1 << 16


class DeviceIndex:
    """Search a `FlatIndex` on a GPU, with the same answers, bit by bit.

    The device scores all items in float32, tile by tile, and gives a few more candidates than were
    asked for. Those are scored anew by the index, exactly; a bound on what the device may have
    rounded then proves that no item outside is better. Where it does not, the device gives more
    candidates, and at last the index answers itself.

    Parameters
    ----------
    index : FlatIndex
        Lives on: `upsert`, `delete` and `compact` of it are known to the next search here.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
        The CPU runs the same graph: for tests, since `FlatIndex` is the faster one there.
    storage : {"float32", "float16"}
        How items lie on the device. In float16 they take half the memory; what they lose is
        measured, part of the bound, and never seen in an answer.
    encoder : path, optional
        An ``.onnx`` graph from named arrays, rows first, to queries float32 (n, dim): a user tower.
        It is joined with the scorer, so that `search` takes its inputs, and users go from one to
        the other on the device.
    output : str, optional
        The encoder's output to take; the first one when omitted.
    tile_rows : int
        Items scored at once, >= 2,048; what a run needs is in proportion to it.
    num_threads : int, optional
        Threads of the graph on the CPU; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them, but for
        cuda_graph and tensorrt.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; ImportError also without `onnx`.
    ValueError, TypeError
        If an option is unknown or unfit, or the encoder gives no queries of the index's dim.

    Notes
    -----
    Items are inputs of the graph: after a compaction the next search lays the new ones on the
    device, in O(n_items dim), and the graph stays. Items that were added since are scored by the
    index and merged. `bytes_needed` says what lies on the device.

    May be used from many threads. A forked child goes on on the CPU; CUDA refuses it.
    """

    def __init__(
        self,
        index: FlatIndex,
        device: str = "cpu",
        storage: str = "float32",
        *,
        encoder: str | os.PathLike[str] | None = None,
        output: str | None = None,
        tile_rows: int = TILE_ROWS,
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(index, FlatIndex):
            raise TypeError(f"index must be a FlatIndex, got {type(index).__name__}")
        as_choice("storage", storage, STORAGES)
        self._tile_rows = as_count("tile_rows", tile_rows, minimum=MOST_KEPT)
        self._index, self._storage = index, storage
        shape = Shape(index.dim, index.metric == "cosine", storage, 1, self._tile_rows)
        self._scorer = Scorer(shape, device, num_threads, runtime, encoder, output)
        self._table: Table | None = None
        self._added: tuple[tuple[Any, ...], Added] | None = None
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._laying = threading.Lock()
        _all.add(self)

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        exclude: Any = None,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: Filter | None = None,
        bias: Any = None,
        min_score: float | None = None,
        num_threads: int | None = None,
        timeout: float | None = None,
    ) -> TopK:
        """Return the best k items of each query, as ``index.search`` does.

        Parameters
        ----------
        queries : array_like (dim,) or (n_queries, dim); with an encoder a mapping
            Finite real numbers, read as float32. With an encoder one array (n_queries, ...) for
            each of `inputs`.
        k, exclude, allow, deny, where, filter, bias, min_score
            As of `FlatIndex.search`.
        num_threads : int, optional
            Threads that score candidates exactly; one when omitted.
        timeout : float, optional
            Seconds, > 0.

        Returns
        -------
        TopK
            Equal to that of ``index.search``: ids, order and score bits.

        Raises
        ------
        DeadlineError
            If `timeout` ran out: there is no partial answer.
        ValueError, TypeError
            As `FlatIndex.search`; or what the encoder takes is missing or does not fit.

        Notes
        -----
        The device scores all items, whatever the filters leave; where they leave few, or k is
        above 2,000, the index answers instead. A filter or bias of a call is laid on the device for
        it, 4 bytes an item; that of the last call stays there for the next.
        """
        now = self._index._live.generation
        if self.inputs:
            feeds, table, single = self._feeds(queries), None, False
            n_queries = len(next(iter(feeds.values())))
        else:
            table, single = as_queries("queries", queries, dim=now.dim)
            feeds, n_queries = {}, len(table)
        asked = ask(
            self._index,
            now,
            n_queries,
            k,
            single=single,
            exclude=exclude,
            allow=allow,
            deny=deny,
            where=where,
            filter=filter,
            bias=bias,
            min_score=min_score,
            num_threads=num_threads,
            timeout=timeout,
        )
        counts = dict.fromkeys(COUNTERS, 0) | {"searches": 1, "queries": n_queries}
        ordinals = np.empty((n_queries, asked.k), np.int64)
        scores = np.empty((n_queries, asked.k), np.float32)
        for first in range(0, n_queries, MOST_QUERIES):
            rows = slice(first, min(first + MOST_QUERIES, n_queries))
            ordinals[rows], scores[rows] = self._answer(now, asked, rows, table, feeds, counts)
        self._count(counts)
        return _request.answer(now, ordinals, scores, single=single)

    def _answer(
        self,
        now: Generation,
        asked: Asked,
        rows: slice,
        table: Float32Array | None,
        feeds: dict[str, NDArray[Any]],
        counts: dict[str, int],
    ) -> tuple[Int64Array, Float32Array]:
        """Answer some queries of a call: rows of `table`, or of the encoder's `feeds`."""
        for_index = is_for_the_index(now, asked)
        laid = None if for_index else self._laid_out(now, asked)
        found = None
        if table is None:
            some = {name: array[rows] for name, array in feeds.items()}
            found = self._scorer.encode(laid, some, rungs(asked, rows)[0], asked.left())
            queries = check_finite("the output of the encoder", found.queries)
        else:
            queries = table[rows]
        if laid is None:
            counts["by_index"] += len(queries)
            return by_index(now, queries, asked, rows)
        return by_device(now, self._scorer, laid, asked, rows, queries, found, counts)

    def _laid_out(self, now: Generation, asked: Asked) -> Laid:
        """Return what lies on the device for a state and a call, laid there if it does not yet."""
        mask, bias = asked.selection.words, asked.bias
        with self._laying:
            table = self._table
            if table is None or table.base is not now.base:
                self._table = self._added = None  # first, so that two tables need not fit
                table = self._table = laid_out(
                    self._scorer.plain,
                    now.base,
                    now.metric,
                    self._storage,
                    self._tile_rows,
                    MOST_KEPT,
                )
            key = (now.base_alive, mask, bias)
            kept = self._added
            if kept is None or any(a is not b for a, b in zip(kept[0], key, strict=True)):
                added = added_to(self._scorer.plain, table, now, mask, bias)
                kept = self._added = (key, added)
            return Laid(table, kept[1])

    def _feeds(self, queries: Any) -> dict[str, NDArray[Any]]:
        """Return the encoder's inputs as arrays of so many rows each."""
        names = [port.name for port in self.inputs]
        if not isinstance(queries, Mapping) or set(queries) != set(names):
            got = sorted(map(str, queries)) if isinstance(queries, Mapping) else type(queries)
            listed = "; ".join(map(str, self.inputs))
            raise ValueError(f"queries must name the inputs of the encoder: {listed}; got {got}")
        feeds = {name: np.asarray(queries[name]) for name in names}
        counts = {array.shape[0] if array.ndim else -1 for array in feeds.values()}
        if len(counts) != 1 or -1 in counts:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            raise ValueError(f"queries must have the same number of rows, got {shapes}")
        return feeds

    def warm_up(self, requests: Iterable[Any] | None = None) -> None:
        """Lay the items on the device and search, so that no later search waits for that.

        Parameters
        ----------
        requests : iterable, optional
            Queries as of `search`, the largest batch first. When omitted, a batch of 256 and a
            single query are run; with an encoder they must be given.
        """
        if requests is None:
            if self.inputs:
                raise ValueError("requests must be given with an encoder, got None")
            requests = [np.ones((n, self.dim), np.float32) for n in (MOST_QUERIES, 1)]
        for queries in requests:
            self.search(queries)

    def bytes_needed(self, n_queries: int = 1, k: int = 10) -> dict[str, int]:
        """Return the bytes of device memory that items and one search take.

        Parameters
        ----------
        n_queries, k : int
            Of the search, without a filter or bias of its own.

        Returns
        -------
        dict
            ``items``, what is ``added`` to scores, what a ``run`` takes (scores of one tile, the
            candidates; on the CPU twice as much, since the arena grows by powers of two), and their
            ``total``. An encoder comes on top, and what CUDA takes for itself. On the CPU float32
            items under dot and l2 are the memory of the index, all but a last tile of few.
        """
        n = min(as_count("n_queries", n_queries), MOST_QUERIES)
        kept = next(rung for rung in RUNGS if rung >= min(k + 8, MOST_KEPT))
        n_rows = self._index._live.generation.base.n_rows
        n_full = max(0, -(-n_rows // self._tile_rows) - 1)
        n_rows = n_full * self._tile_rows + max(n_rows - n_full * self._tile_rows, MOST_KEPT)
        tile, dim = min(n_rows, self._tile_rows), self.dim
        candidates = 2 * (n_full + 2) * kept * 12  # values and rows, of tiles and joined
        run = n * (4 * tile + 12 * dim + candidates) + 4 * tile
        if self._storage == "float16":
            run += tile * dim * 4  # it is cast
        if self.device == "cpu":
            run *= 2
        items = n_rows * dim * np.dtype(self._storage).itemsize
        found = {"items": items, "added": n_rows * 4, "run": run}
        return found | {"total": sum(found.values())}

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the encoder takes; empty without one."""
        return self._scorer.inputs

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:N"."""
        return self._scorer.plain.device

    @property
    def reason(self) -> str:
        """Why it runs there."""
        return self._scorer.plain.reason

    @property
    def index(self) -> FlatIndex:
        """The index whose items are searched."""
        return self._index

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self._index.dim

    @property
    def storage(self) -> str:
        """How items lie on the device: "float32" or "float16"."""
        return self._storage

    @property
    def stats(self) -> dict[str, int]:
        """What the searches of this object did so far.

        ``searches`` and ``queries`` count calls and their queries. ``proved`` are queries that the
        device answered, ``by_index`` those that the index did; ``grown`` counts how often a query
        needed more candidates.
        """
        return dict(self._counts)

    def _count(self, counts: dict[str, int]) -> None:
        with self._laying:
            for name, n in counts.items():
                self._counts[name] += n

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"DeviceIndex({self._index!r}, device={self.device!r}, storage={self._storage!r})"


_all: weakref.WeakSet[DeviceIndex] = weakref.WeakSet()


def _renew_locks() -> None:
    """Give a forked child free locks: the thread that held one was left behind."""
    for each in list(_all):
        each._laying = threading.Lock()
        each._scorer.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
