"""How content sees a user: from the vectors of what they chose to one vector, or to several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recengine._types import Float32Array, Float64Array, Int64Array
from recengine.engine.profiles import Profile

MOST_INTERESTS = 4
# Of the attention: a logit is the cosine over this, so that an item like the last one counts up to
# e^5 times as much as one that is at right angles to it.
TEMPERATURE = 0.2


def as_mean(vectors: Float32Array, profiles: Sequence[Profile]) -> Float32Array:
    """Return the weighted mean of the unit vectors of each profile's items (n, dim).

    Summed in float64 in the order of ordinals and rounded once, so that a batch has the bits of
    its single requests.
    """
    found = np.zeros((len(profiles), vectors.shape[1]), np.float32)
    for row, profile in enumerate(profiles):
        chosen, norms = _with_norms(vectors, profile.seen)
        shares = profile.weights / profile.weights.sum(dtype=np.float64)
        chosen *= (shares / norms)[:, None]
        found[row] = chosen.sum(axis=0).astype(np.float32)
    return found


def by_attention(vectors: Float32Array, profiles: Sequence[Profile]) -> Float32Array:
    """Return `recengine.pool_history` of the unit vectors, asked by the last item (n, dim).

    Item j has the share softmax_j(cos(last, j) / `TEMPERATURE` + log weight_j); where the last
    item is not known, the weighted mean asks.
    """
    from recengine.encoders.attend import pool_history

    units, histories, weights = _joined(vectors, profiles)
    means = pool_history(units, histories, None, weights=weights)
    asking = np.zeros((len(profiles), vectors.shape[1]), np.float64)
    for row, profile in enumerate(profiles):
        place = int(np.searchsorted(profile.seen, profile.last))
        known = place < len(profile.seen) and profile.seen[place] == profile.last
        asking[row] = units[histories[0][row] + place] if known else means[row]
    norms = np.sqrt(np.square(asking).sum(axis=1, keepdims=True))
    asking = np.divide(asking, norms, out=np.zeros_like(asking), where=norms > 0)
    scale = TEMPERATURE / np.sqrt(vectors.shape[1])  # pool_history divides by sqrt(dim) too
    return pool_history(units, histories, asking, weights=weights, temperature=float(scale))


def by_interests(vectors: Float32Array, profiles: Sequence[Profile]) -> Float32Array:
    """Return `recengine.interests` of the unit vectors, at most `MOST_INTERESTS` (n, m, dim).

    A user of fewer has the first one several times, which changes no best score.
    """
    from recengine.encoders.interest_groups import interests

    units, histories, weights = _joined(vectors, profiles)
    found = interests(units, histories, MOST_INTERESTS, weights=weights)
    counts = np.diff(found.indptr)
    places = np.arange(counts.max(initial=1))
    rows = found.indptr[:-1, None] + np.where(places < counts[:, None], places, 0)
    return found.vectors[rows]


Taste = Callable[[Float32Array, Sequence[Profile]], Float32Array]
TASTES: dict[str, Taste] = {"mean": as_mean, "attention": by_attention, "interests": by_interests}


def _joined(
    vectors: Float32Array, profiles: Sequence[Profile]
) -> tuple[Float32Array, tuple[Int64Array, Int64Array], Float32Array]:
    """Return (unit vectors of all events, (indptr, rows) of them, weights)."""
    lengths = [len(profile.seen) for profile in profiles]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    seen = np.concatenate([np.empty(0, np.int64), *(profile.seen for profile in profiles)])
    weights = np.concatenate([np.empty(0, np.float32), *(profile.weights for profile in profiles)])
    chosen, norms = _with_norms(vectors, seen)
    units = (chosen / norms[:, None]).astype(np.float32)
    return units, (indptr, np.arange(len(seen))), weights


def _with_norms(vectors: Float32Array, rows: Int64Array) -> tuple[Float64Array, Float64Array]:
    chosen = vectors[rows].astype(np.float64)
    norms = np.sqrt(np.square(chosen).sum(axis=1))
    norms[norms == 0.0] = 1.0
    return chosen, norms
