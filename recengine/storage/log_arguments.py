"""What the arguments of an event log mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float64Array
from recengine._validation import as_count, as_real, refuse_masked, refuse_set

INT64_MAX = 2**63 - 1


def as_interval(sync: str | float) -> float:
    """Return seconds between flushes: 0 for always, infinity for never."""
    if isinstance(sync, str):
        if sync not in ("always", "never"):
            raise ValueError(f"sync must be 'always', 'never' or seconds, got {sync!r}")
        return 0.0 if sync == "always" else float("inf")
    return as_real("sync", sync, minimum=0, exclusive=True)


def as_time(name: str, value: Any) -> int:
    """Return a time as int64 seconds."""
    return as_count(name, value, minimum=-(2**63), maximum=INT64_MAX)


def as_times(value: Any) -> list[int | None]:
    """Return times as int64 seconds."""
    refuse_masked("timestamps", value)
    refuse_set("timestamps", value)
    entries = value.tolist() if isinstance(value, np.ndarray) else list(value)
    return [as_time(f"timestamps[{number}]", entry) for number, entry in enumerate(entries)]


def as_weights(value: Any) -> Float64Array:
    """Return weights as finite float64 (n,)."""
    refuse_masked("weights", value)
    refuse_set("weights", value)
    numbers = np.asarray(value)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        if numbers.size:
            raise TypeError(
                f"weights must be 1-D numbers, got {numbers.dtype} of shape {numbers.shape}"
            )
        return np.empty(0)
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"weights must be finite, got {numbers[~np.isfinite(numbers)][0]}")
    return numbers
