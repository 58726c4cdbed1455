"""Selection on its own: the top-k of score rows, and the exact merge of answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from recengine._types import PADDING_ID, Float32Array, IdArray, Int64Array, TopK
from recengine._validation import as_k, refuse_masked
from recengine.retrieval import _select


def topk(scores: Any, k: int) -> TopK:
    """Return the best k columns of each row of a score matrix.

    Parameters
    ----------
    scores : array_like (m,) or (n, m)
        Real numbers, rounded to float32 first; higher is better. −inf marks an entry that may not
        be selected.
    k : int
        How many, >= 0; may exceed m by up to 2²⁰.

    Returns
    -------
    TopK
        ids : ndarray (k,) or (n, k), int64, column numbers. Order is score descending, then
        column ascending; the tail is −1 with score −inf. −0 comes back as +0.

    Raises
    ------
    ValueError
        NaN, +inf, a value beyond float32, a wrong shape or k < 0.
    TypeError
        Scores that are not real numbers, or k not an integer.

    Notes
    -----
    O(n m) for k much smaller than m, else O(n m log k); memory of the answer only. Safe to call
    from several threads. Checked against ``tests/oracles.py::best``.
    """
    table, single = _as_scores(scores)
    indices, best = _select.topk(table, as_k(k, table.shape[1]))
    return TopK(indices[0], best[0]) if single else TopK(indices, best)


def _as_scores(value: Any) -> tuple[Float32Array, bool]:
    refuse_masked("scores", value)
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"scores must be (m,) or (n, m), got shape {array.shape}")
    with np.errstate(over="ignore"):
        table = np.require(array, np.float32, ["C", "A"])
    highest = table.max() if table.size else np.float32(0)
    if not highest < np.inf:
        raise ValueError(f"scores must be below +inf and not NaN, got {highest}")
    if array.dtype.itemsize > 4 and (np.isneginf(table) & ~np.isneginf(array)).any():
        raise ValueError(f"scores must fit float32, got {array.min()}")
    return (table[None, :], True) if table.ndim == 1 else (table, False)


def merge_topk(parts: Iterable[TopK], k: int) -> TopK:
    """Merge answers over parts of a catalogue into the best k of the whole.

    Parameters
    ----------
    parts : iterable of TopK
        At least one; all for the same queries, each of any width. Ids are of one kind.
    k : int
        How many, >= 0; may exceed the entries of the parts by up to 2²⁰.

    Returns
    -------
    TopK
        The best k of all parts: score descending, then ordinal ascending, then part. An item
        that stands in several parts counts once, with its best score. ``partial`` where any
        part is.

    Raises
    ------
    ValueError
        No parts, different numbers of queries, a score that is NaN, k < 0.
    TypeError
        A part that is not a `TopK`, ids of mixed kinds, ordinals that are not int64.

    Notes
    -----
    Exact when every part holds at least the best k of its share. Ordinals only break ties: parts
    of one sharded index share their numbering; the parts of unrelated indexes do not, and a tie
    between them then goes by each one's own numbers. O(n p k log(p k)) for p parts. Safe to call
    from several threads.
    """
    given = _as_parts(parts)
    single = given[0].ids.ndim == 1
    ids = np.concatenate([np.atleast_2d(part.ids) for part in given], axis=1)
    ordinals = _stack([part.ordinals for part in given], np.int64)
    scores = _stack([part.scores for part in given], np.float32)
    count = as_k(k, ids.shape[1])
    keys = ids if ids.dtype != object else _number_strings(ids)
    at = _select.merge(scores, ordinals, np.ascontiguousarray(keys), count)
    padded = at < 0
    merged = (
        pick(ids, at, padded, None if ids.dtype == object else PADDING_ID),
        pick(scores, at, padded, -np.inf),
        pick(ordinals, at, padded, -1),
    )
    out_ids, out_scores, out_ordinals = (array[0] for array in merged) if single else merged
    partial = any(part.partial for part in given)
    return TopK(out_ids, out_scores, ordinals=out_ordinals, partial=partial)


def _as_parts(value: Any) -> list[TopK]:
    """Return the parts as a list, after checking that they fit together."""
    if isinstance(value, TopK) or not isinstance(value, Iterable):
        raise TypeError(f"parts must be a list of TopK, got {type(value).__name__}")
    parts = list(value)
    if not parts:
        raise ValueError("parts must hold at least one TopK, got 0")
    for part in parts:
        if not isinstance(part, TopK):
            raise TypeError(f"parts must hold TopK, got {type(part).__name__}")
        if part.ordinals.dtype != np.int64:
            raise TypeError(f"parts must carry int64 ordinals, got {part.ordinals.dtype}")
        if part.ids.shape != part.scores.shape or part.ids.shape != part.ordinals.shape:
            raise ValueError("parts must hold ids, scores and ordinals of one shape")
        if part.scores.dtype.kind not in "fiu":
            raise TypeError(f"parts must hold scores of real numbers, got {part.scores.dtype}")
        if np.isnan(part.scores).any():
            raise ValueError("parts must hold scores that are not NaN, got nan")
    shapes = {part.ids.shape[:-1] for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"parts must answer the same queries, got batches {sorted(shapes)}")
    kinds = {part.ids.dtype for part in parts}
    if kinds not in ({np.dtype(np.int64)}, {np.dtype(object)}):
        names = ", ".join(sorted(str(kind) for kind in kinds))
        raise TypeError(f"parts must hold ids of one kind, int64 or str, got {names}")
    return parts


def _stack(arrays: Sequence[Any], dtype: Any) -> Any:
    joined = np.concatenate([np.atleast_2d(array) for array in arrays], axis=1)
    return np.ascontiguousarray(joined, dtype=dtype)


def _number_strings(ids: IdArray) -> Int64Array:
    """Give each distinct string a number; None, the padding, is −1."""
    numbers: dict[Any, int] = {None: PADDING_ID}
    flat = [numbers.setdefault(entry, len(numbers)) for entry in ids.ravel()]
    return np.array(flat, np.int64).reshape(ids.shape)


def pick(table: Any, columns: Int64Array, padded: Any, fill: Any) -> Any:
    """Take columns[i, j] of row i of `table`; `fill` where `padded`."""
    if table.shape[1] == 0:
        return np.full(columns.shape, fill, table.dtype)
    taken = np.take_along_axis(table, np.where(padded, 0, columns), axis=1)
    taken[padded] = fill
    return taken
