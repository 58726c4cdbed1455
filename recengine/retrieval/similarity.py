"""Dense similarity of all pairs of two sets of vectors, by the canonical score."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine import _native
from recengine._types import Float32Array, Metric
from recengine._validation import as_count, as_matrix, as_queries
from recengine.retrieval import _score

METRICS: tuple[Metric, ...] = (
    "cosine",
    "dot",
    "l2",
)  # the native number of a metric is its place here


def cosine_similarity(a: Any, b: Any, *, num_threads: int | None = None) -> Float32Array:
    """Return the cosine of every pair of rows.

    Parameters
    ----------
    a : array_like (dim,) or (n, dim)
        Finite real numbers, read as float32.
    b : array_like (m, dim)
    num_threads : int, optional
        Threads of this call; one when omitted.

    Returns
    -------
    ndarray (m,) or (n, m), float32
        In [−1, 1] up to one rounding; 0 where either vector is zero.

    Raises
    ------
    ValueError, TypeError
        Wrong shape or dtype, NaN or infinity.

    Notes
    -----
    Canonical: a·b / sqrt(a·a × b·b) in float64 with one fixed order of additions, rounded once,
    hence the same bits as `FlatIndex` at any SIMD level and thread count. O(n m dim) time. Safe to
    call from several threads. Checked against ``tests/oracles.py::scores``.
    """
    return _pairwise("cosine", a, b, num_threads)


def dot_similarity(a: Any, b: Any, *, num_threads: int | None = None) -> Float32Array:
    """Return the inner product of every pair of rows.

    Parameters
    ----------
    a : array_like (dim,) or (n, dim)
        Finite real numbers, read as float32.
    b : array_like (m, dim)
    num_threads : int, optional
        Threads of this call; one when omitted.

    Returns
    -------
    ndarray (m,) or (n, m), float32
        Saturated at ±FLT_MAX.

    Raises
    ------
    ValueError, TypeError
        Wrong shape or dtype, NaN or infinity.

    Notes
    -----
    Canonical, cost and thread-safety as `cosine_similarity`.
    """
    return _pairwise("dot", a, b, num_threads)


def euclidean_distance(a: Any, b: Any, *, num_threads: int | None = None) -> Float32Array:
    """Return the Euclidean distance of every pair of rows.

    Parameters
    ----------
    a : array_like (dim,) or (n, dim)
        Finite real numbers, read as float32.
    b : array_like (m, dim)
    num_threads : int, optional
        Threads of this call; one when omitted.

    Returns
    -------
    ndarray (m,) or (n, m), float32
        sqrt(Σ(a−b)²) >= 0, saturated at FLT_MAX: a distance, so smaller is nearer. The score of
        ``FlatIndex(metric="l2")`` is its negative.

    Raises
    ------
    ValueError, TypeError
        Wrong shape or dtype, NaN or infinity.

    Notes
    -----
    The differences are squared as they are, never expanded into norms and a product, so equal
    rows have distance exactly 0. Cost and thread-safety as `cosine_similarity`.
    """
    negative = _pairwise("l2", a, b, num_threads)
    return np.abs(negative, out=negative)


def _pairwise(metric: str, a: Any, b: Any, num_threads: int | None) -> Float32Array:
    right = as_matrix("b", b)
    left, single = as_queries("a", a, dim=right.shape[1])
    threads = 1 if num_threads is None else as_count("num_threads", num_threads, minimum=1)
    number = METRICS.index(metric)
    scores = _score.pairwise(_native.api(), number, left, right, num_threads=threads)
    return scores[0] if single else scores
