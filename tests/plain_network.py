"""EfficientNet-Lite0 in NumPy float64, from the paper: no graph, no folding, no library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
# kernel, stride, expansion, channels of each of the 16 blocks
BLOCKS = [
    (3, 1, 1, 16),
    (3, 2, 6, 24), (3, 1, 6, 24),
    (5, 2, 6, 40), (5, 1, 6, 40),
    (3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80),
    (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112),
    (5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192),
    (3, 1, 6, 320),
]  # fmt: skip


def convolved(x: Array, kernel: NDArray[Any], stride: int) -> Array:
    """x (channels, h, w); kernel (out, channels or 1, k, k); TensorFlow's padding "SAME"."""
    size, kernel = kernel.shape[2], kernel.astype(np.float64)
    pads = []
    for side in x.shape[1:]:
        total = max((int(np.ceil(side / stride)) - 1) * stride + size - side, 0)
        pads.append((total // 2, total - total // 2))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, [(0, 0), *pads]), (size, size), axis=(1, 2)
    )[:, ::stride, ::stride]
    if kernel.shape[1] == 1:
        return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
    return np.tensordot(kernel, windows, axes=([1, 2, 3], [0, 3, 4]))


def normed(x: Array, weights: Weights, name: str) -> Array:
    gamma, beta, mean, variance = (
        weights[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(variance + 0.001) + beta


def block(x: Array, weights: Weights, prefix: str, stride: int, expansion: int) -> Array:
    y = x
    if expansion > 1:
        y = convolved(y, weights[f"{prefix}_expand_conv.weight"], 1)
        y = np.clip(normed(y, weights, f"{prefix}_bn0"), 0, 6)
    y = convolved(y, weights[f"{prefix}_depthwise_conv.weight"], stride)
    y = np.clip(normed(y, weights, f"{prefix}_bn1"), 0, 6)
    y = convolved(y, weights[f"{prefix}_project_conv.weight"], 1)
    y = normed(y, weights, f"{prefix}_bn2")
    return y + x if x.shape == y.shape else y


def embedding(image: NDArray[np.uint8], weights: Weights) -> Array:
    """image (224, 224, 3) to (1280,)."""
    x = (image.astype(np.float64).transpose(2, 0, 1) - 127) / 128
    x = np.clip(normed(convolved(x, weights["_conv_stem.weight"], 2), weights, "_bn0"), 0, 6)
    for number, (_, stride, expansion, _) in enumerate(BLOCKS):
        x = block(x, weights, f"_blocks.{number}.", stride, expansion)
    x = np.clip(normed(convolved(x, weights["_conv_head.weight"], 1), weights, "_bn1"), 0, 6)
    return x.mean(axis=(1, 2))


def random_block(
    rng: np.random.Generator, n_in: int, n_out: int, size: int, expansion: int
) -> dict[str, NDArray[np.float32]]:
    wide = n_in * expansion
    shapes = {
        "_expand_conv": (wide, n_in, 1, 1),
        "_depthwise_conv": (wide, 1, size, size),
        "_project_conv": (n_out, wide, 1, 1),
    }
    weights = {
        f"b.{name}.weight": rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        for name, shape in shapes.items()
    }
    for name, channels in (("_bn0", wide), ("_bn1", wide), ("_bn2", n_out)):
        weights[f"b.{name}.weight"] = rng.uniform(0.5, 2, channels)
        weights[f"b.{name}.bias"] = rng.standard_normal(channels)
        weights[f"b.{name}.running_mean"] = rng.standard_normal(channels)
        weights[f"b.{name}.running_var"] = rng.uniform(0, 2, channels)
    return {name: value.astype(np.float32) for name, value in weights.items()}
