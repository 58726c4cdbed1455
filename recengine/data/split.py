"""Which events are held out: by each user's last ones, or by one moment for all."""

from __future__ import annotations

import math

import numpy as np

from recengine._types import Int64Array
from recengine._validation import as_count, as_real
from recengine.data._columns import Mask


def last_events(indptr: Int64Array, order: Int64Array, n: int) -> Mask:
    """Return which events are among the last n of their user.

    Users with n events or fewer have none held out: nothing would be left to know them by.

    Parameters
    ----------
    indptr, order : ndarray (n_users + 1,) and (n_events,), int64
        The events of user u in time order are ``order[indptr[u]:indptr[u + 1]]``.
    n : int
        At least 1.
    """
    as_count("n", n, minimum=1)
    counts = np.diff(indptr)
    from_end = np.repeat(indptr[1:], counts) - np.arange(len(order))
    held_out = np.zeros(len(order), bool)
    held_out[order] = (from_end <= n) & np.repeat(counts > n, counts)
    return held_out


def events_from_moment(timestamps: Int64Array, fraction: float) -> Mask:
    """Return which events happened at or after the moment that leaves ``fraction`` of them out.

    The moment is the time of the earliest of the latest ⌊fraction·n⌋ events; all events of that
    second are held out with it, so that train is strictly earlier than test.
    """
    as_real("fraction", fraction, minimum=0, exclusive=True)
    if fraction >= 1:
        raise ValueError(f"fraction must be < 1, got {fraction:g}")
    n_events = len(timestamps)
    n_test = math.floor(fraction * n_events + 1e-9)  # 0.29 · 100 is 28.999…
    if n_test == 0:
        return np.zeros(n_events, bool)
    place = n_events - n_test
    return np.asarray(timestamps >= np.partition(timestamps, place)[place])
