"""Cut a stream of samples into the windows that an audio model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from recengine._types import Float32Array


class Stretch(NamedTuple):
    """Consecutive windows of one sound.

    Attributes
    ----------
    samples : ndarray (window + hop * (n_windows - 1),), float32
        Window i begins at i * hop. Zeros stand after the end of the sound.
    shares : ndarray (n_windows,), float64
        The part of each window that is sound and not such zeros, in (0, 1].
    """

    samples: Float32Array
    shares: np.ndarray[tuple[int], np.dtype[np.float64]]


def stretches(
    blocks: Iterable[Float32Array], window: int, hop: int, most: int
) -> Iterator[Stretch]:
    """Cut a sound into windows: every sample is in one, and no more than needed are padded.

    Parameters
    ----------
    blocks : iterable of ndarray (n,), float32
        The sound, in blocks of any length.
    window, hop : int
        Samples; `hop` <= `window`.
    most : int
        Windows of a stretch. The cut depends on the sound alone, not on how its blocks fall.

    Yields
    ------
    Stretch
        1 + ceil(max(0, n - window) / hop) windows in all, for a sound of n > 0 samples.
    """
    span = window + hop * (most - 1)
    held, first = np.empty(0, np.float32), True
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= span:
            yield Stretch(held[:span], np.ones(most))
            held, first = held[most * hop :], False
    if len(held) > (0 if first else window - hop):
        n_windows = 1 + max(0, -(-(len(held) - window) // hop))
        padded = np.zeros(window + hop * (n_windows - 1), np.float32)
        padded[: len(held)] = held
        left = len(held) - hop * np.arange(n_windows)
        yield Stretch(padded, np.minimum(left, window) / window)
