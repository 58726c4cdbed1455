"""The few types that every room shares: what a ranking is, and the names of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
Storage: TypeAlias = Literal["float32", "float16", "bfloat16"]
UInt8Array: TypeAlias = NDArray[np.uint8]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
IdArray: TypeAlias = NDArray[Any]  # int64, or object holding str (None where padded)
ItemId: TypeAlias = int | str

PADDING_ID = -1
FRAME_BACKENDS = ("polars", "pandas", "pyarrow")


class TopK(tuple[IdArray, Float32Array]):
    """The best k of each query: unpacks as ``ids, scores``, ids first.

    Order is score descending, then ordinal ascending. Where fewer than k items are left, the tail
    holds id −1 (None for str ids), ordinal −1 and score −inf.

    Parameters
    ----------
    ids : ndarray (k,) or (n_queries, k), int64 or object
        The caller's item ids.
    scores : ndarray of the same shape, float32
        Higher is better.
    ordinals : ndarray of the same shape, int64, optional
        The engine's own stable item numbers; the ids themselves when omitted.
    partial : bool
        True when a deadline cut the search short: the answer is exact over what was scanned.
    trace : dict or None
        What each stage did, when it was asked for.
    """

    ordinals: Int64Array
    partial: bool
    trace: dict[str, Any] | None

    def __new__(
        cls,
        ids: IdArray,
        scores: Float32Array,
        *,
        ordinals: Int64Array | None = None,
        partial: bool = False,
        trace: dict[str, Any] | None = None,
    ) -> TopK:
        self = super().__new__(cls, (ids, scores))
        self.ordinals = ids if ordinals is None else ordinals
        self.partial = partial
        self.trace = trace
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[IdArray, Float32Array], dict[str, Any]]:
        extra = {"ordinals": self.ordinals, "partial": self.partial, "trace": self.trace}
        return (self.ids, self.scores), extra

    @property
    def ids(self) -> IdArray:
        """Item ids, the first of the pair."""
        return self[0]

    @property
    def scores(self) -> Float32Array:
        """Scores, the second of the pair."""
        return self[1]

    def to_frame(
        self, users: Sequence[ItemId] | IdArray | None = None, *, backend: str = ""
    ) -> Any:
        """Return the ranking as a frame ``user_id, item_id, score, rank`` without the padding.

        Parameters
        ----------
        users : sequence of length n_queries, optional
            What each row is about; the row number when omitted.
        backend : {"polars", "pandas", "pyarrow"}, optional
            The frame library; the first one installed, in that order, when omitted.
        """
        import narwhals as nw

        ids, scores = np.atleast_2d(self.ids), np.atleast_2d(self.scores)
        n_rows, k = ids.shape
        labels = np.arange(n_rows) if users is None else np.asarray(users)
        if labels.shape != (n_rows,):
            raise ValueError(f"users must have one entry per row ({n_rows}), got {labels.shape}")
        keep = np.isfinite(scores)
        columns = {
            "user_id": np.repeat(labels, k).reshape(n_rows, k)[keep].tolist(),
            "item_id": ids[keep].tolist(),
            "score": scores[keep].tolist(),
            "rank": np.tile(np.arange(1, k + 1), (n_rows, 1))[keep].tolist(),
        }
        return nw.from_dict(columns, backend=_frame_backend(backend)).to_native()


def _frame_backend(backend: str) -> Any:
    from importlib.util import find_spec

    if backend:
        if backend not in FRAME_BACKENDS:
            raise ValueError(f"backend must be one of {FRAME_BACKENDS}, got {backend!r}")
        return backend
    for name in FRAME_BACKENDS:
        if find_spec(name):
            return name
    raise ImportError("to_frame needs a frame library: pip install 'recengine[data]'")


@dataclass(frozen=True)
class Candidates:
    """What retrieval hands to every later stage: parallel 1-D arrays, best first.

    Attributes
    ----------
    ids : ndarray (n,), int64 or object
    scores : ndarray (n,), float32
    source : ndarray (n,), int64
        Which `Source` (by its number in the engine) nominated the item first.
    ordinals : ndarray (n,), int64
    """

    ids: IdArray
    scores: Float32Array
    source: Int64Array
    ordinals: Int64Array = field(repr=False)
