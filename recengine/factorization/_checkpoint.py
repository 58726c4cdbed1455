"""Where a training was when it was killed: factors after a whole epoch, for the same work only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from recengine._types import Float32Array
from recengine.factorization._likes import Likes
from recengine.storage import read_bundle, write_bundle

_KIND, _SCHEMA = "training", 1


class Checkpoint:
    """One file that holds the factors after the last whole epoch.

    Parameters
    ----------
    path : path-like
    settings : mapping
        JSON of what makes the training what it is, besides the data and the number of epochs.
    likes : Likes
    init : pair of arrays, or None
        Where the caller wanted to start.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: Mapping[str, Any], likes: Likes, init: Any
    ) -> None:
        self._path = Path(path)
        digest = blake2b(json.dumps([settings, likes.shape], sort_keys=True).encode())
        for array in (likes.indptr, likes.indices, likes.confidences, *(init or ())):
            digest.update(np.ascontiguousarray(array).data.cast("B"))
        self._work = digest.hexdigest()

    def restore(self, users: Float32Array, items: Float32Array) -> int:
        """Return the epochs that the file holds, its factors written into the arrays; 0 without.

        Raises
        ------
        ValueError
            The file is of other data, other settings or another `init`.
        BundleError
            It is damaged, or no checkpoint.
        """
        try:
            saved = read_bundle(self._path, kind=_KIND, schema=_SCHEMA)
        except FileNotFoundError:
            return 0
        if saved.meta["work"] != self._work:
            raise ValueError(
                f"checkpoint must be of the same data, settings and init, got {str(self._path)!r} "
                "of another training; remove it, or name another file"
            )
        users[:], items[:] = saved.arrays["users"], saved.arrays["items"]
        return int(saved.meta["epochs"])

    def save(self, epochs: int, users: Float32Array, items: Float32Array) -> None:
        """Replace the file; a kill leaves the old one or the new one."""
        arrays = {"users": users, "items": items}
        meta = {"work": self._work, "epochs": epochs}
        write_bundle(self._path, arrays, meta, kind=_KIND, schema=_SCHEMA)
