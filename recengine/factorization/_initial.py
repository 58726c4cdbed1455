"""Where training starts: the caller's factors, or drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array
from recengine._validation import as_generator, as_matrix


def initial_factors(
    objective: str, shape: tuple[int, int], dim: int, init: Any, random_state: Any
) -> tuple[Float32Array, Float32Array]:
    """Return writable (user, item) factors: copies of `init`, or drawn from `random_state`.

    "implicit" draws users, then items, uniformly in [0, 0.01), as the library of that name does;
    "ials" draws from N(0, 0.1 / √dim).
    """
    n_users, n_items = shape
    if init is not None:
        if not isinstance(init, tuple | list) or len(init) != 2:
            raise TypeError(
                f"init must be a pair (user_factors, item_factors), got {type(init).__name__}"
            )
        users = as_matrix("init[0]", init[0], dim=dim, n_rows=n_users)
        items = as_matrix("init[1]", init[1], dim=dim, n_rows=n_items)
        return users.copy(), items.copy()
    draw = as_generator(random_state)
    if objective == "ials":
        deviation = np.float32(0.1 / np.sqrt(dim))
        users = draw.standard_normal((n_users, dim), dtype=np.float32) * deviation
        items = draw.standard_normal((n_items, dim), dtype=np.float32) * deviation
    else:
        users = draw.random((n_users, dim), dtype=np.float32) * np.float32(0.01)
        items = draw.random((n_items, dim), dtype=np.float32) * np.float32(0.01)
    return users, items
