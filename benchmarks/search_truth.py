"""The answer that everybody is held against, in float64, and how each answer is held against it.

recengine's ids, order and score bits must be the canonical ones of tests/oracles.py. A peer works
in float32, so each of its ids must score, in float64, like the true answer up to float32 rounding.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import oracles
from search_peers import prepared

BATCH = 16


class Truth(NamedTuple):
    ids: Any  # (n_queries, k) int64
    scores: Any  # (n_queries, k) float32
    kth: Any  # (n_queries,) float64: the k-th best score before rounding


def truth(
    metric: str, queries: Any, items: Any, k: int, *, rows: Any = None, seen: Any = None
) -> Truth:
    """Return the canonical answer over `rows` (None: all) less what each query has seen.

    float64 products nominate; what lies near the k-th of them is scored canonically.
    """
    q, x = (part.astype(np.float64) for part in prepared(metric, queries, items))
    if rows is not None:
        x = x[rows]
    ids = np.empty((len(q), k), np.int64)
    scores = np.empty((len(q), k), np.float32)
    kth = np.empty(len(q))
    for i in range(len(q)):
        if i % BATCH == 0:
            products = q[i : i + BATCH] @ x.T
        product = products[i % BATCH]
        slack = 1e-5 * (np.abs(product).max() + 1)
        if seen is not None:
            product[seen[i]] = -np.inf
        floor = np.partition(product, len(x) - k)[len(x) - k]
        near = np.flatnonzero(product >= floor - slack)
        named = near if rows is None else rows[near]
        exact = oracles.canonical(metric, queries[i : i + 1], items[named])
        order, best = oracles.best(oracles.round_score(exact), k)
        ids[i], scores[i] = named[order[0]], best[0]
        kth[i] = np.sort(exact[0])[-k]
    return Truth(ids, scores, kth)


def check_ours(found: Any, want: Truth) -> None:
    """Assert equal ids, equal order and equal score bits."""
    oracles.assert_same_topk((found.ids, found.scores), (want.ids, want.scores))


def check_peer(
    name: str, found: Any, metric: str, queries: Any, items: Any, want: Truth, seen: Any = None
) -> None:
    """Assert that a peer's ids differ from the true ones by float32 rounding at most."""
    dim = items.shape[1]
    assert found.shape == want.ids.shape, f"{name} returned {found.shape}"
    for i, row in enumerate(np.asarray(found)):
        assert len(set(row.tolist())) == len(row), f"{name} returned an id twice"
        if seen is not None:
            assert not np.isin(row, seen[i]).any(), f"{name} returned what query {i} has seen"
        exact, kth = oracles.canonical(metric, queries[i : i + 1], items[row])[0], want.kth[i]
        lengths = np.linalg.norm(queries[i].astype(np.float64)), _longest(items[row])
        if metric == "cosine":
            size = 1.0
        elif metric == "dot":
            size = lengths[0] * lengths[1]
        else:  # in squares, as the peers compute it
            exact, kth, size = -(exact**2), -(kth**2), sum(lengths) ** 2
        slack = (dim + 8) * 2.0**-23 * size
        assert exact.min() >= kth - slack, f"{name} is wrong for query {i}"


def _longest(rows: Any) -> float:
    return float(np.linalg.norm(rows.astype(np.float64), axis=1).max())


def kept_by_norms(queries: Any, items: Any, want: Truth) -> dict[str, float]:
    """Return the share of items that |q||x| alone cannot drop, over the queries of a dot search.

    What a scan in descending order of norms would have to look at, the final k-th score known.
    """
    norms = np.sort(np.linalg.norm(items.astype(np.float64), axis=1))
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    needed = np.divide(want.kth, lengths, out=np.zeros(len(queries)), where=lengths > 0)
    share = 1 - np.searchsorted(norms, needed) / len(norms)
    return {
        "median": float(np.median(share)),
        "mean": float(share.mean()),
        "p99": float(np.quantile(share, 0.99)),
    }
