"""In which order the codes of an index lie, and what becomes of that order when rows change.

The order is measured on the vectors, which costs more than the codes themselves. So it is kept
while most rows are those that it was measured on: any order is right, it is only fast or slow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float64Array, Int64Array
from recengine.retrieval._clusters import Clusters

Copies = tuple[Int64Array, Int64Array]


class Layout(NamedTuple):
    """What lies where.

    Attributes
    ----------
    order : ndarray (n_slots,), int64, or None
        The row of each slot; None where it need not be chosen.
    copies : (ndarray (n,), ndarray (n_slots + 1,)) or None
        The rows slot by slot, and where each slot begins: those of one are equal.
    by_norm : bool
        Whether the norms fall from slot to slot.
    clusters : Clusters or None
        Whose order it is.
    """

    order: Int64Array | None = None
    copies: Copies | None = None
    by_norm: bool = False
    clusters: Clusters | None = None


def carried_over(
    codes: dict[str, Any], row_now: Int64Array, fresh: Int64Array, sq_norms: Float64Array
) -> Layout | None:
    """Return the layout of `codes` after rows came and went; None for one that must be chosen anew.

    Parameters
    ----------
    codes : dict from `_coding.encode`
    row_now : ndarray (n_before,), int64
        What row each coded row is now, −1 where it is gone; ascending but for those.
    fresh : ndarray (m,), int64
        The rows that came; not looked at for copies.
    sq_norms : ndarray (n,)
        Of the rows as they are now.

    Notes
    -----
    O(n + m log m).
    """
    if "axes" in codes:
        return None
    by_norm = "block_reach" in codes
    if "members" in codes:
        copies = _with_fresh(codes["members"], codes["starts"], row_now, fresh)
        if by_norm:
            firsts = copies[0][copies[1][:-1]]
            copies = reordered(copies, np.argsort(-sq_norms[firsts], kind="stable"))
        return Layout(copies[0][copies[1][:-1]], copies, by_norm)
    if not by_norm:
        return Layout()
    order = row_now[codes["order"]]
    order = np.concatenate([order[order >= 0], fresh[np.argsort(-sq_norms[fresh])]])
    # Two sorted runs: a stable sort merges them.
    return Layout(order[np.argsort(-sq_norms[order], kind="stable")], by_norm=True)


def _with_fresh(
    members: Int64Array, starts: Int64Array, row_now: Int64Array, fresh: Int64Array
) -> Copies:
    """Return groups without the rows that are gone, and each fresh row as a group of its own."""
    rows = row_now[members]
    here = rows >= 0
    lengths = np.add.reduceat(here, starts[:-1], dtype=np.int64)
    ends = np.cumsum(np.concatenate([lengths[lengths > 0], np.ones(len(fresh), np.int64)]))
    return np.concatenate([rows[here], fresh]), np.concatenate([[0], ends])


def reordered(copies: Copies, by: Int64Array) -> Copies:
    """Return the groups of equal rows in another order."""
    rows, starts = copies
    lengths = np.diff(starts)[by]
    ends = np.cumsum(lengths)
    place = np.repeat(starts[:-1][by] - (ends - lengths), lengths) + np.arange(len(rows))
    return rows[place], np.concatenate([[0], ends])
