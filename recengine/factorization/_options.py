"""What models are told about their training, checked once."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._validation import as_count


def as_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, which it must be."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return bool(value)


def as_threads(num_threads: Any) -> int | None:
    """Return `num_threads` as an int >= 1, or None."""
    return None if num_threads is None else as_count("num_threads", num_threads, minimum=1)


def threads_of(num_threads: int | None) -> int:
    """Return how many threads that is: for None, what this process may use."""
    if num_threads is not None:
        return num_threads
    from recengine._native import num_cpus

    return num_cpus()


def check_callback(callback: Any) -> None:
    """Refuse a callback that cannot be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {type(callback).__name__}")
