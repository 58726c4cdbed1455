"""The schedule of finding neighbours: pairs laid out once, ranges of equal cost, heaps merged."""

from __future__ import annotations

from queue import SimpleQueue

import numpy as np

from recengine._types import Float32Array, Int32Array, Int64Array
from recengine.factorization._layout import lay_out
from recengine.factorization._likes import Likes
from recengine.factorization._progress import bar
from recengine.factorization._training import even_bounds
from recengine.factorization._workers import workers

_HEAP_BYTES = 2**30  # of all threads together


class _Heaps:
    """The best neighbours that one thread has met, of every row."""

    def __init__(self, n_rows: int, neighbours: int) -> None:
        self.names = np.empty((n_rows, neighbours), np.int32)
        self.scores = np.empty((n_rows, neighbours), np.float32)
        self.held = np.zeros(n_rows, np.int64)
        self.limits = np.full(n_rows, 5e-324)


def nearest(
    likes: Likes,
    weights: Float32Array,
    neighbours: int,
    cosine: bool,
    shrinkage: float,
    threads: int,
    label: str = "",
) -> tuple[Int64Array, Int32Array, Float32Array]:
    """Return the best `neighbours` other rows of each row as CSR (indptr, indices, scores).

    Parameters
    ----------
    likes : Likes (n_rows, n_columns)
    weights : ndarray (n_entries,), float32
        What its entries weigh; entries of weight 0 are dropped. Where not all are >= 0, those of
        a column must have one sign.
    neighbours : int, >= 0
    cosine : bool
        Divide the sum of products by the square root of the product of squared norms.
    shrinkage : float, >= 0
        Added to that root (to 1 unless `cosine`) before dividing.
    threads : int
    label : str
        Of the progress bar; none is drawn where it is empty.

    Returns
    -------
    tuple
        Indices ascend within a row. A similarity of 0 is no neighbour; score descending, then
        index ascending decides.

    Notes
    -----
    Σ n²/2 products over the columns' n entries, added in float64 in the order of the columns. 24
    bytes an entry (100 while they are laid out), and 8 n_rows neighbours for each thread,
    of which there are fewer where that would exceed 1 GiB.
    """
    from recengine.factorization import _neighbour_heaps
    from recengine.factorization import _neighbour_kernels as kernels

    n_rows = likes.shape[0]
    likes, weights = _without_zeros(likes, weights)
    # Rare rows first: the rarer row computes a pair, and its sums lie where popular rows are.
    pairs = lay_out(likes, weights, np.argsort(likes.counts, kind="stable"))
    norms = pairs.norms() if cosine else np.ones(n_rows)
    inverses = 1.0 / np.sqrt(np.where(norms > 0, norms, 1.0))
    neighbours = min(neighbours, max(n_rows - 1, 0))
    threads = max(1, min(threads, _HEAP_BYTES // max(1, 8 * n_rows * neighbours)))
    heaps = [_Heaps(n_rows, neighbours) for _ in range(threads)]
    idle: SimpleQueue[_Heaps] = SimpleQueue()
    for heap in heaps:
        idle.put(heap)

    def find(stop: int, start: int) -> None:
        mine = idle.get()
        try:
            kernels.find_neighbours(
                *pairs.layout,
                pairs.costs,
                norms,
                inverses,
                pairs.labels,
                shrinkage,
                mine.names,
                mine.scores,
                mine.held,
                mine.limits,
                start,
                stop,
            )
        finally:
            idle.put(mine)
        advance()

    def merge(start: int, stop: int) -> None:
        first = heaps[0]
        for other in heaps[1:]:
            _neighbour_heaps.merge_heaps(
                first.names,
                first.scores,
                first.held,
                other.names,
                other.scores,
                other.held,
                start,
                stop,
            )

    bounds = pairs.bounds()
    with workers(threads) as team, bar(label, len(bounds) - 1, bool(label)) as advance:
        if neighbours:
            team.run(find, bounds[::-1])  # rows with many entries first, as in a range
            team.run(merge, even_bounds(n_rows))
    return _as_csr(heaps[0], pairs.labels)


def _without_zeros(likes: Likes, weights: Float32Array) -> tuple[Likes, Float32Array]:
    kept = weights != 0
    if kept.all():
        return likes, weights
    before = np.concatenate([[0], np.cumsum(kept)])
    indptr = before[likes.indptr]
    return (
        Likes(likes.shape, indptr, likes.indices[kept], likes.confidences[kept]),
        weights[kept],
    )


def _as_csr(heaps: _Heaps, labels: Int32Array) -> tuple[Int64Array, Int32Array, Float32Array]:
    n_rows, width = heaps.names.shape
    rank = np.empty(n_rows, np.int64)
    rank[labels] = np.arange(n_rows)
    names, scores, held = heaps.names[rank], heaps.scores[rank], heaps.held[rank]
    taken = np.arange(width) < held[:, None]
    names[~taken] = np.iinfo(np.int32).max
    order = np.argsort(names, axis=1)
    indices = np.take_along_axis(names, order, 1)[taken]
    return (
        np.concatenate([[0], np.cumsum(held)]),
        indices,
        np.take_along_axis(scores, order, 1)[taken],
    )
