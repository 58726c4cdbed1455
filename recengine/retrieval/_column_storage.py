"""Item columns as arrays of a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._types import Int64Array
from recengine.retrieval._cells import DTYPES, KINDS, NO_TEXT, Vocabulary
from recengine.retrieval._columns import Chunk, Columns
from recengine.storage import pack_columns, pack_ids, unpack_columns, unpack_ids

VALUES, PRESENT, TEXTS = "columns/values", "columns/present", "columns/texts"


def pack(columns: Columns) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return (the arrays, what each column holds); texts as numbers of those in use."""
    values: dict[str, NDArray[Any]] = {}
    present: dict[str, NDArray[Any]] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for number, (name, kind) in enumerate(columns.kinds.items()):
        values[name], present[name] = columns.whole(name)
        if kind == "str":
            texts, values[name] = _used(columns.texts[name], values[name], present[name])
            arrays |= pack_ids(f"{TEXTS}/{number}", texts)
    arrays |= pack_columns(VALUES, values) | pack_columns(PRESENT, present)
    return arrays, list(columns.kinds.values())


def unpack(arrays: Mapping[str, NDArray[Any]], kinds: Any, n_rows: int) -> Columns:
    """Return the columns that `pack` stored; BundleError where they are something else."""
    values, present = unpack_columns(VALUES, arrays), unpack_columns(PRESENT, arrays)
    if list(values) != list(present) or not isinstance(kinds, list) or len(kinds) != len(values):
        raise BundleError("columns are damaged: their names, kinds and cells do not fit")
    texts: dict[str, Vocabulary] = {}
    whole: Chunk = {}
    for number, (name, kind) in enumerate(zip(values, kinds, strict=True)):
        cells, there = values[name], present[name]
        fits = kind in KINDS and cells.dtype in DTYPES[kind] and there.dtype == np.bool_
        if not fits or cells.shape != (n_rows,) or there.shape != (n_rows,):
            raise BundleError(f"columns are damaged: {name!r} is not {n_rows} cells of {kind!r}")
        if kind == "str":
            words = unpack_ids(f"{TEXTS}/{number}", arrays).tolist()
            if n_rows and not NO_TEXT <= cells.min() <= cells.max() < len(words):
                raise BundleError(f"columns are damaged: {name!r} names texts that there are not")
            texts[name] = Vocabulary(words)
        whole[name] = cells, there
    return Columns.chunked(dict(zip(values, kinds, strict=True)), texts, whole, n_rows)


def _used(
    texts: Vocabulary, codes: NDArray[Any], present: NDArray[np.bool_]
) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """Return (the texts in use, their new numbers)."""
    names = {code: text for text, code in texts.numbers().items()}
    used: Int64Array
    used, places = np.unique(codes[present], return_inverse=True)
    kept = np.empty(len(used), object)
    kept[:] = [names[code] for code in used.tolist()]
    renumbered = np.full(len(codes), NO_TEXT, np.int32)
    renumbered[present] = places
    return kept, renumbered
