"""How far a mean over users may move when other users had come."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recengine._types import Float64Array
from recengine._validation import as_count, as_generator, as_real

_BLOCK_ENTRIES = 1 << 22  # draws held at once: 32 MiB


class Interval(NamedTuple):
    """A bootstrap interval of a mean; both ends belong to it."""

    low: float
    high: float


def bootstrap_mean(
    values: Float64Array, *, level: float, n_resamples: int, random_state: Any
) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent values.

    Parameters
    ----------
    values : ndarray (n,), float64, n >= 1
        One per user, or one difference per user for a paired comparison.
    level : float
        The share of resampled means inside, in (0, 1).
    n_resamples : int
        >= 1. The ends are quantiles of this many means.
    random_state : int, Generator or None

    Notes
    -----
    A resample counts how often each *distinct* value is drawn (one multinomial draw), which has
    the distribution of drawing n users with replacement and is as cheap as the values are few:
    O(n log n + n_resamples × distinct values) time.

    References
    ----------
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    level = as_real("level", level, minimum=0, exclusive=True)
    if level >= 1:
        raise ValueError(f"level must be < 1, got {level:g}")
    n_resamples = as_count("n_resamples", n_resamples, minimum=1)
    generator = as_generator(random_state)
    distinct, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    means = np.empty(n_resamples)
    step = max(1, _BLOCK_ENTRIES // len(distinct))
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        draws = generator.multinomial(len(values), shares, size=stop - start)
        means[start:stop] = (draws * distinct).sum(axis=1) / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
