"""Ids as a caller may write them: of the kind the engine was built with."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import IdArray
from recengine._validation import as_ids


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
