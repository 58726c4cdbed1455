"""Attention over histories: many vectors of a user become one that an index can be asked with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_matrix, as_real, refuse_masked
from recengine.encoders.ragged import Events, as_events

QUERIES = ("last", "mean")


def attention(
    queries: Any, keys: Any, values: Any, mask: Any = None, temperature: float = 1.0
) -> Float32Array:
    """Return softmax(Q Kᵀ / (T √d) + mask) V.

    Parameters
    ----------
    queries : array_like (..., m, d)
        Finite real numbers.
    keys : array_like (..., n, d)
        Finite real numbers.
    values : array_like (..., n, dim)
        Finite real numbers. Leading axes are broadcast against each other.
    mask : array_like (..., m, n), optional
        Bool, False where a query must not look; or real numbers that are added, −inf there.
    temperature : float
        T > 0: the smaller, the more the nearest key alone counts.

    Returns
    -------
    ndarray (..., m, dim), float32
        A query whose mask leaves nothing, or that has no keys (n = 0), gets zeros.

    Raises
    ------
    ValueError
        NaN, infinity (but −inf in the mask), shapes that do not fit, a temperature that is not > 0.
    TypeError
        What holds no real numbers.

    Notes
    -----
    Computed in float64 and rounded once; the largest logit is taken off before the exponential, so
    that none overflows. O(m n (d + dim)) time and O(m n) memory for each leading index. Safe to
    call from several threads. Checked against ``tests/encoders/test_attention.py::attended``.

    References
    ----------
    A. Vaswani et al. Attention Is All You Need. NIPS 2017, section 3.2.1, equation 1.
    """
    q, k = _as_tensor("queries", queries), _as_tensor("keys", keys)
    v = _as_tensor("values", values)
    t = as_real("temperature", temperature, minimum=0.0, exclusive=True)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"keys must have the dim of queries, {q.shape[-1]}, got {k.shape[-1]}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"values must have a row per key, {k.shape[-2]}, got {v.shape[-2]}")
    logits = np.einsum("...md,...nd->...mn", q, k) / (t * math.sqrt(q.shape[-1]))
    if mask is not None:
        logits = logits + _as_mask(mask)
    if logits.shape[-2:] != (q.shape[-2], k.shape[-2]):
        raise ValueError(f"mask must be (..., {q.shape[-2]}, {k.shape[-2]})")
    shares = _softmax(logits)
    pooled: Float64Array = np.einsum("...mn,...nd->...md", shares, v)
    return pooled.astype(np.float32)


def pool_history(
    vectors: Any,
    histories: Any,
    query: Any = "last",
    *,
    weights: Any = None,
    ages: Any = None,
    half_life: float | None = None,
    temperature: float = 1.0,
) -> Float32Array:
    """Return one vector per user: attention over the vectors of the user's history.

    Event j of a user gets the share softmax_j(q·h_j / (T √d) + log w_j), where
    w_j = weight_j * 2 ** (−age_j / half_life), and the user is Σ share_j h_j.

    Parameters
    ----------
    vectors : array_like (n_rows, dim)
        What items are, finite, read as float32.
    histories : (indptr, rows) or list of array_like of int
        Row numbers of `vectors`, oldest first: user u has rows[indptr[u]:indptr[u + 1]].
    query : {"last", "mean"}, array_like (dim,) or (n_users, dim), or None
        What attends: the user's last event, the weighted mean of the events, one vector for all
        or one for each. None for the weighted mean itself.
    weights : array_like (n_events,) or list of array_like, optional
        Strength of each event, >= 0, flat or per user; 1 when omitted. One of weight 0 counts as
        if it were not there.
    ages : array_like (n_events,) or list of array_like, optional
        How long ago each event was, >= 0; goes with `half_life`.
    half_life : float, optional
        > 0: an event so old weighs half.
    temperature : float
        T > 0. The logits of unit vectors lie within ±1/(T √d): take T near 1/√d for a choice that
        is sharper than the mean.

    Returns
    -------
    ndarray (n_users, dim), float32
        Zeros for a user without events (with a weight > 0). In the order of `histories`.

    Raises
    ------
    ValueError, TypeError
        Wrong shapes or dtypes, row numbers out of range, weights or ages below 0 or not finite.

    Notes
    -----
    The query does not depend on the candidate, so a user stays one vector and any index finds the
    exact best items for it. Float64, rounded once; a user has the same bits alone and in any batch.
    O(events dim) time, a block of 8 MiB beside the answer. Safe to call from several threads.
    Checked against ``tests/encoders/test_attention.py::pooled``.

    References
    ----------
    A. Vaswani et al. Attention Is All You Need. NIPS 2017, section 3.2.1. G. Zhou et al. Deep
    Interest Network for Click-Through Rate Prediction. KDD 2018, section 4.3 (attention over
    what a user did; there with the candidate as the query).
    """
    matrix = as_matrix("vectors", vectors)
    events = as_events(histories, len(matrix), weights, ages, half_life)
    scale = as_real("temperature", temperature, minimum=0.0, exclusive=True)
    scale *= math.sqrt(max(1, matrix.shape[1]))
    given = _as_query(query, events.n_users, matrix.shape[1])
    pooled = np.zeros((events.n_users, matrix.shape[1]), np.float32)
    for users, part in events.blocks(matrix.shape[1]):
        rows = matrix[part.rows].astype(np.float64)
        logits = np.log(part.weights)
        if query is not None:
            asked = given[users] if given is not None else _own_query(str(query), rows, part)
            logits += np.einsum("ed,ed->e", rows, asked[part.owners]) / scale
        pooled[users] = weighted_means(rows, _shares(logits, part), part.indptr)
    return pooled


def weighted_means(rows: Float64Array, shares: Float64Array, indptr: Int64Array) -> Float64Array:
    """Return Σ share * row of each user, in the order of the events; zeros for none."""
    sums = np.zeros((len(indptr) - 1, rows.shape[1]))
    filled = np.flatnonzero(np.diff(indptr))
    if len(filled):
        sums[filled] = np.add.reduceat(rows * shares[:, None], indptr[filled], axis=0)
    return sums


def _shares(logits: Float64Array, events: Events) -> Float64Array:
    """Return the softmax of the logits within each user."""
    filled = np.diff(events.indptr) > 0
    starts, owners = events.indptr[:-1][filled], (np.cumsum(filled) - 1)[events.owners]
    if not len(starts):
        return logits
    raised = np.exp(logits - np.maximum.reduceat(logits, starts)[owners])
    shares: Float64Array = raised / np.add.reduceat(raised, starts)[owners]
    return shares


def _own_query(kind: str, rows: Float64Array, events: Events) -> Float64Array:
    if kind == "mean":
        return weighted_means(rows, _shares(np.log(events.weights), events), events.indptr)
    last = np.zeros((events.n_users, rows.shape[1]))
    filled = np.diff(events.indptr) > 0
    last[filled] = rows[events.indptr[1:][filled] - 1]
    return last


def _as_query(query: Any, n_users: int, dim: int) -> Float64Array | None:
    """Return a given query as (n_users, dim); None where it comes from the history."""
    if query is None or (isinstance(query, str) and query in QUERIES):
        return None
    if isinstance(query, str):
        raise ValueError(f"query must be 'last', 'mean', None or vectors, got {query!r}")
    table = as_matrix("query", np.atleast_2d(np.asarray(query)), dim=dim).astype(np.float64)
    if np.ndim(query) == 1:
        return np.broadcast_to(table, (n_users, dim))
    if len(table) != n_users:
        raise ValueError(
            f"query must be (dim,) or have a row per user, {n_users}, got {len(table)}"
        )
    return table


def _softmax(logits: Float64Array) -> Float64Array:
    if not logits.shape[-1]:
        return logits
    highest = logits.max(axis=-1, keepdims=True)
    raised = np.exp(logits - np.where(np.isneginf(highest), 0.0, highest))
    total = raised.sum(axis=-1, keepdims=True)
    shares: Float64Array = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    return shares


def _as_tensor(name: str, value: Any) -> Float64Array:
    refuse_masked(name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"{name} must be (..., rows, dim), got shape {array.shape}")
    tensor: Float64Array = array.astype(np.float64)
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name} must be finite, got {tensor[~np.isfinite(tensor)][0]}")
    return tensor


def _as_mask(mask: Any) -> NDArray[np.float64]:
    array = np.asarray(mask)
    if array.dtype.kind == "b":
        return np.where(array, 0.0, -np.inf)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"mask must hold bool or real numbers, got dtype {array.dtype}")
    added: NDArray[np.float64] = array.astype(np.float64)
    if np.isnan(added).any() or np.isposinf(added).any():
        raise ValueError("mask must hold finite numbers and -inf, got NaN or +inf")
    return added
