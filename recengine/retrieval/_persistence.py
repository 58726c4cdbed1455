"""A FlatIndex as one file: arrays with checksums, no code."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine.data import IdMap
from recengine.retrieval._generation import Generation, restored
from recengine.retrieval.similarity import METRICS
from recengine.storage import pack_ids, read_bundle, unpack_ids, write_bundle

KIND = "flat-index"
SCHEMA = 1


def save(path: str | os.PathLike[str], generation: Generation) -> None:
    """Write one generation to `path`."""
    arrays: dict[str, NDArray[Any]] = {
        "vectors": generation.vectors,
        "sq_norms": generation.sq_norms,
        **pack_ids("ids", generation.ids.ids),
    }
    if generation.alive is not None:
        arrays["alive"] = generation.alive
    write_bundle(path, arrays, {"metric": METRICS[generation.metric]}, kind=KIND, schema=SCHEMA)


def load(path: str | os.PathLike[str]) -> Generation:
    """Read what `save` wrote. The checksums hold; what the arrays mean is checked here."""
    bundle = read_bundle(path, kind=KIND, schema=SCHEMA)
    arrays = bundle.arrays
    try:
        metric = bundle.meta["metric"]
        vectors = arrays["vectors"]
        norms = arrays["sq_norms"]
        ids = IdMap(unpack_ids("ids", arrays))
    except KeyError as missing:
        raise BundleError(f"{path}: a flat index must hold {missing}") from None
    except ValueError as error:
        raise BundleError(f"{path}: ids of a flat index: {error}") from None
    _require(path, metric in METRICS, f"metric {metric!r} is not one of {METRICS}")
    _require(path, vectors.ndim == 2 and vectors.dtype == np.float32, "vectors are not float32 2-D")
    n_rows, dim = vectors.shape
    _require(path, dim >= 1, "vectors have dim 0")
    _require(path, norms.shape == (n_rows,) and norms.dtype == np.float64, "norms do not fit")
    _require(path, len(ids) == n_rows, "ids do not fit the vectors")
    alive = arrays.get("alive")
    if alive is not None:
        fits = alive.shape == (n_rows,) and alive.dtype == np.bool_
        _require(path, fits, "tombstones do not fit the vectors")
    return restored(vectors, norms, ids, alive, METRICS.index(metric))


def _require(path: str | os.PathLike[str], holds: bool, problem: str) -> None:
    if not holds:
        raise BundleError(f"{path}: {problem}")
