"""Exact search for users who are several vectors: an item is as good as its best match."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import PADDING_ID, IdArray, Int64Array, TopK
from recengine._validation import as_matrix
from recengine.retrieval import _id_lists
from recengine.retrieval.flat import FlatIndex
from recengine.retrieval.selection import merge_topk


def search_interests(
    index: FlatIndex, interests: Any, k: int = 10, *, exclude: Any = None, **options: Any
) -> TopK:
    """Return the best k items of each user, by the best score over the user's vectors.

    Parameters
    ----------
    index : FlatIndex
    interests : (vectors (n_vectors, dim), indptr (n_users + 1,)) or array_like (n_users, m, dim)
        The vectors of user u are vectors[indptr[u]:indptr[u + 1]], as `recengine.interests`
        returns them; or m for each.
    k : int
        How many, >= 0; may exceed the number of items by up to 2²⁰.
    exclude : list, tuple or sparse matrix, optional
        What each user must not get, as in `FlatIndex.search`, one entry per user.
    **options
        allow, deny, where, filter, bias, min_score, num_threads, timeout of `FlatIndex.search`.

    Returns
    -------
    TopK
        ids (n_users, k), scores alike: max over the user's vectors of the score that `search`
        gives, the same bits. Order is score descending, then ordinal ascending, and an item stands
        once; the tail is padding, and so is all of a user without vectors. ``partial`` where a
        `timeout` ended the scan.

    Raises
    ------
    ValueError, TypeError
        As `FlatIndex.search`; an `indptr` that does not fit.

    Notes
    -----
    Exact: let item i be among the user's best k by its best score s, found at vector v. What
    `search` puts before i at v has a score there of at least s (of equal ones a lower ordinal),
    hence a best score that puts it before i for the user too: fewer than k items do. So i is among
    the best k at v, and the union over vectors holds the answer. One search of n_vectors queries,
    then a merge of O(n_users m k log(m k)). Safe to call from several threads. Checked against
    brute force in ``tests/retrieval/test_interests.py``.
    """
    if "out" in options:
        raise TypeError("out must not be given: an answer is merged from several")
    vectors, indptr = _as_interests(interests)
    counts = np.diff(indptr)
    n_users, owners = len(counts), np.repeat(np.arange(len(counts)), np.diff(indptr))
    if exclude is not None:
        generation = index._live.generation
        lists = _id_lists.exclusions(generation, exclude, n_users, single=False)
        exclude = _of_each_vector(lists, owners) if lists is not None else None
    found = index.search(vectors, k, exclude=exclude, **options)
    parts = [_part(found, indptr, number) for number in range(max(1, counts.max(initial=0)))]
    return merge_topk(parts, k)


def _as_interests(value: Any) -> tuple[Any, Int64Array]:
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"interests must be (vectors, indptr), got {len(value)} entries")
        vectors = as_matrix("interests", value[0])
        indptr = np.asarray(value[1])
        if indptr.ndim != 1 or indptr.dtype.kind not in "iu" or not len(indptr):
            raise TypeError("indptr of interests must be 1-D integers, n_users + 1 of them")
        indptr = indptr.astype(np.int64)
        if indptr[0] != 0 or indptr[-1] != len(vectors) or (np.diff(indptr) < 0).any():
            raise ValueError(
                f"indptr of interests must rise from 0 to {len(vectors)}, the number of vectors"
            )
        return vectors, indptr
    array = np.asarray(value)
    if array.ndim != 3:
        raise ValueError(
            f"interests must be (vectors, indptr) or (n_users, m, dim), got shape {array.shape}"
        )
    n_users, each, dim = array.shape
    vectors = as_matrix("interests", array.reshape(n_users * each, dim))
    return vectors, np.arange(n_users + 1, dtype=np.int64) * each


def _of_each_vector(lists: _id_lists.Lists, owners: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return a CSR that repeats each user's list for each of their vectors."""
    lengths = np.diff(lists.indptr)[owners]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    shift = np.repeat(lists.indptr[:-1][owners] - indptr[:-1], lengths)
    return indptr, lists.ordinals[np.arange(indptr[-1]) + shift]


def _part(found: TopK, indptr: Int64Array, number: int) -> TopK:
    """Return the answer to vector `number` of each user, padding where there is none."""
    has = np.diff(indptr) > number
    rows = indptr[:-1][has] + number
    ids: IdArray = np.full(
        (len(has), found.ids.shape[1]),
        None if found.ids.dtype == object else PADDING_ID,
        found.ids.dtype,
    )
    ordinals = np.full(ids.shape, -1, np.int64)
    scores = np.full(ids.shape, -np.inf, np.float32)
    ids[has], ordinals[has], scores[has] = found.ids[rows], found.ordinals[rows], found.scores[rows]
    return TopK(ids, scores, ordinals=ordinals, partial=found.partial)
