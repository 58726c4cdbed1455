"""Factors with the items' biases as a last column, and the users' ones that meet it.

So the score of a pair is one inner product, and whatever ranks by inner products ranks with biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine._validation import as_count, as_matrix
from recengine.factorization._initial import initial_factors


def starting_factors(
    shape: tuple[int, int], factors: int, init: Any, generator: np.random.Generator
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return writable (users, items, item biases): those of `init`, or drawn ones.

    Drawn factors are normal with deviation ``0.1 / sqrt(factors)``, users first; biases are 0.

    Raises
    ------
    TypeError, ValueError
        `init` is not a pair of matrices of ``factors + 1`` columns, that of the users ending in 1.
    """
    if init is None:
        users, items = initial_factors("ials", shape, factors, None, generator)
        return users, items, np.zeros(shape[1], np.float32)
    users, items = initial_factors("ials", shape, factors + 1, init, generator)
    if not (users[:, -1] == 1).all():
        bad = users[users[:, -1] != 1, -1][0]
        raise ValueError(f"init[0] must hold 1 in its last column, got {bad:g}")
    return users[:, :-1].copy(), items[:, :-1].copy(), items[:, -1].copy()


def joined(
    users: Float32Array, items: Float32Array, biases: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Return read-only (users with a column of ones, items with a column of their biases)."""
    both = (
        np.column_stack([users, np.ones(len(users), np.float32)]),
        np.column_stack([items, biases]),
    )
    for part in both:
        part.flags.writeable = False
    return both


def factors_from(arrays: Mapping[str, Any], factors: int) -> tuple[Float32Array, Float32Array]:
    """Return read-only (users, items) of a saved model; read-only float32 input is borrowed."""
    parts = []
    for name in ("user_factors", "item_factors"):
        part = as_matrix(name, arrays[name], dim=factors + 1)
        if part.flags.writeable:
            part = part.copy()
            part.flags.writeable = False
        parts.append(part)
    return parts[0], parts[1]


def check_parts(
    arrays: Mapping[str, Any],
    meta: Mapping[str, Any],
    needed: Sequence[str],
    described: Sequence[str],
) -> None:
    """Refuse a saved model that lacks one of its arrays or settings."""
    for name, part, keys in (("arrays", arrays, needed), ("meta", meta, described)):
        missing = [key for key in keys if key not in part]
        if missing:
            raise ValueError(f"{name} must hold {', '.join(missing)}")


def saved_seed(random_state: Any) -> int | None:
    """Return the seed that goes into a saved model: a Generator belongs to the process."""
    if random_state is None or isinstance(random_state, np.random.Generator):
        return None
    return int(random_state)


def curve(name: str, values: Any) -> Float64Array:
    """Return what was measured in each epoch as a read-only float64 array (epochs,)."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and 1-D, got shape {array.shape}")
    array.flags.writeable = False
    return array


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


def check_decay(learning_rate: float, regularization: float) -> None:
    """Refuse steps that would turn a factor around to make it smaller."""
    if learning_rate * regularization >= 1:
        raise ValueError(
            "learning_rate * regularization must be < 1, got "
            f"{learning_rate:g} * {regularization:g}"
        )
