"""Several vectors for one user: what they like is seldom one thing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_count, as_matrix
from recengine.encoders.attend import weighted_means
from recengine.encoders.ragged import Events, as_events

ROUNDS = 50  # of Lloyd's; a history of a few hundred events settles within ten


class Interests(NamedTuple):
    """Vectors of users: user u has vectors[indptr[u]:indptr[u + 1]].

    Attributes
    ----------
    vectors : ndarray (n_vectors, dim), float32
        Of one user the heaviest interest first.
    indptr : ndarray (n_users + 1,), int64
    """

    vectors: Float32Array
    indptr: Int64Array


def interests(
    vectors: Any,
    histories: Any,
    most: int = 4,
    *,
    weights: Any = None,
    ages: Any = None,
    half_life: float | None = None,
) -> Interests:
    """Split each user's history into groups of like items; return the mean of each group.

    Parameters
    ----------
    vectors : array_like (n_rows, dim)
        What items are, finite, read as float32.
    histories : (indptr, rows) or list of array_like of int
        Row numbers of `vectors`: user u has rows[indptr[u]:indptr[u + 1]].
    most : int
        Vectors a user gets at most, >= 1: fewer where the history has fewer directions.
    weights, ages : array_like (n_events,) or list of array_like, optional
    half_life : float, optional
        As of `pool_history`.

    Returns
    -------
    Interests
        Weighted means of the vectors, in their own scale. A user without events has none.

    Raises
    ------
    ValueError, TypeError
        As `pool_history`; `most` below 1.

    Notes
    -----
    Spherical k-means, the same from run to run: the first centre is the heaviest event (of equal
    ones the newest), each next one the event that is farthest, by weight × (1 − cosine), from all
    there are; then at most 50 rounds of Lloyd's, ties to the earlier centre. Float64, rounded
    once; a user has the same bits alone and in any batch. O(events most dim) a round. Safe to call
    from several threads. Ask an index with `recengine.search_interests`.

    References
    ----------
    I. S. Dhillon, D. S. Modha. Concept Decompositions for Large Sparse Text Data Using Clustering.
    Machine Learning 42, 2001, section 3. A. Pal et al. PinnerSage: Multi-Modal User Embedding
    Framework for Recommendations at Pinterest. KDD 2020, section 3 (several vectors a user).
    """
    matrix = as_matrix("vectors", vectors)
    most = as_count("most", most, minimum=1)
    events = as_events(histories, len(matrix), weights, ages, half_life)
    found, counts = [np.empty((0, matrix.shape[1]), np.float32)], np.zeros(events.n_users, np.int64)
    for users, part in events.blocks(matrix.shape[1] * (most + 1)):
        if len(part.rows):
            means, counts[users] = _grouped(matrix[part.rows].astype(np.float64), part, most)
            found.append(means.astype(np.float32))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return Interests(np.concatenate(found), indptr)


def _grouped(rows: Float64Array, events: Events, most: int) -> tuple[Float64Array, Int64Array]:
    """Return (means, heaviest first within a user; how many of them each user has)."""
    owners, shape = events.owners, (events.n_users, most)
    units = _units(rows)
    groups = _nearest(units, _first_centres(units, events, most)[owners])
    for _ in range(ROUNDS):
        sums, _ = _totals(units * events.weights[:, None], owners * most + groups, shape)
        moved = _nearest(units, _units(sums).reshape(*shape, -1)[owners])
        if np.array_equal(moved, groups):
            break
        groups = moved
    sums, weights = _totals(
        np.column_stack([rows * events.weights[:, None], events.weights]),
        owners * most + groups,
        shape,
    )
    order = np.argsort(-weights, axis=1, kind="stable") + most * np.arange(len(weights))[:, None]
    filled = np.take(weights.ravel(), order) > 0
    taken = sums[order[filled]]
    return taken[:, :-1] / taken[:, -1:], filled.sum(axis=1)


def _first_centres(units: Float64Array, events: Events, most: int) -> Float64Array:
    """Return (n_users, most, dim): the heaviest event, then the farthest one from those taken."""
    centres = np.zeros((events.n_users, most, units.shape[1]))
    filled = np.flatnonzero(np.diff(events.indptr))
    urgency = events.weights.copy()
    for number in range(most):
        chosen = _last_of_largest(urgency, events.indptr[filled], events.indptr[filled + 1])
        centres[filled, number] = units[chosen]
        cosines = np.einsum("ed,ed->e", units, centres[:, number][events.owners])
        distance = events.weights * np.maximum(0.0, 1.0 - cosines)
        urgency = distance if number == 0 else np.minimum(urgency, distance)
    return centres


def _last_of_largest(values: Float64Array, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return, for each stretch, the last place of its largest value."""
    peaks = np.repeat(np.maximum.reduceat(values, starts), stops - starts)
    places = np.where(values == peaks, np.arange(len(values)), -1)
    return np.maximum.reduceat(places, starts)


def _nearest(units: Float64Array, centres: Float64Array) -> Int64Array:
    """Return the centre of each event: the first of those with the largest cosine."""
    found: Int64Array = np.einsum("ed,ekd->ek", units, centres).argmax(axis=1)
    return found


def _totals(
    rows: Float64Array, groups: Int64Array, shape: tuple[int, int]
) -> tuple[Float64Array, Float64Array]:
    """Return (sums (n_users * most, dim), their last column as (n_users, most))."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups, minlength=shape[0] * shape[1])
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    sums = weighted_means(rows[order], np.ones(len(rows)), indptr)
    return sums, sums[:, -1].reshape(shape)


def _units(rows: Float64Array) -> Float64Array:
    norms = np.sqrt(np.square(rows).sum(axis=-1, keepdims=True))
    units: Float64Array = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return units
