"""Exact top-k of inner products by FlatIndex, NumPy and onnxruntime, and the truth in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array

Search = Callable[[Float32Array], Int64Array]
BLOCK = 1 << 17


def flat_index(vectors: Float32Array, k: int, num_threads: int) -> Search:
    """Return a search by recengine."""
    from recengine.retrieval import FlatIndex

    index = FlatIndex(vectors, metric="dot")
    return lambda queries: index.search(queries, k, num_threads=num_threads).ids


def by_numpy(vectors: Float32Array, k: int) -> Search:
    """Return matmul and argpartition; one query goes through the matrix-vector product."""

    def search(queries: Float32Array) -> Int64Array:
        one = len(queries) == 1
        scores = (vectors @ queries[0])[None] if one else queries @ vectors.T
        best = np.argpartition(scores, len(vectors) - k, axis=1)[:, len(vectors) - k :]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    return search


@contextmanager
def by_onnxruntime(vectors: Float32Array, k: int, num_threads: int) -> Iterator[Search]:
    """Yield MatMul and TopK, the vectors a constant of the graph so that they are packed once."""
    from recengine.runtime import open_session

    with TemporaryDirectory(prefix="recengine-") as folder:
        path = Path(folder) / "search.onnx"
        _write_graph(path, vectors, k)
        session = open_session(path, num_threads=num_threads)
        yield lambda queries: session.run({"queries": queries})[0]


def _write_graph(path: Path, vectors: Float32Array, k: int) -> None:
    """Write the graph; the vectors stand in a file beside it."""
    import onnx
    from onnx import TensorProto, helper

    n_items, dim = vectors.shape
    np.ascontiguousarray(vectors.T).tofile(path.with_name("items.bin"))
    items = TensorProto(
        name="items",
        data_type=TensorProto.FLOAT,
        dims=[dim, n_items],
        data_location=TensorProto.EXTERNAL,
    )
    items.external_data.add(key="location", value="items.bin")
    nodes = [
        helper.make_node("MatMul", ["queries", "items"], ["scores"]),
        helper.make_node("TopK", ["scores", "k"], ["best", "ids"]),
    ]
    graph = helper.make_graph(
        nodes,
        "search",
        [helper.make_tensor_value_info("queries", TensorProto.FLOAT, ["n", dim])],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", k])],
        [items, helper.make_tensor("k", TensorProto.INT64, [1], [k])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10  # read by every onnxruntime that is supported
    onnx.save(model, path)


def true_ids(
    vectors: Float32Array, queries: Float32Array, k: int
) -> tuple[Int64Array, Float64Array]:
    """Return (ids (n, k), all scores (n, n_items)) in float64: rounded score, then id."""
    scores = np.empty((len(queries), len(vectors)))
    wide = queries.astype(np.float64)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK].astype(np.float64)
        np.matmul(wide, part.T, out=scores[:, start : start + BLOCK])
    ids = np.empty((len(queries), k), np.int64)
    for row, values in enumerate(scores):
        rounded = values.astype(np.float32)
        floor = np.partition(rounded, len(rounded) - k)[len(rounded) - k]
        near = np.flatnonzero(rounded >= floor)
        ids[row] = near[np.lexsort((near, -rounded[near]))][:k]
    return ids, scores


def n_equal(found: Int64Array, truth: Int64Array, scores: Float64Array, rounding: Any) -> int:
    """Return how many places hold the true id; refuse differences that rounding cannot explain.

    Parameters
    ----------
    found, truth : ndarray (n, k), int64
    scores : ndarray (n, n_items), float64
    rounding : float
        The most by which a float32 score of the finder may be off; 0 asks for the same ids.

    Raises
    ------
    AssertionError
        Where another item stands whose score is further than that from the true one.
    """
    wrong = found != truth
    gap = np.abs(
        np.take_along_axis(scores, found, axis=1) - np.take_along_axis(scores, truth, axis=1)
    )
    beyond = wrong & (gap > 2 * rounding if rounding else True)
    if beyond.any():
        row, place = np.argwhere(beyond)[0]
        raise AssertionError(
            f"query {row}, place {place}: item {found[row, place]} instead of {truth[row, place]}, "
            f"{gap[row, place]:.2g} apart"
        )
    return int((~wrong).sum())
