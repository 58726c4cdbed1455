"""implicit beside `benchmarks/online.py`: the same factors, the same events, BLAS on one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix


class Peer:
    """implicit 0.7 with the factors of a fitted `ALS`.

    Parameters
    ----------
    als : ALS
    matrix : csr_matrix (n_users, n_items)
        Who had what; the peer's own copy takes the events.
    threads : int
        Of `partial_fit_items`.
    """

    def __init__(self, als: Any, matrix: csr_matrix, threads: int) -> None:
        import threadpoolctl
        from implicit.cpu.als import AlternatingLeastSquares

        threadpoolctl.threadpool_limits(1, user_api="blas")
        self._threads = threads
        self._model = AlternatingLeastSquares(
            factors=als.factors, regularization=als.regularization, alpha=als.alpha, num_threads=1
        )
        self._model.user_factors = als.user_factors_.copy()
        self._model.item_factors = als.item_factors_.copy()
        self._rows = [
            dict(zip(matrix.indices[start:end], matrix.data[start:end], strict=True))
            for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        ]
        self._shape = matrix.shape
        _ = self._model.YtY  # what it keeps between calls is there before the first is timed

    def recalculate_user(self, row: csr_matrix) -> Any:
        """Return the factors of a user with this row."""
        return self._model.recalculate_user(0, row)

    def observe_and_recommend(self, user: int, item: int, k: int) -> list[int]:
        """Learn that a user chose an item; return the next list."""
        row = self._rows[user]
        row[item] = row.get(item, 0.0) + 1.0
        matrix = self._row(user)
        self._model.partial_fit_users([user], matrix)
        return self._list(user, matrix, k)

    def _list(self, user: int, matrix: csr_matrix, k: int) -> list[int]:
        ids, _ = self._model.recommend(user, matrix, N=k, filter_already_liked_items=True)
        found: list[int] = ids.tolist()
        return found

    def _row(self, user: int) -> csr_matrix:
        row = self._rows[user]
        items = np.fromiter(row, np.int32, len(row))
        weights = np.fromiter(row.values(), np.float32, len(row))
        return csr_matrix((weights, items, [0, len(row)]), shape=(1, self._shape[1]))

    def publish(self, items: Any) -> float:
        """Solve these items anew; return the seconds, those to gather their columns not counted."""
        lengths = [len(row) for row in self._rows]
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        indices = np.concatenate([np.fromiter(row, np.int32, len(row)) for row in self._rows])
        weights = np.concatenate(
            [np.fromiter(row.values(), np.float32, len(row)) for row in self._rows]
        )
        matrix = csr_matrix((weights, indices, indptr), shape=self._shape)
        columns = matrix.T.tocsr()[items]
        self._model.num_threads = self._threads
        start = time.perf_counter()
        self._model.partial_fit_items(items, columns)
        return time.perf_counter() - start

    def items(self, items: Any) -> Any:
        """Return the factors of some items."""
        return self._model.item_factors[items]
