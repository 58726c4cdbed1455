# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""Selection: top-k of score rows, merge of answers, order of ranked candidates.

One order everywhere: score descending, then the tie key (a row number or an ordinal) ascending.
It is total, so nothing here depends on the order of arrival. Entries that are not above −inf
(padding, masked scores, NaN) are never selected; the tail of an answer is −1 and −inf.
"""

import numpy as np

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc

cdef enum:
    BLOCK = 16
    FEW = 4096


cdef inline bint _worse(
    float score_a, int64_t tag_a, float score_b, int64_t tag_b, const int64_t* tie
) noexcept nogil:
    """Say whether entry a stands behind entry b; `tie` maps tags to tie keys (NULL: itself)."""
    if score_a != score_b:
        return score_a < score_b
    if tie != NULL and tie[tag_a] != tie[tag_b]:
        return tie[tag_a] > tie[tag_b]
    return tag_a > tag_b


cdef void _sift_down(
    float* scores, int64_t* tags, Py_ssize_t at, Py_ssize_t size, const int64_t* tie
) noexcept nogil:
    """Restore the heap below `at`; its root is the worst entry kept."""
    cdef float score = scores[at]
    cdef int64_t tag = tags[at]
    cdef Py_ssize_t child
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(
            scores[child + 1], tags[child + 1], scores[child], tags[child], tie
        ):
            child += 1
        if not _worse(scores[child], tags[child], score, tag, tie):
            break
        scores[at] = scores[child]
        tags[at] = tags[child]
        at = child
    scores[at] = score
    tags[at] = tag


cdef Py_ssize_t _offer(
    float* scores, int64_t* tags, Py_ssize_t size, Py_ssize_t k,
    float score, int64_t tag, const int64_t* tie
) noexcept nogil:
    """Put an entry into a heap of at most k; return the new size. pre: k > 0."""
    cdef Py_ssize_t at, parent
    if not score > -INFINITY:
        return size
    if size == k:
        if _worse(scores[0], tags[0], score, tag, tie):
            scores[0] = score
            tags[0] = tag
            _sift_down(scores, tags, 0, size, tie)
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _worse(score, tag, scores[parent], tags[parent], tie):
            break
        scores[at] = scores[parent]
        tags[at] = tags[parent]
        at = parent
    scores[at] = score
    tags[at] = tag
    return size + 1


cdef void _finish(
    float* scores, int64_t* tags, Py_ssize_t size, Py_ssize_t k, const int64_t* tie
) noexcept nogil:
    """Turn the heap into best-first order, pad it up to k, and make −0 a +0."""
    cdef Py_ssize_t i
    cdef float score
    cdef int64_t tag
    for i in range(size - 1, 0, -1):
        score = scores[i]
        tag = tags[i]
        scores[i] = scores[0]
        tags[i] = tags[0]
        scores[0] = score
        tags[0] = tag
        _sift_down(scores, tags, 0, i, tie)
    for i in range(size):
        if scores[i] == 0:
            scores[i] = 0
    for i in range(size, k):
        scores[i] = -INFINITY
        tags[i] = -1


cdef void _topk_row(
    const float* row, Py_ssize_t n, float* scores, int64_t* tags, Py_ssize_t k
) noexcept nogil:
    """Select from one row. Tags rise while it is read, so an equal score never displaces."""
    cdef Py_ssize_t size = 0, at = 0, i
    cdef int hits
    cdef float floor
    while at < n and size < k:
        size = _offer(scores, tags, size, k, row[at], at, NULL)
        at += 1
    while at < n:
        floor = scores[0]
        while at + BLOCK <= n:  # skip whole blocks below the worst score kept
            hits = 0
            for i in range(BLOCK):
                hits += row[at + i] > floor
            if hits:
                break
            at += BLOCK
        for i in range(at, min(at + BLOCK, n)):
            if row[i] > scores[0]:
                _offer(scores, tags, size, k, row[i], i, NULL)
        at = min(at + BLOCK, n)
    _finish(scores, tags, size, k, NULL)


cdef bint _first_time(
    uint64_t* table, uint64_t size_mask, const int64_t* keys, Py_ssize_t at
) noexcept nogil:
    """Remember keys[at] in an open-addressing table of positions + 1; false if it was there."""
    cdef uint64_t slot = (<uint64_t>keys[at] * <uint64_t>0x9E3779B97F4A7C15) >> 17
    slot &= size_mask
    while table[slot] != 0:
        if keys[<Py_ssize_t>(table[slot] - 1)] == keys[at]:
            return False
        slot = (slot + 1) & size_mask
    table[slot] = <uint64_t>at + 1
    return True


cdef void _merge_row(
    const float* row, const int64_t* ordinals, const int64_t* keys, Py_ssize_t n,
    float* scores, int64_t* tags, uint64_t* table, uint64_t size_mask,
    int64_t* out, Py_ssize_t k
) noexcept nogil:
    """Order one row of all parts, keep each key once at its best place, write k positions."""
    cdef Py_ssize_t size = 0, i, kept = 0
    cdef uint64_t slot
    for i in range(n):
        if ordinals[i] >= 0:
            size = _offer(scores, tags, size, n, row[i], i, ordinals)
    _finish(scores, tags, size, size, ordinals)
    for slot in range(size_mask + 1):
        table[slot] = 0
    for i in range(size):
        if kept == k:
            break
        if _first_time(table, size_mask, keys, tags[i]):
            out[kept] = tags[i]
            kept += 1
    for i in range(kept, k):
        out[i] = -1


def _check_k(Py_ssize_t k):
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")


def topk(const float[:, ::1] scores not None, Py_ssize_t k):
    """Return (indices int64 (n, k), scores float32 (n, k)) of the best k of each row."""
    _check_k(k)
    cdef Py_ssize_t n = scores.shape[0], m = scores.shape[1], i
    indices = np.empty((n, k), np.int64)
    best = np.empty((n, k), np.float32)
    if n == 0 or k == 0:
        return indices, best
    if m == 0:
        indices.fill(-1)
        best.fill(-np.inf)
        return indices, best
    cdef int64_t[:, ::1] out_tags = indices
    cdef float[:, ::1] out_scores = best
    with nogil:
        for i in range(n):
            _topk_row(&scores[i, 0], m, &out_scores[i, 0], &out_tags[i, 0], k)
    return indices, best


def merge(
    const float[:, ::1] scores not None,
    const int64_t[:, ::1] ordinals not None,
    const int64_t[:, ::1] keys not None,
    Py_ssize_t k,
):
    """Return positions int64 (n, k) of the best k entries of each row, each key once.

    Ties go to the smaller ordinal, then to the earlier position. Entries whose ordinal is
    negative are padding.
    """
    _check_k(k)
    cdef Py_ssize_t n = scores.shape[0], m = scores.shape[1], i
    if (
        ordinals.shape[0] != n or ordinals.shape[1] != m
        or keys.shape[0] != n or keys.shape[1] != m
    ):
        raise ValueError("scores, ordinals and keys must have one shape")
    positions = np.full((n, k), -1, np.int64)
    if n == 0 or k == 0 or m == 0:
        return positions
    cdef int64_t[:, ::1] out = positions
    cdef uint64_t size_mask = 1
    while size_mask < <uint64_t>(2 * m):
        size_mask *= 2
    cdef float* heap = <float*>malloc(m * sizeof(float))
    cdef int64_t* tags = <int64_t*>malloc(m * sizeof(int64_t))
    cdef uint64_t* table = <uint64_t*>malloc(size_mask * sizeof(uint64_t))
    size_mask -= 1
    try:
        if heap == NULL or tags == NULL or table == NULL:
            raise MemoryError
        with nogil:
            for i in range(n):
                _merge_row(
                    &scores[i, 0], &ordinals[i, 0], &keys[i, 0], m,
                    heap, tags, table, size_mask, &out[i, 0], k,
                )
    finally:
        free(heap)
        free(tags)
        free(table)
    return positions


cdef void merge_pair(
    const int64_t* ordinals_a, const float* scores_a,
    const int64_t* ordinals_b, const float* scores_b,
    Py_ssize_t k, int64_t* out, float* best
) noexcept nogil:
    """The best k of two answers over disjoint items, in order and padded with ordinal -1."""
    cdef Py_ssize_t a = 0, b = 0, i
    for i in range(k):  # of either no more than i have been taken, so both have one left
        if ordinals_b[b] < 0 or (ordinals_a[a] >= 0 and not _worse(
            scores_a[a], ordinals_a[a], scores_b[b], ordinals_b[b], NULL
        )):
            out[i], best[i] = ordinals_a[a], scores_a[a]
            a += 1
        else:
            out[i], best[i] = ordinals_b[b], scores_b[b]
            b += 1


def order(
    const float[::1] scores not None,
    const int64_t[::1] rows not None,
    const int64_t[::1] indptr not None,
    Py_ssize_t k,
):
    """Return (rows int64 (n, k), scores float32 (n, k)): the best k of each query's candidates.

    Query i owns entries indptr[i] to indptr[i + 1] of `rows` and `scores`.
    """
    _check_k(k)
    cdef Py_ssize_t n = indptr.shape[0] - 1, nnz = rows.shape[0], i, j, size
    if n < 0 or scores.shape[0] != nnz or indptr[0] != 0 or indptr[n] != nnz:
        raise ValueError("indptr must run from 0 to the number of rows and scores")
    for i in range(n):
        if indptr[i] > indptr[i + 1]:
            raise ValueError("indptr must not fall")
    ranked = np.empty((n, k), np.int64)
    best = np.empty((n, k), np.float32)
    if n == 0 or k == 0:
        return ranked, best
    cdef int64_t[:, ::1] out_tags = ranked
    cdef float[:, ::1] out_scores = best
    with nogil:
        for i in range(n):
            size = 0
            for j in range(indptr[i], indptr[i + 1]):
                size = _offer(
                    &out_scores[i, 0], &out_tags[i, 0], size, k, scores[j], rows[j], NULL
                )
            _finish(&out_scores[i, 0], &out_tags[i, 0], size, k, NULL)
    return ranked, best
