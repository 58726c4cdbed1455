"""Who counts, what is relevant, and what is done about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import IdArray, Int64Array, ItemId, TopK
from recengine._validation import as_choice, as_count, as_ids
from recengine.evaluation.figures import Evaluation
from recengine.evaluation.metrics import PER_USER
from recengine.evaluation.rankings import (
    ItemNumbers,
    check_kind,
    columns_of_frame,
    matrix_of_rows,
    refuse_duplicates,
    rows_of_topk,
)

if TYPE_CHECKING:
    from recengine.data import IdMap, Interactions

METRICS = ("precision", "recall", "f1", "ndcg", "map", "mrr", "hit_rate")


def evaluate(
    result: TopK | Any,
    test: Interactions,
    *,
    users: Sequence[ItemId] | IdArray | None = None,
    train: Interactions | None = None,
    k: int = 10,
    metrics: Sequence[str] = METRICS,
) -> Evaluation:
    """Measure recommendations against the events of a test split.

    Parameters
    ----------
    result : TopK or frame
        A `TopK` whose row i is the list of ``users[i]``, at least k wide; or a frame (pandas,
        polars, Arrow) user_id, item_id, score, where a higher score ranks first and equal scores
        keep their order. Ids as `test` speaks them.
    test : Interactions
        Held-out events. An item is relevant to a user who has an event of weight > 0 with it.
    users : array-like (n,), integers or str, optional
        Needed with a `TopK`. With a frame: who is asked about; everybody in `test` when omitted.
    train : Interactions, optional
        What the model had seen. With it, only what is new to a user counts: an item that the user
        has in `train` is not relevant, and a list that shows it wastes the rank. `train.items` is
        then the catalogue of coverage, and `Evaluation.warm` tells who has a history.
    k : int
        Ranks that count, >= 1.
    metrics : sequence of str
        Of precision, recall, f1, ndcg, map, mrr, hit_rate, coverage.

    Returns
    -------
    Evaluation
        Figures are means over users. A user counts who is asked about and has a relevant item,
        whether or not the result has a list for them: no list is a list without hits. The others
        are left out.

    Raises
    ------
    ValueError
        Where a list shows an item twice, a `TopK` is not sorted or narrower than k, an argument
        breaks its rule, or nobody counts.
    TypeError
        Where ids are str on one side and integers on the other.

    Notes
    -----
    All items are ranked, none is sampled. Padding (−1, None, score −inf) is no item. An item that
    nobody knows is a miss. coverage is the share of the catalogue (`train.items`, else
    `test.items`) in the lists of the users that count.
    Cost: O(n log n) for n events and entries, in NumPy; checked against ir-measures.
    """
    k = as_count("k", k, minimum=1)
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got the str {metrics!r}")
    chosen = [as_choice("metrics", metric, [*PER_USER, "coverage"]) for metric in metrics]
    for name, events in (("test", test), ("train", test if train is None else train)):
        if not hasattr(events, "items") or not hasattr(events, "user_indices"):
            raise TypeError(f"{name} must be an Interactions, got {type(events).__name__}")
    numbers = ItemNumbers(test.items if train is None else train.items)
    asked = _asked_users(users, test, is_topk=isinstance(result, TopK))
    relevant = _relevant(asked, test, train, numbers)
    if isinstance(result, TopK):
        ids = rows_of_topk(result, len(asked), k)
        lists = numbers.of("result", ids.ravel()).reshape(ids.shape)
        rows = np.repeat(np.arange(len(lists)), k)
        refuse_duplicates(rows, lists.ravel(), asked.ids, len(numbers))
    else:
        lists = _lists_of_frame(result, asked, numbers, k)
    return _measured(asked.ids, lists, relevant, numbers, chosen, k, train)


def _asked_users(
    users: Sequence[ItemId] | IdArray | None, test: Interactions, *, is_topk: bool
) -> IdMap:
    from recengine.data import IdMap

    if users is None:
        if is_topk:
            raise ValueError("users must be given with a TopK: one id per row, got None")
        return test.users
    asked = as_ids("users", users)
    check_kind("users", asked, test.users)
    distinct, counts = np.unique(asked, return_counts=True)
    if len(distinct) < len(asked):
        raise ValueError(f"users must be unique, got {distinct[counts > 1][0]} more than once")
    return IdMap(asked)


def _relevant(
    asked: IdMap, test: Interactions, train: Interactions | None, numbers: ItemNumbers
) -> tuple[Int64Array, Int64Array]:
    """Return (row of the asked user, item number) of every relevant pair, ascending, each once."""
    rows, items = _pairs(asked, test, numbers, "test")
    seen = None if train is None else _pairs(asked, train, numbers, "train")
    liked = test.weights > 0
    width = max(len(numbers), 1)
    keys = np.sort(_keys(rows[liked], items[liked], width))
    keys = keys[np.diff(keys, prepend=-1) > 0]
    if seen is not None:
        keys = keys[~_contains(np.sort(_keys(*seen, width)), keys)]
    return keys // width, keys % width


def _pairs(
    asked: IdMap, interactions: Interactions, numbers: ItemNumbers, name: str
) -> tuple[Int64Array, Int64Array]:
    """Return (row of the asked user or −1, item number) of each event."""
    check_kind("users", asked.ids, interactions.users)
    rows = asked.indices(interactions.users.ids, missing="mark")
    return rows[interactions.user_indices], numbers.of_events(name, interactions)


def _keys(rows: Int64Array, numbers: Int64Array, width: int) -> Int64Array:
    """Return one number per pair, in the order of rows, without the pairs of nobody."""
    here = rows >= 0
    return rows[here] * width + numbers[here]


def _lists_of_frame(result: Any, asked: IdMap, numbers: ItemNumbers, k: int) -> Int64Array:
    users, items, scores = columns_of_frame(result)
    check_kind("result", users, asked)
    rows, codes = asked.indices(users, missing="mark"), numbers.of("result", items)
    wanted = rows >= 0
    rows, codes, scores = rows[wanted], codes[wanted], scores[wanted]
    refuse_duplicates(rows, codes, asked.ids, len(numbers))
    return matrix_of_rows(rows, codes, scores, len(asked), k)


def _measured(
    asked: IdArray,
    lists: Int64Array,
    relevant: tuple[Int64Array, Int64Array],
    numbers: ItemNumbers,
    metrics: Sequence[str],
    k: int,
    train: Interactions | None,
) -> Evaluation:
    n_relevant = np.bincount(relevant[0], minlength=len(asked))
    counts = n_relevant > 0
    if not counts.any():
        raise ValueError(f"users must have a relevant event in test, got none of {len(asked)}")
    lists, n_relevant = lists[counts], n_relevant[counts]
    hits = _hits(lists, np.flatnonzero(counts), relevant, len(numbers))
    n_items = len(numbers.catalogue)
    catalogue = (np.where(lists < n_items, lists, -1), n_items) if "coverage" in metrics else None
    return Evaluation(
        k=k,
        users=asked[counts],
        per_user={m: PER_USER[m](hits, n_relevant, k) for m in metrics if m != "coverage"},
        n_relevant=n_relevant,
        warm=None if train is None else _is_warm(asked[counts], train),
        catalogue=catalogue,
    )


def _hits(
    lists: Int64Array, rows: Int64Array, relevant: tuple[Int64Array, Int64Array], width: int
) -> NDArray[np.bool_]:
    wanted = relevant[0] * width + relevant[1]
    return _contains(wanted, rows[:, None] * width + lists) & (lists >= 0)


def _contains(ascending: Int64Array, keys: Int64Array) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(keys.shape, bool)
    place = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[place] == keys
    return found


def _is_warm(users: IdArray, train: Interactions) -> NDArray[np.bool_]:
    has_event = np.bincount(train.user_indices, minlength=len(train.users)) > 0
    indices = train.users.indices(users, missing="mark")
    warm = np.zeros(len(users), bool)
    warm[indices >= 0] = has_event[indices[indices >= 0]]
    return warm
