"""BPR written down once more, pair by pair in Python and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any
_MASK = 2**64 - 1


def draw(key: int, counter: int) -> int:
    """Return the 64 bits that SplitMix64 with state `key` gives at its `counter`."""
    z = (key + counter * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def step(model: Any, x: Array, y: Array, i: int, j: int, weight: float, *, fixed: bool) -> float:
    """Change user `x` and the items `y` (biases in the last column); return the margin before."""
    rate, keep = model.learning_rate, 1 - model.learning_rate * model.regularization
    one = np.append(x[:-1], 1.0)
    margin = float(one @ (y[i] - y[j]))
    push = rate * weight / (1 + math.exp(margin))
    x[:-1] = keep * x[:-1] + push * (y[i] - y[j])[:-1]
    if not fixed:
        y[i], y[j] = keep * y[i] + push * one, keep * y[j] - push * one
    return margin


def epoch(
    model: Any, dense: Array, blocks: Array, shards: list[int], key: int, x: Array, y: Array
) -> tuple[float, float]:
    """Change (x, y) by one epoch of uniform negatives; return its (loss, AUC).

    `blocks` says the block of each item, `shards` the bounds of the user ranges.
    """
    n = len(shards) - 1
    weights = dense / dense[dense > 0].mean() if model.weighted else (dense > 0) * 1.0
    margins = []
    first_slot = {}
    slot = 0
    for shard in range(n):
        for block in range(n):
            first_slot[shard, block] = slot
            rows = dense[shards[shard] : shards[shard + 1]]
            slot += int((rows[:, blocks == block] > 0).sum())
    for turn in range(n):
        for shard in range(n):
            block = (shard + turn) % n
            slot = first_slot[shard, block]
            for user in range(shards[shard], shards[shard + 1]):
                inside = np.flatnonzero(blocks == block)
                liked = [i for i in inside if dense[user, i] > 0]
                others = [j for j in inside if dense[user, j] == 0]
                for i in liked:
                    if others:
                        j = others[((draw(key, slot) >> 32) * len(others)) >> 32]
                        weight = weights[user, i]
                        margins.append(step(model, x[user], y, i, j, weight, fixed=False))
                    slot += 1
    losses = [math.log1p(math.exp(-margin)) for margin in margins]
    return float(np.mean(losses)), float(np.mean([margin > 0 for margin in margins]))


def fold_in(model: Any, liked: list[int], weights: list[float], y: Array, passes: int) -> Array:
    """Return the mean over the last half of the steps of a user who begins at 0."""
    others = [j for j in range(len(y)) if j not in liked]
    x, path = np.append(np.zeros(y.shape[1] - 1), 1.0), []
    for number in range(passes * len(liked)):
        place = number % len(liked)
        j = others[((draw(0, number) >> 32) * len(others)) >> 32]
        step(model, x, y, liked[place], j, weights[place], fixed=True)
        path.append(x.copy())
    return np.mean(path[len(path) // 2 :], axis=0)
