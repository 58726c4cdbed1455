"""What a fitted model learns without `fit`: rows of one side, against the other as it is.

A row is solved as in an epoch; the Gram matrix of its side loses what the row was and gains what it
is. Each function returns a new side or model, which is then published by one reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine._validation import as_indices
from recengine.factorization._fold_in import FixedSide
from recengine.factorization._gram import gram
from recengine.factorization._likes import Likes
from recengine.factorization._objective import Objective
from recengine.factorization._training import not_solvable


def as_places(name: str, value: Any, n_rows: int) -> Int64Array:
    """Return distinct row numbers, of the `n_rows` there are or the next ones without a gap."""
    rows = as_indices(name, value, size=n_rows + np.size(value))
    ordered = np.sort(rows)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise ValueError(f"{name} must be distinct, got {twice[0]} more than once")
    new = ordered[ordered >= n_rows]
    gap = new[new != n_rows + np.arange(len(new))]
    if len(gap):
        raise ValueError(
            f"{name} must leave no gap behind the {n_rows} rows there are, got {gap[0]}"
        )
    return rows


def solved_rows(
    objective: Objective,
    fixed: FixedSide,
    likes: Likes,
    num_threads: int,
    name: str,
    priors: Float32Array | None = None,
) -> Float32Array:
    """Return the factors of every row of `likes` against `fixed`, drawn towards `priors`."""
    objective.ridges(likes.counts, likes.shape[1])  # refuses an overflow
    rows, failed = fixed.solve_rows(
        likes.indptr, likes.indices, likes.confidences, num_threads, priors
    )
    if failed >= 0:
        raise not_solvable(objective.regularization, f"{name} {failed}")
    return rows


def with_rows(
    factors: Float32Array,
    product: Float64Array | None,
    places: Int64Array,
    rows: Float32Array,
    num_threads: int,
) -> tuple[Float32Array, Float64Array | None]:
    """Return (factors with `rows` at `places`, their Gram matrix if `product` was that), read-only.

    O(n_rows dim) for the copy, and O(dim²) for each row that differs.
    """
    n_rows = max(len(factors), int(places.max(initial=-1)) + 1)
    table = np.zeros((n_rows, factors.shape[1]), np.float32)
    table[: len(factors)] = factors
    moved = (table[places] != rows).any(axis=1)
    old, new = table[places[moved]], np.ascontiguousarray(rows[moved])
    table[places] = rows
    table.flags.writeable = False
    if product is not None:
        product = product + (gram(new, num_threads) - gram(old, num_threads))
        product.flags.writeable = False
    return table, product
