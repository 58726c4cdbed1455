"""The loops of ALS over CSR rows (Numba, offline).

Every kernel takes a row range, releases the GIL and starts no thread. No product is contracted or
reassociated (no fastmath), and inner loops run over independent columns, so they vectorise and
still add in the order written here. `_fold_in.pyx` does the same operations in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core.types import float32, float64, int64

from recengine.factorization import _jit
from recengine.factorization._jit import inner, kernel

BLOCK = 64  # rows gathered before their products are added to the system


def _add_products_py(block: Any, weights: Any, n_rows: int, line: Any, system: Any) -> None:
    """Add blockᵀ diag(weights) block to the upper triangle of `system`.

    `n_rows` is a multiple of 4 (rows of weight 0 pad it). Each row of the triangle is summed in
    the precision of `block`, then added to the float64 `system`.
    """
    dim = block.shape[1]
    for i in range(dim):
        for j in range(i, dim):
            line[j] = 0
        for row in range(0, n_rows, 4):
            a0 = weights[row] * block[row, i]
            a1 = weights[row + 1] * block[row + 1, i]
            a2 = weights[row + 2] * block[row + 2, i]
            a3 = weights[row + 3] * block[row + 3, i]
            for j in range(i, dim):
                line[j] += (
                    a0 * block[row, j]
                    + a1 * block[row + 1, j]
                    + a2 * block[row + 2, j]
                    + a3 * block[row + 3, j]
                )
        for j in range(i, dim):
            system[i, j] += line[j]


def _factorize_py(system: Any) -> bool:
    """Replace the upper triangle A by U with UᵀU = A; False where A is not positive definite."""
    dim = system.shape[0]
    for i in range(dim):
        diagonal = system[i, i]
        whole = i - i % 4
        for row in range(0, whole, 4):
            a0 = system[row, i]
            a1 = system[row + 1, i]
            a2 = system[row + 2, i]
            a3 = system[row + 3, i]
            for j in range(i, dim):
                system[i, j] -= (
                    a0 * system[row, j]
                    + a1 * system[row + 1, j]
                    + a2 * system[row + 2, j]
                    + a3 * system[row + 3, j]
                )
        for row in range(whole, i):
            a0 = system[row, i]
            for j in range(i, dim):
                system[i, j] -= a0 * system[row, j]
        pivot = system[i, i]
        # A pivot this small is rounding: the matrix is singular in float64. NaN fails as well.
        if not pivot > dim * 2.3e-16 * diagonal:
            return False
        inverse = 1.0 / math.sqrt(pivot)
        for j in range(i, dim):
            system[i, j] *= inverse
    return True


def _substitute_py(system: Any, rhs: Any) -> None:
    """Solve UᵀU x = rhs in place."""
    dim = system.shape[0]
    for i in range(dim):
        rhs[i] /= system[i, i]
        value = rhs[i]
        for j in range(i + 1, dim):
            rhs[j] -= value * system[i, j]
    for i in range(dim - 1, -1, -1):
        rhs[i] /= system[i, i]
        value = rhs[i]
        for j in range(i):
            rhs[j] -= value * system[j, i]


_add_products = inner(_add_products_py)
_factorize = inner(_factorize_py)
_substitute = inner(_substitute_py)


def _pad_py(block: Any, weights: Any, held: int) -> int:
    """Fill `block` up to a multiple of 4 rows with rows of weight 0; return that multiple."""
    while held % 4:
        weights[held] = 0
        for j in range(block.shape[1]):
            block[held, j] = 0
        held += 1
    return held


_pad = inner(_pad_py)


@kernel(int64, _jit.READ_F32_2D, int64, int64, _jit.F64_2D)
def add_gram(factors: Any, start: int, stop: int, gram: Any) -> int:
    """Add the Gram matrix of rows [start, stop) to the upper triangle of `gram`, in float64."""
    dim = factors.shape[1]
    block = np.empty((BLOCK, dim), np.float64)
    weights = np.ones(BLOCK, np.float64)
    line = np.empty(dim, np.float64)
    held = 0
    for row in range(start, stop):
        for j in range(dim):
            block[held, j] = factors[row, j]
        held += 1
        if held == BLOCK:
            _add_products(block, weights, held, line, gram)
            held = 0
    if held:
        _add_products(block, weights, _pad(block, weights, held), line, gram)
    return stop - start


@kernel(
    int64,
    _jit.READ_I64,
    _jit.READ_I32,
    _jit.READ_F32,
    float32,
    _jit.READ_F64_2D,
    _jit.READ_F64,
    _jit.READ_F32_2D,
    _jit.F32_2D,
    int64,
    int64,
)
def solve_rows(
    indptr: Any,
    indices: Any,
    confidences: Any,
    shift: Any,
    base: Any,
    ridges: Any,
    fixed: Any,
    solved: Any,
    start: int,
    stop: int,
) -> int:
    """Solve rows [start, stop) of `solved` against `fixed`; −1, or the first row that failed."""
    dim = fixed.shape[1]
    system = np.empty((dim, dim), np.float64)
    rhs = np.empty(dim, np.float64)
    block = np.empty((BLOCK, dim), np.float32)
    weights = np.empty(BLOCK, np.float32)
    line = np.empty(dim, np.float32)
    for row in range(start, stop):
        if indptr[row] == indptr[row + 1]:
            solved[row, :] = 0
            continue
        for i in range(dim):
            rhs[i] = 0
            for j in range(i, dim):
                system[i, j] = base[i, j]
            system[i, i] += ridges[row]
        held = 0
        for entry in range(indptr[row], indptr[row + 1]):
            other = indices[entry]
            confidence = np.float64(confidences[entry])
            weights[held] = confidences[entry] - shift
            for j in range(dim):
                value = fixed[other, j]
                block[held, j] = value
                rhs[j] += confidence * value
            held += 1
            if held == BLOCK:
                _add_products(block, weights, held, line, system)
                held = 0
        if held:
            _add_products(block, weights, _pad(block, weights, held), line, system)
        if not _factorize(system):
            return row
        _substitute(system, rhs)
        for j in range(dim):
            if not math.isfinite(np.float32(rhs[j])):
                return row
            solved[row, j] = rhs[j]
    return -1


@kernel(
    float64,
    _jit.READ_I64,
    _jit.READ_I32,
    _jit.READ_F32,
    float64,
    _jit.READ_F32_2D,
    _jit.READ_F32_2D,
    int64,
    int64,
)
def observed_loss(
    indptr: Any,
    indices: Any,
    confidences: Any,
    shift: float,
    users: Any,
    items: Any,
    start: int,
    stop: int,
) -> float:
    """Sum c (1 − p)² − (shift'd) p² over the entries of rows [start, stop).

    That is Σ c − 2 c p + (c − shift) p² with p = x·y: what the observed entries add to
    the loss beyond the term over all pairs.
    """
    dim = users.shape[1]
    total = 0.0
    for row in range(start, stop):
        for entry in range(indptr[row], indptr[row + 1]):
            other = indices[entry]
            confidence = np.float64(confidences[entry])
            product = 0.0
            for j in range(dim):
                product += np.float64(users[row, j]) * np.float64(items[other, j])
            total += confidence - 2.0 * confidence * product
            total += (confidence - shift) * product * product
    return total
