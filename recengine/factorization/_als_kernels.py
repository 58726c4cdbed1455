"""The loops of ALS over CSR rows (Numba, offline).

Every kernel takes a row range, releases the GIL and starts no thread. No product is contracted or
reassociated (no fastmath); inner loops run over the independent columns of slices, so that they
vectorise and still add in the order written here. `_fold_in.pyx` does the same operations in the
same order.
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
        target, total = system[i, i:], line[i:]
        width = dim - i
        for j in range(width):
            total[j] = 0
        for row in range(0, n_rows, 4):
            a0 = weights[row] * block[row, i]
            a1 = weights[row + 1] * block[row + 1, i]
            a2 = weights[row + 2] * block[row + 2, i]
            a3 = weights[row + 3] * block[row + 3, i]
            b0, b1 = block[row, i:], block[row + 1, i:]
            b2, b3 = block[row + 2, i:], block[row + 3, i:]
            for j in range(width):
                total[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
        for j in range(width):
            target[j] += total[j]


def _factorize_py(system: Any) -> bool:
    """Replace the upper triangle A by U with UᵀU = A; False where A is not positive definite."""
    dim = system.shape[0]
    for i in range(dim):
        target = system[i, i:]
        width = dim - i
        diagonal = target[0]
        whole = i - i % 4
        for row in range(0, whole, 4):
            b0, b1 = system[row, i:], system[row + 1, i:]
            b2, b3 = system[row + 2, i:], system[row + 3, i:]
            a0, a1, a2, a3 = b0[0], b1[0], b2[0], b3[0]
            for j in range(width):
                target[j] -= a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
        for row in range(whole, i):
            b0 = system[row, i:]
            a0 = b0[0]
            for j in range(width):
                target[j] -= a0 * b0[j]
        pivot = target[0]
        # A pivot this small is rounding: the matrix is singular in float64. NaN fails as well.
        if not pivot > dim * 2.3e-16 * diagonal:
            return False
        inverse = 1.0 / math.sqrt(pivot)
        for j in range(width):
            target[j] *= inverse
    return True


def _substitute_py(system: Any, rhs: Any) -> None:
    """Solve UᵀU x = rhs in place."""
    dim = system.shape[0]
    for i in range(dim):
        value = rhs[i] / system[i, i]
        rhs[i] = value
        rest, row = rhs[i + 1 :], system[i, i + 1 :]
        for j in range(dim - i - 1):
            rest[j] -= value * row[j]
    for i in range(dim - 1, -1, -1):
        value = rhs[i] / system[i, i]
        rhs[i] = value
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
        source, copy = factors[row], block[held]
        for j in range(dim):
            copy[j] = source[j]
        held += 1
        if held == BLOCK or row + 1 == stop:
            _add_products(block, weights, _pad(block, weights, held), line, gram)
            held = 0
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
        answer = solved[row]
        if indptr[row] == indptr[row + 1]:
            for j in range(dim):
                answer[j] = 0
            continue
        for i in range(dim):
            known, target = base[i], system[i]
            for j in range(dim):
                target[j] = known[j]
            target[i] += ridges[row]
            rhs[i] = 0
        held = 0
        for entry in range(indptr[row], indptr[row + 1]):
            source, copy = fixed[indices[entry]], block[held]
            confidence = np.float64(confidences[entry])
            weights[held] = confidences[entry] - shift
            for j in range(dim):
                copy[j] = source[j]
                rhs[j] += confidence * source[j]
            held += 1
            if held == BLOCK or entry + 1 == indptr[row + 1]:
                _add_products(block, weights, _pad(block, weights, held), line, system)
                held = 0
        if not _factorize(system):
            return row
        _substitute(system, rhs)
        for j in range(dim):
            answer[j] = rhs[j]
            if not math.isfinite(answer[j]):
                return row
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
    """Return Σ c − 2 c p + (c − shift) p² over the entries of rows [start, stop), p = x·y.

    That is what the observed pairs add to the loss beyond the term over all pairs.
    """
    dim = users.shape[1]
    total = 0.0
    for row in range(start, stop):
        for entry in range(indptr[row], indptr[row + 1]):
            confidence = np.float64(confidences[entry])
            x, y = users[row], items[indices[entry]]
            product = 0.0
            for j in range(dim):
                product += np.float64(x[j]) * np.float64(y[j])
            total += confidence - 2.0 * confidence * product
            total += (confidence - shift) * product * product
    return total
