"""Exact top-k as other libraries do it on a CPU, each at its best settings.

Every peer takes the inner product of prepared vectors: rows scaled to length 1 for cosine; for l2
one more column, −|x|²/2 beside a 1 in the query, which orders as the distance does (faiss and
usearch have their own L2). A peer is a function of the whole batch that returns ids (n_queries, k).

Filters: `allow` and `deny` give a peer the matrix of only the rows that are left, gathered
beforehand, so that none pays for its own mask; for `seen` it returns n_seen more and what was seen
is dropped, which costs less than the mask of any of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Search = Callable[[], np.ndarray]
Engine = Callable[[], tuple[float, Any]]  # returns (milliseconds, answer)
PEERS = ("onnxruntime", "implicit", "faiss", "numpy", "usearch")
NUMPY_CORE = "SkylakeX"  # the OpenBLAS kernels that are the fastest where AVX-512 is
FAISS_BLAS = 128_000  # queries × dim from which faiss takes its BLAS path by itself
SCORE_BYTES = 2**30  # of the score matrix that a peer may hold at once


def prepared(metric: str, queries: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 (queries, items) whose inner products order as the metric does."""
    if metric == "cosine":
        return _unit(queries), _unit(items)
    if metric == "l2":
        half = -0.5 * np.einsum("ij,ij->i", items, items, dtype=np.float64)
        ones = np.ones((len(queries), 1), np.float32)
        return np.hstack([queries, ones]), np.hstack([items, half[:, None].astype(np.float32)])
    return queries, items


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.ascontiguousarray(rows * scale[:, None].astype(np.float32))


def _chunks(queries: np.ndarray, n_items: int, most: int = 1 << 30) -> list[np.ndarray]:
    size = max(1, min(most, SCORE_BYTES // (4 * n_items)))
    return [queries[start : start + size] for start in range(0, len(queries), size)]


def numpy_peer(queries: np.ndarray, items: np.ndarray, k: int) -> Search:
    """Return matmul + argpartition, 32 queries at a time (faster than one large product)."""
    chunks, transposed = _chunks(queries, len(items), 32), items.T

    def search() -> np.ndarray:
        found = []
        for chunk in chunks:
            scores = chunk @ transposed
            part = np.argpartition(scores, len(items) - k, axis=1)[:, len(items) - k :]
            order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
            found.append(np.take_along_axis(part, order, axis=1))
        return np.concatenate(found)

    return search


def onnxruntime_peer(queries: np.ndarray, items: np.ndarray, k: int, threads: int) -> Search:
    """Return MatMul + TopK on the CPU provider, the items a constant that MLAS packs once."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["q", "x"], ["s"]),
            helper.make_node("TopK", ["s", "k"], ["values", "ids"], axis=-1),
        ],
        "search",
        [helper.make_tensor_value_info("q", TensorProto.FLOAT, [None, queries.shape[1]])],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [None, k])],
        [
            numpy_helper.from_array(np.ascontiguousarray(items.T), "x"),
            numpy_helper.from_array(np.array([k]), "k"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    chunks = _chunks(queries, len(items))
    return lambda: np.concatenate([session.run(["ids"], {"q": chunk})[0] for chunk in chunks])


def implicit_peer(queries: np.ndarray, items: np.ndarray, k: int, threads: int) -> Search:
    """Return the top-k that implicit's models answer with."""
    from implicit.cpu.topk import topk

    return lambda: topk(items, queries, k, num_threads=threads)[0]


def faiss_peer(
    metric: str, queries: np.ndarray, items: np.ndarray, k: int, threads: int, threshold: int
) -> Search:
    """Return a Flat index; from `threshold` queries × dim on, faiss takes its BLAS path."""
    import faiss

    index = (faiss.IndexFlatL2 if metric == "l2" else faiss.IndexFlatIP)(items.shape[1])
    index.add(items)

    def search() -> np.ndarray:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = threshold
        return index.search(queries, k)[1]

    return search


def usearch_peer(
    metric: str, queries: np.ndarray, items: np.ndarray, k: int, threads: int
) -> Search:
    """Return usearch's exact search, which needs 16 bytes a pair: in pieces of a batch."""
    from usearch.index import MetricKind
    from usearch.index import search as exact

    kind = MetricKind.L2sq if metric == "l2" else MetricKind.IP
    chunks = _chunks(queries, 4 * len(items))

    def search() -> np.ndarray:
        parts = [exact(items, chunk, k, kind, exact=True, threads=threads) for chunk in chunks]
        return np.concatenate([part.keys.reshape(-1, k).astype(np.int64) for part in parts])

    return search


def unseen(found: np.ndarray, seen: np.ndarray, k: int, n_items: int) -> np.ndarray:
    """Return the first k of each row of `found` that are not in the same row of `seen`."""
    offset = np.arange(len(found))[:, None] * n_items
    keys, known = found + offset, (seen + offset).ravel()
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    order = np.argsort(known[place] == keys, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1)


def clocked(search: Callable[[], Any]) -> Engine:
    """Return `search` with the milliseconds it takes."""

    def timed() -> tuple[float, Any]:
        started = time.perf_counter()
        found = search()
        return 1e3 * (time.perf_counter() - started), found

    return timed


def _filtered(search: Search, rows: Any, seen: Any, k: int, n_items: int) -> Search:
    if rows is not None:
        return lambda: rows[search()]
    if seen is not None:
        return lambda: unseen(search(), seen, k, n_items)
    return search


def wants_other_core() -> bool:
    """Tell whether NumPy's OpenBLAS chose other kernels than the AVX-512 ones of this CPU."""
    import threadpoolctl

    cores = {
        library.get("architecture")
        for library in threadpoolctl.threadpool_info()
        if library["internal_api"] == "openblas" and "numpy" in library["filepath"]
    }
    info = Path("/proc/cpuinfo")
    return bool(cores) and NUMPY_CORE not in cores and "avx512bw" in info.read_text()


@contextlib.contextmanager
def peers(
    names: list[str],
    metric: str,
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    threads: int,
    *,
    rows: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> Iterator[dict[str, Engine]]:
    """Give label -> engine of each peer asked for; faiss and NumPy may give two."""
    items_left = items if rows is None else np.ascontiguousarray(items[rows])
    n_wanted = k + (0 if seen is None else seen.shape[1])
    q, x = prepared(metric, queries, items_left)
    own = (queries, items_left) if metric == "l2" else (q, x)  # for those that have an L2
    searches: dict[str, Search] = {}
    engines: dict[str, Engine] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == "numpy":
                searches["numpy"] = numpy_peer(q, x, n_wanted)
                if rows is None and seen is None and wants_other_core():
                    from search_remote import RemoteNumpy

                    remote = RemoteNumpy(NUMPY_CORE, q, x, k)
                    stack.callback(remote.close)
                    engines[f"numpy-{NUMPY_CORE}"] = remote
            elif name == "onnxruntime":
                searches["onnxruntime"] = onnxruntime_peer(q, x, n_wanted, threads)
            elif name == "implicit":
                searches["implicit"] = implicit_peer(q, x, n_wanted, threads)
            elif name == "usearch":
                searches["usearch"] = usearch_peer(metric, *own, n_wanted, threads)
            else:
                searches["faiss-blas"] = faiss_peer(metric, *own, n_wanted, threads, 1)
                if q.size < FAISS_BLAS:
                    searches["faiss"] = faiss_peer(metric, *own, n_wanted, threads, FAISS_BLAS)
        for label, search in searches.items():
            engines[label] = clocked(_filtered(search, rows, seen, k, len(items)))
        yield engines
