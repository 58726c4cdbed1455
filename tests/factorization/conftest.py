"""Matrices with structure, and the folder's oracle on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from recengine.factorization import _grid

sys.path.append(str(Path(__file__).parent))  # `import als_oracle`

MakeMatrix = Callable[..., Any]


@pytest.fixture
def make_matrix(rng: np.random.Generator) -> MakeMatrix:
    """Return a maker of matrices of likes with groups, popular items and weights 1 to 5."""

    def make(n_users: int = 60, n_items: int = 40, per_user: int = 9, groups: int = 4) -> Any:
        taste = rng.random((groups, n_items)) ** 4 + 0.01
        dense = np.zeros((n_users, n_items), np.float32)
        for user in range(n_users):
            chance = taste[user % groups]
            n = int(rng.integers(1, min(2 * per_user, n_items)))
            liked = rng.choice(n_items, n, replace=False, p=chance / chance.sum())
            dense[user, liked] = rng.integers(1, 6, n)
        return csr_array(dense)

    return make


@pytest.fixture
def four_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small matrices have as many blocks as large ones."""
    monkeypatch.setattr(_grid, "MOST_BLOCKS", 4)
    monkeypatch.setattr(_grid, "CELL_ENTRIES", 1)
    monkeypatch.setattr(_grid, "BLOCK_ITEMS", 2)
