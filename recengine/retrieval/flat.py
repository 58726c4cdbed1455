"""FlatIndex: exact search over vectors held in memory or in a mapped file."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import numpy as np

from recengine._errors import UnknownItemError
from recengine._types import (
    Float32Array,
    IdArray,
    Int64Array,
    ItemId,
    Metric,
    Storage,
    TopK,
)
from recengine._validation import as_choice, as_count, as_ids, as_k, as_matrix, as_queries, as_real
from recengine.data import IdMap
from recengine.retrieval import _bias, _id_lists, _persistence, _planner, _request
from recengine.retrieval._columns import Columns
from recengine.retrieval._generation import Generation, first_generation
from recengine.retrieval._live import Live
from recengine.retrieval._segment import frozen, sealed
from recengine.retrieval._stats import SearchStats
from recengine.retrieval._vectors import STORAGES, owned, rounded, storage_of
from recengine.retrieval.filters import Filter, Prepared
from recengine.retrieval.predicate import Predicate
from recengine.retrieval.similarity import METRICS

LONGEST_TIMEOUT = 1e9  # seconds: thirty years; nanoseconds of it fit int64


class FlatIndex:
    """Find exactly the best k items of a query.

    Parameters
    ----------
    vectors : array_like (n_items, dim)
        Finite real numbers, read as float32. A read-only, C-contiguous array (a mapped file, say)
        of float32, or of float16 for that storage, is borrowed: nobody may write to its memory
        afterwards. Anything else is copied.
    ids : array_like (n_items,), optional
        Distinct int64 (not −1) or str; 0, 1, ... when omitted.
    metric : {"cosine", "dot", "l2"}
        Higher scores are better: cosine (0 with a zero vector), inner product, or the negative
        Euclidean distance.
    columns : frame or mapping of str to array_like (n_items,), optional
        Attributes that `where` speaks of, one row per vector: numbers, bool or str, None and NaN
        missing. A pandas, polars or Arrow frame, or arrays by name; copied.
    bias : array_like (n_items,), optional
        Added to the score of each item, finite, read as float32; 0 when omitted. Not under l2.
    storage : {"float32", "float16", "bfloat16"}
        How the vectors are kept. In 2 bytes a number they are rounded to nearest, ties to even,
        and every answer is exact for the rounded ones: that of a float32 index over them.

    Raises
    ------
    ValueError, TypeError
        Wrong shape or dtype, NaN, infinity, a number beyond the storage (float16: 65,504), dim 0,
        duplicate ids, the id −1, a bias under l2.

    Notes
    -----
    A score is the canonical float64 value rounded once to float32, so the score of a pair has the
    same bits for any batch, thread count, k, filter and SIMD level. Answers are ordered by score,
    then by ordinal, the number an item was given at its first insert; they equal those of
    ``tests/oracles.py::search``.

    The scan passes over groups that a bound of norms or directions rules out, reads int8 codes of
    the rest (few queries of many items: their upper four bits; equal rows: once), and drops an item
    only where a bound of the codes' error proves that it is not in the answer (``_code_scan.pyx``
    has the proof); where the codes cannot tell the items apart it reads the vectors, in float32.

    Memory: the vectors (unless borrowed), dim + 22 bytes an item for codes and norms (8 to 16 more
    where the codes lie in an order of their own), and the ids; a compaction needs as much again
    until it is done. Searches may run from any number of threads, also during updates: each one
    answers from the state that was published when it began, whose memory is released when its last
    reader leaves. A forked child may search and update at once.
    """

    def __init__(
        self,
        vectors: Any,
        ids: Any = None,
        metric: Metric = "cosine",
        columns: Any = None,
        bias: Any = None,
        storage: Storage = "float32",
    ) -> None:
        as_choice("metric", metric, METRICS)
        as_choice("storage", storage, STORAGES)
        table = owned("vectors", vectors, storage)
        if table.shape[1] == 0:
            raise ValueError(f"vectors must have dim >= 1, got shape {table.shape}")
        names = None if ids is None else as_ids("ids", ids)
        if names is not None and len(names) != len(table):
            raise ValueError(f"ids must have one entry per vector ({len(table)}), got {len(names)}")
        number = METRICS.index(metric)
        boost = None if bias is None else _bias.as_bias(bias, len(table), number)
        read = Columns.read(columns, len(table))
        base = replace(sealed(table, number), bias=boost)
        book = IdMap(frozen(np.arange(len(table))) if names is None else names)
        self._begin(first_generation(base, book, number, read))

    def _begin(self, generation: Generation) -> None:
        self._live = Live(generation)
        self._stats = SearchStats()

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        exclude: Any = None,
        allow: Any = None,
        deny: Any = None,
        where: Predicate | None = None,
        filter: Filter | None = None,
        bias: Any = None,
        min_score: float | None = None,
        num_threads: int | None = None,
        timeout: float | None = None,
        out: tuple[Int64Array, Float32Array] | None = None,
    ) -> TopK:
        """Return the best k items of each query.

        Parameters
        ----------
        queries : array_like (dim,) or (n_queries, dim)
            Finite real numbers, read as float32.
        k : int
            How many, >= 0; may exceed the number of items by up to 2²⁰.
        exclude : list, tuple or sparse matrix, optional
            What each query must not return: a list of id arrays, one per query (for one (dim,)
            query its id array alone); or a CSR over ordinals, as ``(indptr, indices)`` or any
            SciPy sparse matrix of n_queries rows, of which every stored entry counts.
        allow, deny : array_like of ids, optional
            Shared by the batch: only these, not these. Deny wins.
        where : predicate, optional
            Only items whose `columns` match; made by `recengine.where`.
        filter : Filter, optional
            Prepared by `filter` of this index. An item must pass all filters that are given.
        bias : array_like (n_items,) or mapping of id to number, optional
            Added to the scores of this call, beside the bias of the index: an array in the order
            of `ids`, or boosts by id, 0 for the others; ids that are not in the index are ignored.
            Finite, read as float32; not under l2. The two are added in float64 and rounded to
            float32, which is what is added to the score before that is rounded.
        min_score : float, optional
            Items below it are not returned. Rounded to float32, as the scores are.
        num_threads : int, optional
            Threads of this call; one when omitted.
        timeout : float, optional
            Seconds, >= 0. When they have passed the scan stops and the answer is the best of what
            it had seen, with ``partial`` set.
        out : (ids, scores), optional
            Writeable arrays, int64 and float32, of the shape of the answer, that receive it and
            are returned in it. Not for str ids.

        Returns
        -------
        TopK
            ids : ndarray (k,) or (n_queries, k), int64 or object (str). scores : float32, same
            shape. Order is score descending, then ordinal ascending; where fewer than k items are
            left the tail is id −1 (None for str ids) and score −inf.

        Raises
        ------
        ValueError, TypeError
            Wrong shape, dtype or range; ids of the other kind (int for str); an ordinal out of
            range; the id −1; a column or operator that there is not; another index's filter; a
            bias under l2.

        Notes
        -----
        Ids that are not in the index are ignored by `exclude`, `allow` and `deny`: they cannot be
        returned. O(n_queries n dim) time, where n is the number of items, or of those that the
        shared filters leave when they leave few. Working out `where` or `deny` costs O(n_items) a
        call, a short `allow` of a ids O(a log a), a prepared `filter` O(n_items / 64), and nothing
        more until items change. O(n_queries k) memory for the answer.
        """
        generation = self._live.generation
        table, single = as_queries("queries", queries, dim=generation.dim)
        count = as_k(k, generation.n_ordinals)
        buffers = _request.as_out(out, generation, len(table), count, single=single)
        lowest = -np.inf if min_score is None else as_real("min_score", min_score)
        threads = 1 if num_threads is None else as_count("num_threads", num_threads, minimum=1)
        deadline = 0
        if timeout is not None:
            allowed = min(as_real("timeout", timeout, minimum=0), LONGEST_TIMEOUT)
            deadline = time.monotonic_ns() + int(allowed * 1e9)
        prepared = base = None
        if filter is not None:
            prepared = self._prepared(filter, generation)
            base = filter.base(generation, prepared)
        selection = _planner.select(
            generation,
            len(table),
            allow=allow,
            deny=deny,
            where=where,
            prepared=prepared,
            base=base,
        )
        lists = _id_lists.exclusions(generation, exclude, len(table), single=single)
        ordinals, scores, native = _request.search(
            generation,
            table,
            count,
            ordinals=selection.ordinals,
            mask=selection.words,
            base=selection.base,
            bias=None if bias is None else _bias.by_ordinal(bias, generation),
            exclude_indptr=None if lists is None else lists.indptr,
            exclude_rows=None if lists is None else lists.ordinals,
            min_score=lowest,
            num_threads=threads,
            deadline_ns=deadline,
        )
        self._stats.add(len(table), native)
        return _request.answer(
            generation,
            ordinals,
            scores,
            single=single,
            partial=bool(native["partial"]),
            out=buffers,
        )

    def _prepared(self, filter: object, generation: Generation) -> Prepared:
        if not isinstance(filter, Filter):
            raise TypeError(f"filter must be a Filter of this index, got {type(filter).__name__}")
        return filter.prepared(self._live, generation)

    def filter(self, allow: Any = None, deny: Any = None, where: Any = None) -> Filter:
        """Prepare a filter for many searches.

        Parameters
        ----------
        allow, deny : array_like of ids, optional
            Only these, not these; deny wins. Ids that are not in the index may come later.
        where : predicate, optional
            Only items whose `columns` match; made by `recengine.where`.

        Returns
        -------
        Filter
            For ``search(..., filter=)`` of this index.

        Raises
        ------
        ValueError, TypeError
            Nothing given, a column or operator that there is not, ids of the other kind.

        Notes
        -----
        O(n_items + ids log ids) once. Later searches judge only the items that were added or
        changed in between. The filter keeps the index in memory.
        """
        return Filter(self._live, allow, deny, where)

    def rank(
        self,
        queries: Any,
        candidates: Any,
        k: int | None = None,
        *,
        bias: Any = None,
        num_threads: int | None = None,
    ) -> TopK:
        """Order the given candidates of each query, best first.

        Parameters
        ----------
        queries : array_like (dim,) or (n_queries, dim)
        candidates : array_like of ids, or a list of them
            For one (dim,) query its ids; for a batch one id array per query. Taken as sets: an id
            given twice counts once.
        k : int, optional
            How many, >= 0; as many as the longest list of candidates when omitted.
        bias : array_like (n_items,) or mapping of id to number, optional
            As in `search`.
        num_threads : int, optional
            Threads of this call; one when omitted.

        Returns
        -------
        TopK
            As `search` over these candidates alone, with the same score bits. Candidates that are
            not in the index have no vector and are left out: the tail is padding.

        Raises
        ------
        ValueError, TypeError
            Wrong shape, dtype or range; ids of the other kind; the id −1.

        Notes
        -----
        O(candidates × dim) time.
        """
        generation = self._live.generation
        table, single = as_queries("queries", queries, dim=generation.dim)
        threads = 1 if num_threads is None else as_count("num_threads", num_threads, minimum=1)
        lists = _id_lists.id_lists(generation, "candidates", candidates, len(table), single=single)
        most = max(generation.n_ordinals, lists.longest)
        count = lists.longest if k is None else as_k(k, most)
        boost = None if bias is None else _bias.by_ordinal(bias, generation)
        ordinals, scores = _request.rank(
            generation, table, lists.indptr, lists.ordinals, count, bias=boost, num_threads=threads
        )
        return _request.answer(generation, ordinals, scores, single=single)

    def upsert(self, ids: Any, vectors: Any, columns: Any = None, bias: Any = None) -> None:
        """Add items, or replace the vectors of items that are there.

        Parameters
        ----------
        ids : array_like (n,)
            Distinct ids of the index's kind. An id that was deleted returns with its old ordinal;
            a new one gets the next.
        vectors : array_like (n, dim)
            Finite real numbers; copied, and rounded as the `storage` says.
        columns : frame or mapping of str to array_like (n,), optional
            Attributes, of columns that the index has. In a column that is not given an item keeps
            its value, and a new one has none.
        bias : array_like (n,), optional
            The bias of the items. When omitted an item keeps its own, and a new one has 0.

        Raises
        ------
        ValueError, TypeError
            Wrong shape or dtype, NaN, infinity, duplicate ids, a column that there is not or that
            holds something else, a bias under l2; nothing has changed then.

        Notes
        -----
        O(n dim) time amortised, and n_items / 8 bytes copied a call: the items go into a delta
        that every search reads beside the codes. Searches see all of a call or none. Writers wait
        for each other, readers never. A background thread folds the delta in when it has 2,048
        rows or 1/16 of the items; at four times that a writer waits for it, so the delta is
        bounded by that and what the call itself brings. Ids are kept for good, also deleted ones.
        """
        generation = self._live.generation
        names = _id_lists.distinct_ids(generation, "ids", ids)
        table = as_matrix("vectors", vectors, dim=self.dim, n_rows=len(names))
        halves = rounded("vectors", table, self.storage)
        boost = None if bias is None else _bias.as_bias(bias, len(names), generation.metric)
        self._live.upsert(names, halves, columns, boost)

    def delete(self, ids: Any) -> None:
        """Remove items; the next search no longer returns them.

        Parameters
        ----------
        ids : array_like (n,)
            Distinct ids, each in the index.

        Raises
        ------
        UnknownItemError
            An id is not in the index; nothing has changed then.
        ValueError, TypeError
            Duplicate ids, or ids of the other kind.

        Notes
        -----
        O(n) time, and n_items / 8 bytes copied a call. A compaction drops the vector; the ordinal
        is not given to another item.
        """
        names = _id_lists.distinct_ids(self._live.generation, "ids", ids, ordered=False)
        self._live.delete(names)

    def compact(self) -> None:
        """Fold all updates into the scanned codes and drop deleted rows, now and in this thread.

        Answers stay what they are, bit by bit. A thread of the index does the same when updates
        have piled up, so nobody has to call this; it makes the next searches a little faster.
        O(n_items dim) time, and the memory of a second index until it is done.
        """
        self._live.compact()

    def snapshot(self) -> FlatIndex:
        """Return an index of the same items that later changes of either leave alone.

        O(1): the vectors are shared until one of the two changes. `stats` begin anew.
        """
        index = FlatIndex.__new__(FlatIndex)
        index._begin(self._live.generation)
        return index

    def ordinals(self, ids: Any) -> Int64Array:
        """Return the ordinal of each id, −1 where it is not in the index.

        Ordinals are what the columns of an `exclude` CSR speak. O(ids).

        Parameters
        ----------
        ids : array-like (m,), integers or str
        """
        generation = self._live.generation
        return generation.ordinals_of(_id_lists.ids_of_kind(generation, "ids", ids))

    @property
    def ids(self) -> IdArray:
        """The ids in the index, ascending by ordinal; int64 or object holding str."""
        return self._live.generation.live_ids()

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self._live.generation.dim

    @property
    def metric(self) -> Metric:
        """What a score means: "cosine", "dot" or "l2"."""
        return METRICS[self._live.generation.metric]

    @property
    def storage(self) -> Storage:
        """How the vectors are kept: "float32", "float16" or "bfloat16"."""
        return storage_of(self._live.generation.base.vectors)

    @property
    def n_ordinals(self) -> int:
        """How many ordinals were ever given: the width of an `exclude` matrix."""
        return self._live.generation.n_ordinals

    @property
    def stats(self) -> dict[str, Any]:
        """What the searches of this object did so far, over all threads.

        ``level`` is the SIMD level of the last one; ``searches`` and ``queries`` count calls and
        their queries. Pairs of query and item are counted by stage: ``scanned`` are those that a
        scan looked at (the rest lay beyond a bound of their norms, or of a filter), ``coarse`` by
        four bits of the codes, ``fine`` by all eight, ``float32`` by the vectors, ``float64`` by
        their exact scores where nothing cheaper tells items apart; ``survived`` those that the
        codes could not drop, ``rescored`` those of the other stages that were scored exactly.
        ``partial`` counts answers cut short by a timeout.
        """
        return self._stats.snapshot()

    def __len__(self) -> int:
        return self._live.generation.n_alive

    def __contains__(self, item_id: object) -> bool:
        return self._live.generation.ordinal_of(item_id) >= 0

    def __getitem__(self, item_id: ItemId) -> Float32Array:
        """Return the float32 (dim,) that is stored, read-only; UnknownItemError without it."""
        generation = self._live.generation
        ordinal = generation.book.find_one(item_id, generation.n_ordinals)
        vector = None if ordinal < 0 else generation.vector(ordinal)
        if vector is None:
            raise UnknownItemError(f"id must be in the index, got {item_id!r}")
        return vector

    def __repr__(self) -> str:
        return f"FlatIndex(n_items={len(self)}, dim={self.dim}, metric={self.metric!r})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file, complete or not at all.

        Vectors, codes, ids, ordinals, columns and biases are kept; `stats` are not. Updates that
        are not folded in yet are folded in for the file, at the cost of `compact`; otherwise it
        needs O(n_items) memory beside the index for str ids and for columns only.

        Parameters
        ----------
        path : path-like
        """
        _persistence.save(path, self._live.generation)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = True) -> FlatIndex:
        """Open a saved index; its vectors and codes stay in the file, mapped read-only.

        Parameters
        ----------
        path : path-like
        verify : bool
            True reads the whole file and compares all checksums. False trusts a file that was
            verified before: only ids, and what tells where things lie, are read, and the rest
            when a search first needs it.

        Raises
        ------
        BundleError
            The file is damaged, foreign or of another version. Nothing in it is ever executed.
        FileNotFoundError
            There is no such file.
        """
        index = cls.__new__(cls)
        index._begin(_persistence.load(path, verify=verify))
        return index
