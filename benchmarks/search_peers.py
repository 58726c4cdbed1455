"""Exact top-k as other libraries do it on a CPU, each at its best settings.

Every peer takes the inner product of prepared vectors: rows scaled to length 1 for cosine; for l2
one more column, −|x|²/2 beside a 1 in the query, which orders as the distance does (faiss has its
own L2 index instead). A peer is a function of the whole batch that returns ids (n_queries, k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Search = Callable[[], np.ndarray]
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


def peers(
    names: list[str], metric: str, queries: np.ndarray, items: np.ndarray, k: int, threads: int
) -> Iterator[tuple[str, Search]]:
    """Yield (label, search) of each peer asked for; faiss gives two."""
    q, x = prepared(metric, queries, items)
    shared: tuple[Any, ...] = (q, x, k, threads)
    for name in names:
        if name == "numpy":
            yield "numpy", numpy_peer(q, x, k)
        elif name == "onnxruntime":
            yield "onnxruntime", onnxruntime_peer(*shared)
        elif name == "implicit":
            yield "implicit", implicit_peer(*shared)
        else:
            plain = (queries, items) if metric == "l2" else (q, x)
            yield "faiss-blas", faiss_peer(metric, *plain, k, threads, 1)
            yield "faiss-simd", faiss_peer(metric, *plain, k, threads, 2**31 - 1)
