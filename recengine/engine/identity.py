"""One id as a caller may write it: an int or a str, of the kind the engine was built with."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import PADDING_ID, IdArray, ItemId
from recengine._validation import as_ids, check_text


def as_id(name: str, value: Any, is_str: bool | None) -> ItemId:
    """Return one id as int or str.

    Parameters
    ----------
    name : str
        The argument, for messages.
    value : int, numpy integer or str
    is_str : bool or None
        The kind of id the engine holds; None while it holds none.
    """
    if isinstance(value, str):
        if is_str is False:
            raise TypeError(f"{name} must be an integer, as the engine's ids are, got {value!r}")
        check_text(name, (value,))
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer or a str, got {type(value).__name__}")
    if is_str:
        raise TypeError(f"{name} must be a str, as the engine's ids are, got {value!r}")
    number = int(value)
    if number == PADDING_ID:
        raise ValueError(f"{name} must not be -1, the padding id")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} must fit int64, got {number}")
    return number


def as_id_list(name: str, value: Any, is_str: bool | None, *, ordered: bool = True) -> IdArray:
    """Return many ids as `as_ids` does, of the kind the engine holds."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a sequence of ids, got {type(value).__name__}")
    ids = as_ids(name, value, ordered=ordered)
    if len(ids) and is_str is not None and (ids.dtype == object) != is_str:
        expected = "strings" if is_str else "integers"
        raise TypeError(f"{name} must be {expected}, as the engine's ids are, got {ids[0]!r}")
    return ids


def is_scalar(value: Any) -> bool:
    """Tell whether a request names one id (a str, a number) and not several."""
    return isinstance(value, str) or np.ndim(value) == 0
