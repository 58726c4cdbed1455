"""One call of a `DeviceIndex`: candidates from the device, scored exactly here, until it is proved.

A query goes through rungs: the device gives 32, 128, 512, 2,048 candidates, whichever first holds
what was asked for and proves that nothing better was left out. A query that no rung settles is
answered by the index itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine import _native
from recengine._errors import DeadlineError
from recengine._types import Float32Array, Int64Array
from recengine._validation import as_count, as_k, as_real
from recengine.retrieval import _bias, _id_lists, _planner, _request, _score, _select
from recengine.retrieval._device_proof import highest_outside
from recengine.retrieval._device_scorer import MOST_KEPT, RUNGS, Found, Scorer
from recengine.retrieval._device_table import Laid
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_lists import Lists
from recengine.retrieval._planner import Selection
from recengine.retrieval._segment import Segment
from recengine.retrieval.filters import Filter
from recengine.retrieval.flat import LONGEST_TIMEOUT, FlatIndex
from recengine.retrieval.selection import pick

COUNTERS = ("searches", "queries", "proved", "grown", "by_index")
MARGIN = 8  # candidates beyond what was asked for, at least
NANOSECONDS = 1e9


class Asked(NamedTuple):
    """What a call asks for, checked.

    Attributes
    ----------
    k : int
    selection : Selection
    lists : Lists or None
        What each query must not get.
    bias : ndarray (n_ordinals,), float32, or None
        Of this call.
    min_score : float
    num_threads : int
    deadline : int
        On the clock of `time.monotonic_ns`; 0 for none.
    """

    k: int
    selection: Selection
    lists: Lists | None
    bias: Float32Array | None
    min_score: float
    num_threads: int
    deadline: int

    def left(self) -> float | None:
        """Return the seconds left, None without a deadline; `DeadlineError` if there are none."""
        if not self.deadline:
            return None
        left = (self.deadline - time.monotonic_ns()) / NANOSECONDS
        if left <= 0:
            raise DeadlineError("timeout ran out before the device had answered")
        return left

    def excluded(self, rows: slice | Int64Array) -> Lists | None:
        """Return the lists of some of the queries."""
        if self.lists is None:
            return None
        indptr = self.lists.indptr
        numbers = np.arange(len(indptr) - 1)[rows]
        parts = [self.lists.ordinals[indptr[i] : indptr[i + 1]] for i in numbers.tolist()]
        starts = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=starts[1:])
        return Lists(starts, np.concatenate(parts) if parts else self.lists.ordinals[:0])


def ask(
    index: FlatIndex,
    now: Generation,
    n_queries: int,
    k: Any,
    *,
    single: bool,
    exclude: Any,
    allow: Any,
    deny: Any,
    where: Any,
    filter: Filter | None,
    bias: Any,
    min_score: Any,
    num_threads: Any,
    timeout: Any,
) -> Asked:
    """Check the arguments of `DeviceIndex.search`."""
    count = as_k(k, now.n_ordinals)
    lowest = -np.inf if min_score is None else as_real("min_score", min_score)
    deadline = 0
    if timeout is not None:
        seconds = as_real("timeout", timeout, minimum=0, exclusive=True)
        deadline = time.monotonic_ns() + int(min(seconds, LONGEST_TIMEOUT) * NANOSECONDS)
    prepared = None if filter is None else index._prepared(filter, now)
    selection = _planner.select(
        now,
        n_queries,
        allow=allow,
        deny=deny,
        where=where,
        prepared=prepared,
        base=None if filter is None or prepared is None else filter.base(now, prepared),
    )
    return Asked(
        count,
        selection,
        _id_lists.exclusions(now, exclude, n_queries, single=single),
        None if bias is None else _bias.by_ordinal(bias, now),
        float(np.float32(lowest)),
        1 if num_threads is None else as_count("num_threads", num_threads, minimum=1),
        deadline,
    )


def is_for_the_index(now: Generation, asked: Asked) -> bool:
    """Say whether the index answers better: nothing to score, few rows left, or a large k."""
    selection = asked.selection
    few = selection.ordinals is not None or selection.base is not None
    return asked.k == 0 or now.base.n_rows == 0 or few or asked.k + MARGIN > MOST_KEPT


def by_index(
    now: Generation,
    queries: Float32Array,
    asked: Asked,
    rows: slice | Int64Array,
    *,
    base: tuple[Segment, Any] | None = None,
) -> tuple[Int64Array, Float32Array]:
    """Return the answer of the index itself for queries, which are these rows of the call.

    `base` takes the place of the base.
    """
    asked.left()
    lists = asked.excluded(rows)
    ordinals, scores, native = _request.search(
        now,
        queries,
        asked.k,
        ordinals=asked.selection.ordinals,
        mask=asked.selection.words,
        base=asked.selection.base if base is None else base,
        bias=asked.bias,
        exclude_indptr=None if lists is None else lists.indptr,
        exclude_rows=None if lists is None else lists.ordinals,
        min_score=asked.min_score,
        num_threads=asked.num_threads,
        deadline_ns=asked.deadline,
    )
    if native["partial"]:
        raise DeadlineError("timeout ran out while the index answered")
    return ordinals, scores


def by_device(
    now: Generation,
    scorer: Scorer,
    laid: Laid,
    asked: Asked,
    rows: slice,
    queries: Float32Array,
    found: Found | None,
    counts: dict[str, int],
) -> tuple[Int64Array, Float32Array]:
    """Return the answer for queries, which are these rows of the call.

    `found` is what a run has given already, with the first of `rungs` candidates.
    """
    numbers = np.arange(rows.start, rows.stop)
    ordinals = np.full((len(numbers), asked.k), -1, np.int64)
    scores = np.full((len(numbers), asked.k), -np.inf, np.float32)
    pending = np.arange(len(numbers))
    for n_kept in rungs(asked, rows):
        if found is None:
            found = scorer.run(laid, queries[pending], n_kept, asked.left())
        best, values, proved = _settled(now, laid, asked, found, numbers[pending])
        sure = pending[proved]
        ordinals[sure], scores[sure] = best[proved], values[proved]
        pending, found = pending[~proved], None
        if not len(pending):
            break
        counts["grown"] += len(pending)
    counts["proved"] += len(numbers) - len(pending)
    if now.delta.n_rows and len(pending) < len(numbers):
        late = by_index(now, queries, asked, rows, base=(_nothing_of(now), None))
        ordinals, scores = _merged((ordinals, scores), late)
    if len(pending):
        counts["by_index"] += len(pending)
        whole = by_index(now, np.ascontiguousarray(queries[pending]), asked, numbers[pending])
        ordinals[pending], scores[pending] = whole
    return ordinals, scores


def rungs(asked: Asked, rows: slice) -> Sequence[int]:
    """Return how many candidates to take for some queries, at first and when that is too few."""
    longest = 0
    if asked.lists is not None:
        longest = int(np.diff(asked.lists.indptr)[rows].max(initial=0))
    least = asked.k + max(MARGIN, asked.k // 4) + longest
    return [rung for rung in RUNGS if rung >= least] or [MOST_KEPT]


def _settled(
    now: Generation,
    laid: Laid,
    asked: Asked,
    found: Found,
    numbers: Int64Array,
) -> tuple[Int64Array, Float32Array, NDArray[np.bool_]]:
    """Return (ordinals, scores, which queries are proved) of the candidates of a run."""
    base, n_queries = laid.table.base, len(numbers)
    there = ~np.isneginf(found.values) & (found.rows < base.n_rows)
    ordinals = base.ordinals_of(np.where(there, found.rows, 0))
    there &= ~_listed(asked.excluded(numbers), ordinals, now.n_ordinals)
    indptr = np.zeros(n_queries + 1, np.int64)
    np.cumsum(there.sum(axis=1), out=indptr[1:])
    pairs = _score.rank(
        _native.api(),
        now.metric,
        found.queries,
        base.vectors,
        base.sq_norms,
        indptr,
        np.ascontiguousarray(found.rows[there]),
        bias=_bias.of_rows(base, asked.bias),
        num_threads=asked.num_threads,
    )
    pairs[pairs < asked.min_score] = -np.inf
    best, scores = _select.order(pairs, np.ascontiguousarray(ordinals[there]), indptr, asked.k)
    outside = highest_outside(laid, found.queries, found.scaled, found.scale, found.values[:, -1])
    proved = (outside < scores[:, -1]) | np.isneginf(outside) | (outside < asked.min_score)
    return best, scores, proved


def _listed(lists: Lists | None, ordinals: Int64Array, width: int) -> NDArray[np.bool_]:
    """Return which ordinals (n, m) stand in the list of their row; `width` is above all of them."""
    if lists is None or not len(lists.ordinals):
        return np.zeros(ordinals.shape, bool)
    rows = np.arange(len(ordinals)) * width
    listed = np.repeat(rows, np.diff(lists.indptr)) + lists.ordinals
    found: NDArray[np.bool_] = np.isin(ordinals + rows[:, None], listed)
    return found


def _merged(
    one: tuple[Int64Array, Float32Array], other: tuple[Int64Array, Float32Array]
) -> tuple[Int64Array, Float32Array]:
    """Return the best of two answers (n, k) over disjoint items."""
    ordinals = np.concatenate([one[0], other[0]], axis=1)
    scores = np.concatenate([one[1], other[1]], axis=1)
    at = _select.merge(scores, ordinals, ordinals, one[0].shape[1])
    padded = at < 0
    return pick(ordinals, at, padded, -1), pick(scores, at, padded, -np.inf)


def _nothing_of(now: Generation) -> Segment:
    """Return a base without rows."""
    return now.log.segment(0)
