"""What implicit asks of ALS and `recengine.ALS` has no method for: epochs, rows, reasons."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from recengine._types import Float32Array, Float64Array
from recengine.compat.implicit._side import Side
from recengine.factorization import ALS
from recengine.factorization._progress import bar

log = logging.getLogger("recengine")


def by_epochs(
    model: ALS,
    user_items: Any,
    init: tuple[Float32Array, Float32Array],
    n_epochs: int,
    *,
    with_loss: bool,
    show_progress: bool,
    callback: Callable[..., Any] | None,
) -> ALS:
    """Fit `model`, which does one iteration, `n_epochs` times; call back after each."""
    loss = None
    with bar("ALS", n_epochs, show_progress) as advance:
        for epoch in range(n_epochs):
            began = time.perf_counter()
            model.fit(user_items, init=init)
            init = model.user_factors_, model.item_factors_
            if with_loss:
                loss = model.loss(user_items)
                log.info("epoch %d, loss %.4f", epoch, loss)
            advance()
            if callback is not None:
                callback(epoch, time.perf_counter() - began, loss)
    return model


def solved_rows(model: ALS, fixed: Side, rows: Any) -> Float32Array:
    """Return the solution (n, factors) of each CSR row under `model`'s options, `fixed` given."""
    from scipy.sparse import csr_array

    shape = rows.shape[0], len(fixed)  # columns that the factors have gained stay empty
    arrays = {"item_factors": fixed.factors, "item_gram": fixed.gram}
    options = {name: getattr(model, name) for name in signature(ALS).parameters}
    solver = ALS.from_state(arrays | {"user_factors": fixed.factors[:0]}, options)
    solver.num_threads = model.num_threads
    return solver.fold_in_rows(csr_array((rows.data, rows.indices, rows.indptr), shape=shape))


def explained(
    side: Side,
    liked: Any,
    confidences: Float64Array,
    regularization: float,
    itemid: int,
    user_weights: Any,
    n: int,
) -> tuple[float, list[tuple[int, float]], Any]:
    """Return (total score, the n best (item, score), the factorized system of the user).

    The user is A⁻¹ Σ c_j y_j, so the score of item i is the sum of c_j y_iᵀ A⁻¹ y_j over the
    chosen j (Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, 2008,
    section 5). Ties by item. Float64; O(factors³ + n_liked factors²).
    """
    from scipy.linalg import cho_factor, cho_solve

    rows = side.factors[liked].astype(np.float64)
    if user_weights is None:
        system = side.gram + regularization * np.eye(rows.shape[1])
        user_weights = cho_factor(system + rows.T @ ((confidences - 1)[:, None] * rows))
    item = side.at(itemid).astype(np.float64)
    scores = (rows @ cho_solve(user_weights, item)) * confidences
    order = np.lexsort((liked, -scores))[:n]
    top = list(zip(liked[order].tolist(), scores[order].tolist(), strict=True))
    return float(scores.sum()), top, user_weights
