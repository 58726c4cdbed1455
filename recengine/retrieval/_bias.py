"""Boosts: one number an item that is added to its score before the rounding.

The bias of the index lies beside the rows of a segment; that of a request comes by id and is laid
beside the same rows. Where both are there, their float64 sum, rounded to float32 and saturated, is
the bias of the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_vector
from recengine.retrieval._generation import Generation
from recengine.retrieval._id_lists import ids_of_kind
from recengine.retrieval._segment import Segment, frozen
from recengine.retrieval.similarity import METRICS

L2 = METRICS.index("l2")
_LARGEST = float(np.finfo(np.float32).max)


def as_bias(value: Any, n_items: int, metric: int) -> Float32Array:
    """Return `value` as a finite, read-only bias of so many items of its own memory."""
    if metric == L2:
        raise ValueError("bias must be None under l2: its scores are distances")
    checked: Float32Array = frozen(as_vector("bias", value, n_items).copy())
    return checked


def by_ordinal(value: Any, now: Generation) -> Float32Array:
    """Return the bias of a request (n_ordinals,): 0 where an item has none.

    Parameters
    ----------
    value : array_like (n_alive,) or mapping of id to number
        In the order of the ids in the index, or by id; ids that are not in it are passed over.
    """
    spread = np.zeros(now.n_ordinals, np.float32)
    if isinstance(value, Mapping):
        ordinals = now.ordinals_of(ids_of_kind(now, "bias", list(value)))
        boosts = as_bias(list(value.values()), len(ordinals), now.metric)
        spread[ordinals[ordinals >= 0]] = boosts[ordinals >= 0]
        return spread
    boosts = as_bias(value, now.n_alive, now.metric)
    if now.n_alive == now.n_ordinals:
        return boosts
    spread[now.alive_mask()] = boosts
    return spread


def of_rows(segment: Segment, extra: Float32Array | None) -> Float32Array | None:
    """Return the bias of each row: that of the segment and `extra` (n_ordinals,) by ordinal."""
    if extra is None:
        return segment.bias
    mine = extra[: segment.n_rows] if segment.ordinals is None else extra[segment.ordinals]
    if segment.bias is None:
        return mine
    total = mine.astype(np.float64) + segment.bias
    return np.clip(total, -_LARGEST, _LARGEST).astype(np.float32)


def held(now: Generation, ordinals: Int64Array) -> Float32Array | None:
    """Return the bias that items (−1: not known yet) have in the index; None where none has."""
    if now.base.bias is None and now.delta.bias is None:
        return None
    bias = np.zeros(len(ordinals), np.float32)
    known = np.flatnonzero(now.are_alive(ordinals))
    places = now.locate(ordinals[known])
    for segment, rows in zip((now.base, now.delta), places, strict=True):
        if segment.bias is not None:
            there = rows >= 0
            bias[known[there]] = segment.bias[rows[there]]
    return bias
