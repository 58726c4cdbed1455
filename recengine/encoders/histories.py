"""Histories as a caller has them, and the padded windows that a sequence graph reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import UnknownItemError
from recengine._types import Int64Array
from recengine._validation import refuse_masked, refuse_set
from recengine.data import IdMap
from recengine.encoders.sequence_options import SequenceOptions


class Histories:
    """Read histories: from ids or indices to the last `max_length` numbers of the graph.

    Parameters
    ----------
    options : SequenceOptions
    items : IdMap or None
        What histories are made of; None for item indices.
    """

    def __init__(self, options: SequenceOptions, items: IdMap | None) -> None:
        self._options, self._items = options, items

    def windows(self, histories: Iterable[Any]) -> list[Int64Array]:
        """Return the window of each history, oldest event first."""
        if isinstance(histories, str | bytes) or not isinstance(histories, Iterable):
            raise TypeError(
                f"histories must be a sequence of histories, got {type(histories).__name__}"
            )
        return [self.window(f"histories[{i}]", history) for i, history in enumerate(histories)]

    def window(self, name: str, history: Any) -> Int64Array:
        """Return one window; `name` is that of the argument."""
        entries = _in_order(name, history)
        indices = self._indices(name, entries)
        unknown = (indices < 0) | (indices >= self._options.n_items)
        if unknown.any():
            if self._options.on_unknown == "raise":
                place = int(np.argmax(unknown))
                raise UnknownItemError(
                    f"{name} must hold items that the model knows, got {entries[place]!r} at "
                    f"{place} ({unknown.sum()} of {len(unknown)} are not); on_unknown='skip' "
                    "leaves them out"
                )
            indices = indices[~unknown]
        return indices[-self._options.max_length :] + self._options.first_item

    def _indices(self, name: str, entries: Any) -> Int64Array:
        """Return item indices; those that are out of range are unknown."""
        if not len(entries):
            return np.empty(0, np.int64)
        if self._items is not None:
            try:
                return self._items.indices(entries, missing="mark")
            except (TypeError, ValueError) as error:  # its messages begin with "ids"
                raise type(error)(f"{name}: {error}") from None
        array = np.asarray(entries)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"{name} must be 1-D integers, got {array.dtype} of shape {array.shape}"
            )
        if array.min() < 0:
            raise ValueError(f"{name} must be >= 0, got {array.min()}")
        return array.astype(np.int64)  # uint64 beyond int64 turns negative


def _in_order(name: str, history: Any) -> Any:
    """Return a history as an array or a list."""
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise TypeError(
            f"{name} must be a sequence of items, got {type(history).__name__}; "
            "encode_query takes one history, encode many"
        )
    refuse_set(name, history)
    refuse_masked(name, history)
    return history if isinstance(history, np.ndarray) else list(history)


def laid_out(
    windows: list[Int64Array], length: int, padding: int, most: int
) -> dict[str, NDArray[Any]]:
    """Return what a graph may take of a batch, the newest events at the right.

    Parameters
    ----------
    windows : list of ndarray (m,), int64
        One a row, m <= `length`.
    length : int
    padding : int
        What stands at places without an event.
    most : int
        Recency stays below it.

    Returns
    -------
    dict
        items (n, length) int64; mask (n, length) bool, True where an event is; positions
        (n, length) int64, counted from 0 at the oldest event, 0 before it; recency (n, length)
        int64, counted from 0 at the newest event to the left; lengths (n,) int64.
    """
    lengths = np.array([len(window) for window in windows], np.int64)
    places, first = np.arange(length), length - lengths[:, None]
    mask = places >= first
    items = np.full(mask.shape, padding, np.int64)
    items[mask] = np.concatenate(windows)
    return {
        "items": items,
        "mask": mask,
        "positions": np.maximum(places - first, 0),
        "recency": np.broadcast_to(np.minimum(places[::-1], most - 1), mask.shape),
        "lengths": lengths,
    }
