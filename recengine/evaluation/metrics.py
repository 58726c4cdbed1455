"""The metrics, each a function of its own.

Ranking metrics read `hits`: row u, column r is True where the item at rank r + 1 of user u's list
is relevant. `hits` (below) makes such rows from ids. One list is 1-D and gives one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recengine._types import PADDING_ID, Float64Array, Int64Array
from recengine._validation import as_count
from recengine.evaluation.hit_rows import (
    BoolArray,
    as_errors,
    as_figures,
    as_hits,
    as_id_lists,
    as_totals,
)

__all__ = [
    "average_precision",
    "coverage",
    "f1",
    "hit_rate",
    "hits",
    "mae",
    "ndcg",
    "precision",
    "recall",
    "reciprocal_rank",
    "rmse",
]


def hits(recommended: ArrayLike, relevant: Sequence[Any]) -> BoolArray:
    """Say which recommended items are relevant.

    Parameters
    ----------
    recommended : array-like (n_users, k) or (k,), int64 or str ids
        Best first; −1 or None where a list is shorter.
    relevant : sequence
        For (n_users, k): one collection of ids per user. For (k,): one collection of ids.

    Returns
    -------
    ndarray of the shape of `recommended`, bool
        Padding is never a hit.
    """
    lists = as_id_lists("recommended", recommended)
    rows = np.atleast_2d(lists)
    wanted = [relevant] if lists.ndim == 1 else list(relevant)
    if len(wanted) != len(rows):
        raise ValueError(
            f"relevant must have one collection per row ({len(rows)}), got {len(wanted)}"
        )
    found = np.zeros(rows.shape, bool)
    for row, ids in enumerate(wanted):
        ids_of_user = set(ids) - {PADDING_ID, None}
        found[row] = [item in ids_of_user for item in rows[row].tolist()]
    return found.reshape(lists.shape)


def precision(hits: ArrayLike, k: int | None = None) -> Float64Array:
    """Return the share of the first k ranks that hold a relevant item.

    Parameters
    ----------
    hits : array-like (n_users, width) or (width,), bool
    k : int, optional
        Ranks that count, >= 1; `width` when omitted. Ranks beyond `width` are misses, so a list
        that is too short pays for it.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        In [0, 1].

    References
    ----------
    trec_eval 9.0, measure P.
    """
    cut, k = as_hits(hits, k)
    return as_figures(cut.sum(-1) / k)


def recall(hits: ArrayLike, n_relevant: ArrayLike, k: int | None = None) -> Float64Array:
    """Return the share of the relevant items that the first k ranks hold.

    Parameters
    ----------
    hits, k
        As for `precision`.
    n_relevant : array-like (n_users,), integers, or one integer
        How many items are relevant to each user, found or not; >= 1.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        In [0, 1]; at most k / n_relevant.

    References
    ----------
    trec_eval 9.0, measure recall.
    """
    cut, _ = as_hits(hits, k)
    return as_figures(cut.sum(-1) / as_totals(n_relevant, cut))


def f1(hits: ArrayLike, n_relevant: ArrayLike, k: int | None = None) -> Float64Array:
    """Return the harmonic mean of precision and recall of each user, 0 without a hit.

    Parameters
    ----------
    hits, k
        As for `precision`.
    n_relevant
        As for `recall`.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        In [0, 1].

    References
    ----------
    C. J. van Rijsbergen, Information Retrieval, 2nd ed., 1979, chapter 7: 1 − E with β = 1.
    2PR/(P + R) with P = h/k and R = h/n is 2h/(k + n).
    """
    cut, k = as_hits(hits, k)
    return as_figures(2.0 * cut.sum(-1) / (k + as_totals(n_relevant, cut)))


def ndcg(hits: ArrayLike, n_relevant: ArrayLike, k: int | None = None) -> Float64Array:
    """Return the discounted gain of the first k ranks, over the best that k ranks can hold.

    A relevant item at rank r gains 1 / log2(r + 1); the best list has the relevant items first.

    Parameters
    ----------
    hits, k
        As for `precision`.
    n_relevant
        As for `recall`.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        In [0, 1]; 1 exactly for a best list.

    References
    ----------
    K. Järvelin and J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20,
    2002, section 2, with the discount log2(r + 1) of trec_eval 9.0, measure ndcg_cut.
    """
    cut, k = as_hits(hits, k)
    discounts = 1.0 / np.log2(np.arange(2.0, k + 2.0))
    # Both sums run from the first rank on, so that equal lists have equal bits.
    gained = np.cumsum(cut * discounts[: cut.shape[-1]], axis=-1)[..., -1]
    best = np.cumsum(discounts)[np.minimum(as_totals(n_relevant, cut), k) - 1]
    return as_figures(gained / best)


def average_precision(hits: ArrayLike, n_relevant: ArrayLike, k: int | None = None) -> Float64Array:
    """Return the precision at the rank of each relevant item, averaged over *all* of them.

    A relevant item beyond rank k counts as 0, so a user with more than k relevant items stays
    below 1.

    Parameters
    ----------
    hits, k
        As for `precision`.
    n_relevant
        As for `recall`.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        In [0, 1]; its mean over users is MAP.

    References
    ----------
    trec_eval 9.0, measure map_cut. (Some libraries divide by min(k, n_relevant) instead.)
    """
    cut, _ = as_hits(hits, k)
    ranks = np.arange(1.0, cut.shape[-1] + 1)
    at_hits = np.where(cut, np.cumsum(cut, axis=-1) / ranks, 0.0)
    return as_figures(at_hits.sum(-1) / as_totals(n_relevant, cut))


def reciprocal_rank(hits: ArrayLike, k: int | None = None) -> Float64Array:
    """Return 1 / the rank of the first relevant item, 0 where the first k ranks have none.

    Parameters
    ----------
    hits, k
        As for `precision`.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        0, or in [1/k, 1]; its mean over users is MRR.

    References
    ----------
    trec_eval 9.0, measure recip_rank, cut at k.
    """
    cut, _ = as_hits(hits, k)
    return as_figures(np.where(cut.any(-1), 1.0 / (cut.argmax(-1) + 1.0), 0.0))


def hit_rate(hits: ArrayLike, k: int | None = None) -> Float64Array:
    """Return 1 where the first k ranks hold a relevant item, else 0.

    Parameters
    ----------
    hits, k
        As for `precision`.

    Returns
    -------
    ndarray (n_users,), float64, or one number
        0 or 1.

    References
    ----------
    trec_eval 9.0, measure success.
    """
    cut, _ = as_hits(hits, k)
    return as_figures(cut.any(-1))


def coverage(recommended: ArrayLike, n_items: int) -> float:
    """Return the share of the catalogue that appears in at least one list.

    Parameters
    ----------
    recommended : array-like (n_users, k) or (k,), int64 or str ids
        −1 or None where a list is shorter.
    n_items : int
        Items in the catalogue, >= 1; the lists hold none from outside.

    Returns
    -------
    float
        In [0, 1].
    """
    n_items = as_count("n_items", n_items, minimum=1)
    ids = as_id_lists("recommended", recommended).ravel()
    distinct = set(ids.tolist() if ids.dtype == object else np.unique(ids).tolist())
    n_found = len(distinct - {PADDING_ID, None})
    if n_found > n_items:
        raise ValueError(f"n_items must be >= {n_found}, the items recommended, got {n_items}")
    return n_found / n_items


def rmse(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the root of the mean squared difference of predicted and actual ratings.

    Parameters
    ----------
    predicted, actual : array-like of one shape, finite numbers, not empty

    Returns
    -------
    float
        In the unit of the ratings; computed in float64.
    """
    return float(np.sqrt(np.mean(np.square(as_errors(predicted, actual)))))


def mae(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the mean absolute difference of predicted and actual ratings.

    Parameters
    ----------
    predicted, actual
        As for `rmse`.

    Returns
    -------
    float
        In the unit of the ratings; at most `rmse`.
    """
    return float(np.mean(np.abs(as_errors(predicted, actual))))


# What `evaluate` calls each metric of a user, given (hits, n_relevant, k).
PER_USER: dict[str, Callable[[BoolArray, Int64Array, int], Float64Array]] = {
    "precision": lambda hits, _, k: precision(hits, k),
    "recall": recall,
    "f1": f1,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": lambda hits, _, k: reciprocal_rank(hits, k),
    "hit_rate": lambda hits, _, k: hit_rate(hits, k),
}
