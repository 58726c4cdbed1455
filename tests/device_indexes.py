"""What the tests of DeviceIndex share: vectors, an index on the CPU, and its answers held equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest

import recengine as rec

METRICS = oracles.METRICS
STORAGES = ("float32", "float16")
each_metric = pytest.mark.parametrize("metric", METRICS)
each_storage = pytest.mark.parametrize("storage", STORAGES)


def mixed(rng: np.random.Generator, n: int, dim: int) -> Any:
    """Gaussian rows, rows of small integers (ties), copies of rows, a zero row."""
    table = rng.standard_normal((n, dim)).astype(np.float32)
    table[n // 3 : 2 * n // 3] = rng.integers(-2, 3, (2 * n // 3 - n // 3, dim))
    table[n - 2] = table[0]
    table[n - 1] = 0
    return table


def on_cpu(index: rec.FlatIndex, storage: str = "float32", **options: Any) -> rec.DeviceIndex:
    return rec.DeviceIndex(index, "cpu", storage, num_threads=1, **options)


def assert_alike(device: rec.DeviceIndex, queries: Any, k: int = 10, **options: Any) -> rec.TopK:
    """Assert that the device answers as its index does, and return the answer."""
    got, want = device.search(queries, k, **options), device.index.search(queries, k, **options)
    oracles.assert_same_topk(got, want)
    np.testing.assert_array_equal(got.ordinals, want.ordinals)
    return got
