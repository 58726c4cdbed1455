"""What is known of panels of items, and scores, in long double."""

from __future__ import annotations

import numpy as np

from recengine import _native
from recengine.retrieval import _score
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


def unit(queries):
    wide = queries.astype(np.longdouble)
    return wide / np.sqrt((wide * wide).sum(axis=-1, keepdims=True))


def bounds(query, axes, facts):
    """Return what scores of a query of length 1 cannot exceed, by (low, high, across)."""
    t = unit(axes) @ unit(query)
    root = np.sqrt(np.maximum(0, 1 - t * t))
    return np.maximum(t * facts.low, t * facts.high) + root * facts.across


def check_facts(vectors, metric, order, starts, axes, facts):
    """Hold low, high and across of panels from `starts` on against their rows: true, and tight."""
    rows = exact(vectors[order], metric)
    firsts = 32 * starts[:-1]
    group = np.repeat(np.arange(len(axes)), np.diff(starts))[np.arange(len(rows)) // 32]
    lengths = np.sqrt((axes.astype(np.longdouble) ** 2).sum(axis=1))
    assert (lengths <= 1).all()
    assert (lengths >= 1 - 2.0**-22).all()
    v = unit(axes)[group]
    along = (rows * v).sum(axis=1)
    across = np.sqrt(((rows - along[:, None] * v) ** 2).sum(axis=1))
    assert (facts.low[group] <= along).all()
    assert (along <= facts.high[group]).all()
    assert (across <= facts.across[group]).all()
    size = np.sqrt((rows * rows).sum(axis=1))
    noise = 1e-5 * np.maximum.reduceat(size, firsts) + 1e-44
    assert (np.minimum.reduceat(along, firsts) - facts.low <= noise).all()
    assert (facts.high - np.maximum.reduceat(along, firsts) <= noise).all()
    assert (facts.across - np.maximum.reduceat(across, firsts) <= noise).all()
