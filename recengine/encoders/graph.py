"""The graph of a text model: which input is which, which output to take, one batch through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine.encoders.batches import batches_of_like_length
from recengine.encoders.pooling import pool
from recengine.encoders.running import UNLIMITED, Countdown, usual_shapes
from recengine.encoders.tokens import IDS, MASK, TYPES, Tokens, padded
from recengine.runtime import Buckets, Port, Session


class TextGraph:
    """A session, read as a text model.

    Parameters
    ----------
    session : Session
    pooling : {"mean", "cls", "last", "none"}
    pad_id : int
        What stands at padded places of `input_ids`.
    buckets : Buckets, optional
        The shapes that batches are padded to.

    Attributes
    ----------
    has_mask : bool
        False: padding would be read as text, so a batch must hold texts of one length.
    dim : int or None
        Length of a vector, where the graph tells it.
    """

    def __init__(
        self, session: Session, pooling: str, pad_id: int, buckets: Buckets | None = None
    ) -> None:
        names = [port.name for port in session.inputs]
        if IDS not in names or not {*names} <= {IDS, MASK, TYPES}:
            raise ValueError(
                f"model must take {IDS}, and may take {MASK} and {TYPES}; {session.path.name} "
                f"takes {', '.join(names)}"
            )
        self.session = session
        self.has_mask = MASK in names
        self._wanted = {port.name: port.dtype or np.dtype(np.int64) for port in session.inputs}
        self._pooling, self._pad_id, self._buckets = pooling, pad_id, buckets
        if buckets is not None and not self.has_mask:
            raise ValueError(f"buckets must go with a graph that takes {MASK}")
        self._taken, output = _output(session, pooling)
        self.dim = output.shape[-1] if output.shape and isinstance(output.shape[-1], int) else None

    def fill(
        self,
        vectors: Float32Array,
        texts: list[Tokens],
        batch_size: int,
        countdown: Countdown,
        advance: Callable[[int], None],
    ) -> None:
        """Write the vector of each text into its row, batch by batch; none for one without tokens.

        Parameters
        ----------
        vectors : ndarray (n, dim), float32
        texts : list of Tokens
        batch_size : int
        countdown : Countdown
        advance : function
            Told how many texts are done.
        """
        lengths = np.array([len(text.ids) for text in texts], np.int64)
        advance(int(np.count_nonzero(lengths == 0)))
        for batch in batches_of_like_length(
            lengths, batch_size, padding=self.has_mask, buckets=self._buckets
        ):
            vectors[batch] = self.vectors([texts[i] for i in batch], countdown)
            advance(len(batch))

    def vectors(self, texts: list[Tokens], countdown: Countdown = UNLIMITED) -> Float32Array:
        """Return (n, dim) for one batch; each text has at least one token."""
        feeds, lengths = self.feeds(texts)
        found = countdown.run(self.session, feeds)[self._taken]
        shape = feeds[IDS].shape
        expected = shape[:1] if self._pooling == "none" else shape
        if found.shape[:-1] != expected:
            raise ValueError(
                f"output {self.session.outputs[self._taken].name} must be {(*expected, 'dim')} "
                f"for pooling={self._pooling!r}, got {found.shape}"
            )
        if self._pooling == "none":
            return found[: len(texts)].astype(np.float32)
        return pool(found, lengths[: len(texts)], self._pooling)

    def warm_up(self, max_length: int, queries: Iterable[Tokens] | None) -> None:
        """Run each of `queries` that has tokens; without them the shapes that are usual."""
        if queries is None:
            shapes = usual_shapes(max_length, self._buckets)
            batches = [[Tokens([0] * length, [0] * length)] * n for n, length in shapes]
        else:
            batches = [[tokens] for tokens in queries if tokens.ids]
        self.session.warm_up(self.feeds(batch)[0] for batch in batches)

    def feeds(self, texts: list[Tokens]) -> tuple[dict[str, NDArray[Any]], Int64Array]:
        """Return what the graph takes for a batch, padded to its bucket, and tokens of each row.

        Rows beyond those of `texts` repeat the last one: a row without any token would be none
        that a model has met.
        """
        n_rows, length = len(texts), 0
        if self._buckets is not None:
            n_rows, length = self._buckets.fit(n_rows, max(len(text.ids) for text in texts))
        filled = texts + texts[-1:] * (n_rows - len(texts))
        return padded(filled, self._pad_id, length, self._wanted)


def gives_tokens(session: Session) -> bool:
    """Tell whether some output is (n, tokens, dim), or hides its shape."""
    return any(_has_rank(port, 3) for port in session.outputs)


def _output(session: Session, pooling: str) -> tuple[int, Port]:
    rank = 2 if pooling == "none" else 3
    for number, port in enumerate(session.outputs):
        if _has_rank(port, rank):
            return number, port
    wanted = "(n, dim)" if rank == 2 else "(n, tokens, dim)"
    way_out = "" if rank == 2 else "; pooling='none' takes the graph's own (n, dim)"
    raise ValueError(
        f"pooling={pooling!r} must have an output {wanted}; {session.path.name} gives "
        f"{'; '.join(map(str, session.outputs))}{way_out}"
    )


def _has_rank(port: Port, rank: int) -> bool:
    """Tell whether `port` may be real and of `rank`; one without a shape may, and runs tell."""
    real = port.kind in ("tensor(float)", "tensor(float16)", "tensor(double)")
    return real and len(port.shape) in (0, rank)
