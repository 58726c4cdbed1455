"""recengine as an algorithm of the ann-benchmarks suite (github.com/erikbern/ann-benchmarks).

Copy this file to ``ann_benchmarks/algorithms/recengine/module.py`` beside a Dockerfile that
installs recengine, and `config.yml` of this folder with it. The suite asks for the methods below
and nothing more, so there is no base class to import. Answers are exact: recall is 1 at every
point, and the only argument is the number of threads that a batch may use.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import numpy as np

import recengine as rec

METRICS = {"angular": "cosine", "euclidean": "l2"}


class Recengine:
    """A `FlatIndex` under the names that the suite calls.

    Parameters
    ----------
    metric : {"angular", "euclidean"}
        The suite's name of the distance.
    """

    def __init__(self, metric: str) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
        self._metric = METRICS[metric]
        self._index: rec.FlatIndex | None = None
        self._found: Any = None
        self.set_query_arguments(1)

    def set_query_arguments(self, num_threads: int) -> None:
        """Choose how many threads a batch may use; a single query uses one."""
        self._num_threads = int(num_threads)
        self.name = f"recengine(metric={self._metric}, num_threads={self._num_threads})"

    def fit(self, X: Any) -> None:
        """Build the index over the rows of X; their numbers are the ids."""
        self._index = rec.FlatIndex(X, metric=self._metric)

    def query(self, v: Any, n: int) -> Any:
        """Return the ids of the n nearest rows, nearest first."""
        return self._answer(v, n, 1)

    def batch_query(self, X: Any, n: int) -> None:
        """Search all rows of X at once; `get_batch_results` hands the answer over."""
        self._found = self._answer(X, n, self._num_threads)

    def get_batch_results(self) -> Any:
        """Return the ids (n_queries, n) of the last batch."""
        return self._found

    def get_additional(self) -> dict[str, Any]:
        """Return what the suite stores beside the times: pairs scanned and scored exactly."""
        stats = self._fitted().stats
        return {"dist_comps": stats["scanned"], "rescored": stats["rescored"]}

    def get_memory_usage(self) -> float:
        """Return the largest memory that this process has held, in kilobytes."""
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / 1024 if sys.platform == "darwin" else float(size)

    def done(self) -> None:
        """Release the index."""
        self._index = self._found = None

    def __str__(self) -> str:
        return self.name

    def _answer(self, queries: Any, n: int, num_threads: int) -> Any:
        """Return ids without the padding that n > n_items would bring."""
        index = self._fitted()
        queries = np.asarray(queries, np.float32)
        return index.search(queries, min(n, len(index)), num_threads=num_threads).ids

    def _fitted(self) -> rec.FlatIndex:
        if self._index is None:
            raise RuntimeError("fit must come before a query")
        return self._index
