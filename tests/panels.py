"""Bounds of panels, as a scan evaluates them in float32, beside exact scores in long double."""

from __future__ import annotations

import numpy as np

from recengine import _native
from recengine.retrieval import _panel_bounds, _score
from recengine.retrieval._vectors import widened

METRICS = {"cosine": 0, "dot": 1}


def sq_norms(vectors):
    return _score.squared_norms(_native.api(), vectors)


def exact(vectors, metric):
    """Return y of rows in long double."""
    wide = widened(vectors).astype(np.longdouble)
    if metric == "dot":
        return wide
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)


def scores(query, vectors, metric):
    """Return e.y of every row, in long double."""
    wide = query.astype(np.longdouble)
    return exact(vectors, metric) @ (wide / np.sqrt((wide * wide).sum()))


def one_after_another(axis, e):
    """Return the products of rows with e, summed in float32 in order of dim."""
    return np.add.accumulate(axis * e, axis=1, dtype=np.float32)[:, -1]


def bounds(query, axes, facts, sums=np.matmul):
    """Return the bounds of (low, high, across) as a scan evaluates them, in float32."""
    wide = query / np.abs(query).max().astype(np.float64)
    e = (wide / np.linalg.norm(wide)).astype(np.float32)
    t = sums(axes, e)
    root = np.sqrt(np.maximum(0, np.float32(_panel_bounds.square(len(e))) - t * t))
    found = np.maximum(t * facts.low, t * facts.high) + root * facts.across
    assert found.dtype == np.float32
    return found


def check_facts(vectors, metric, order, starts, axes, facts):
    """Hold low, high and across of panels from `starts` on against their rows: true, and tight."""
    rows = exact(vectors[order], metric)
    firsts = 32 * starts[:-1]
    group = np.repeat(np.arange(len(axes)), np.diff(starts))[np.arange(len(rows)) // 32]
    u = axes.astype(np.longdouble)
    lengths = np.sqrt((u * u).sum(axis=1))
    assert (lengths <= 1).all()
    assert (lengths >= 1 - 2.0**-22).all()
    along = (rows * u[group]).sum(axis=1)
    left = rows - (along / lengths[group] ** 2)[:, None] * u[group]
    across = np.sqrt((left * left).sum(axis=1))
    for seen in (along, along / lengths[group]):
        assert (facts.low[group] <= seen).all()
        assert (seen <= facts.high[group]).all()
    assert (across <= facts.across[group]).all()
    size = np.sqrt((rows * rows).sum(axis=1))
    noise = 1e-4 * np.maximum.reduceat(size, firsts) + 1e-36
    assert (np.minimum.reduceat(along, firsts) - facts.low <= noise).all()
    assert (facts.high - np.maximum.reduceat(along, firsts) <= noise).all()
    assert (facts.across - np.maximum.reduceat(across, firsts) <= noise).all()
