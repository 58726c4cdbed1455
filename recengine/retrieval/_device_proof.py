"""The proof that the device cut nothing off: a bound on the score of every item it did not give.

The device gives its best rows by v = fl(q'.y + e'), where q' is the query scaled by 1/m, y an item
scaled by 1/S and e' what is added, scaled by both. For the exact s = q.x + e (q and x at length 1
under cosine), with A = m S:

    |q.x - A q'.y|     <=  |q - m q'| |x|  +  m |q'| |x - S y|              (Cauchy-Schwarz twice)
    |e - S e_stored|   <=  the largest loss of any addend
    |v - (q'.y + e')|  <=  g(d + 8) (|q'| |y| + |e'|) + (d + 4) 2^-126      g(n) = n u / (1 - n u)

u = 2^-24: products and sums are float32, in any order, fused or not; numbers below the normal ones
may be flushed. All norms of items are the largest over the table, q' and m are those that the graph
itself used, and |q - m q'| is computed from them. So s <= A v + E for every item, and v of an item
that was not given is at most the last v given. The canonical score lies within 2^-53 (d + 16)
(|q| |x| + |e|) of s, then it is rounded to float32, which is monotone. An item outside is certain
to stand behind the answer if the rounded bound lies *below* its last score; a tie proves nothing.

E is summed in float64 and widened by 2^-30 of itself, far more than that loses.
"""

from __future__ import annotations

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine.retrieval._device_table import COSINE, L2, LARGEST, Laid

UNIT = 2.0**-24
TINY = 2.0**-126
SLACK = 1 + 2.0**-30


def highest_outside(
    laid: Laid,
    queries: Float32Array,
    scaled: Float32Array,
    scale: float,
    last: Float32Array,
) -> Float32Array:
    """Return the most that an item can score which the device did not give, a query each.

    Parameters
    ----------
    laid : Laid
        What lies on the device.
    queries : ndarray (n, dim), float32
    scaled : ndarray (n, dim), float32
        q' as the graph computed it.
    scale : float
        m.
    last : ndarray (n,), float32
        The last, lowest value that the device gave; -inf: it gave every item there is.

    Returns
    -------
    ndarray (n,), float32
        +inf where nothing is proved, -inf where there is no item outside.
    """
    table, added = laid
    dim, reach = queries.shape[1], table.reach
    exact = queries.astype(np.float64)
    lengths = _norms(exact)
    if table.metric == COSINE:
        np.divide(exact, lengths[:, None], out=exact, where=lengths[:, None] > 0)
        units = (lengths > 0).astype(np.float64)
    else:
        units = lengths
    wide = scaled.astype(np.float64)
    sizes = _norms(wide)
    factor = scale * table.scale
    lost = _norms(exact - scale * wide) + (dim + 8) * 2.0**-53 * units
    growth = (dim + 8) * UNIT / (1 - (dim + 8) * UNIT)
    error = (
        lost * reach.item
        + scale * sizes * reach.lost
        + added.lost
        + factor * (growth * sizes * reach.stored + (dim + 4) * TINY)
        + growth * added.reach
        + (dim + 16) * 2.0**-53 * (units * reach.item + added.reach)
    ) * SLACK
    with np.errstate(invalid="ignore", over="ignore"):
        total = factor * last.astype(np.float64)
        most = total + error + 2.0**-50 * np.abs(total)
        if table.metric == L2:
            most = _distance(most, lengths * lengths, (dim + 64) * 2.0**-52)
        rounded: Float32Array = np.clip(most, -LARGEST, LARGEST).astype(np.float32)
    sure = np.isfinite(wide).all(axis=1) & ~np.isnan(most) & (last < np.inf) & np.isfinite(error)
    rounded[~sure] = np.inf
    rounded[sure & np.isneginf(last)] = -np.inf
    return rounded


def _distance(most: Float64Array, squares: Float64Array, loose: float) -> Float64Array:
    """Return the most that -|q - x| can be where q.x - |x|²/2 is at most `most`.

    `loose` bounds the relative error of any float64 sum here.
    """
    least = squares - 2 * most
    least -= loose * (squares + 2 * np.abs(most))
    return -np.sqrt(np.maximum(least, 0)) * (1 - loose)


def _norms(rows: Float64Array) -> Float64Array:
    norms: Float64Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms
