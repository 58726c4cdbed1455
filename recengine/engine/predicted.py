"""Factors of new items, from their content, where a model was trained with it as features."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array

_LOOKED_AT = 16  # items whose prior tells whether content is what the model was trained with


def with_predicted(model: Any, vectors: Float32Array) -> Any:
    """Return the model with factors for all rows of the content `vectors` (n_items, dim).

    Items behind those of the model get what it predicts from their vectors. The model itself where
    there are none, or where it was not trained with these vectors as `item_features`: that is seen
    at its first items, whose prior must be what their vectors predict. O(n_items factors) for the
    copy and O(factors²) a new item.
    """
    prior, n_modelled = getattr(model, "item_prior_", None), len(model.item_factors_)
    if prior is None or len(vectors) == n_modelled or not n_modelled:
        return model
    first = vectors[: min(n_modelled, _LOOKED_AT)]
    try:
        told = model.item_from_features(first)
    except ValueError:  # another number of columns
        return model
    if not np.allclose(told, prior[: len(first)], rtol=1e-4, atol=1e-6):
        return model
    new = model.item_from_features(vectors[n_modelled:])
    arrays, meta = model.state()
    wide = new.astype(np.float64)
    arrays["item_gram"] = arrays["item_gram"] + wide.T @ wide
    for name in ("item_factors", "item_prior"):
        table = np.concatenate([arrays[name], new])
        table.flags.writeable = False
        arrays[name] = table
    grown = type(model).from_state(arrays, meta)
    grown.num_threads = model.num_threads
    return grown
