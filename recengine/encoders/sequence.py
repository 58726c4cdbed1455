"""`SequenceEncoder`: histories of items to vectors of users."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from recengine._errors import BundleError
from recengine._types import Float32Array, Int64Array
from recengine._validation import check_finite
from recengine.data import IdMap, ids_digest
from recengine.encoders.batches import batches_of_like_length, most_texts
from recengine.encoders.encoder import Referred
from recengine.encoders.histories import Histories
from recengine.encoders.pooling import normalized
from recengine.encoders.progress import progress_bar
from recengine.encoders.running import MOST_TEXTS, Countdown, Running, rows_a_run, usual_shapes
from recengine.encoders.sequence_graph import SequenceGraph
from recengine.encoders.sequence_options import (
    SequenceOptions,
    SequenceReference,
    metadata_options,
    settled,
)
from recengine.runtime import Session


class SequenceEncoder(Referred):
    """History of items to user vector, by a recurrent net or a Transformer alike.

    Parameters
    ----------
    model : path
        An ``.onnx`` graph that takes ``items`` (n, length), integers, and may take ``mask``,
        ``positions``, ``recency`` (n, length) and ``lengths`` (n,); see Notes.
    items : IdMap, optional
        What histories are made of: the caller's ids, row i being the item of index i. When
        omitted they are made of item indices, 0 ... n_items - 1.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    max_length : int, optional
        Events that the graph reads: the last ones of a longer history.
    n_items : int, optional
        Items the graph knows; as many as `items` has when nobody says.
    padding : int, optional
        The graph's number for "no event", which stands left of the oldest one.
    first_item : int, optional
        The graph's number of item 0; 1 when omitted if `padding` is 0, else 0.
    pad_to : {"max_length", "longest"}, optional
        What a batch is padded to: always `max_length` (when nobody says), or only its longest
        history, for a graph that padding does not change.
    inputs : mapping of str to str, optional
        The graph's own name of an input by its role here, ``{"items": "item_seq"}``.
    output : str, optional
        The output to take; the first (n, dim) or (n, length, dim) when omitted.
    normalize : bool, optional
        Scale each vector to length 1; False when nobody says.
    on_unknown : {"raise", "skip"}
        What an item does that `items` or the graph does not know: raise `UnknownItemError`, or
        count as if it had not happened.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.
    buckets : (sequence of int, sequence of int), optional
        As of `TextEncoder`; the lengths are those of histories.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; BundleError also if the graph was made for other
        `items`, or says of itself what cannot be meant.
    ValueError
        If something is said neither here nor by the graph, or does not fit it.

    Notes
    -----
    What is omitted is read from the graph's ``metadata_props``: under ``recengine.sequence`` a
    JSON object with any of max_length, n_items, padding, first_item, pad_to, inputs, output,
    normalize, and ``items``, the `IdMap.digest` of the n_items ids it was trained on. An argument
    goes before it; a fixed axis of the graph tells max_length too.
    Events stand at the right, the newest last. Inputs are known by these names: ``items`` (or
    item_ids, input_ids); ``mask`` (attention_mask), 1 where an event is; ``positions``
    (position_ids), 0 at the oldest event and before it, then 1, 2, ...; ``recency``, 0 at the
    newest event, 1 at the one before it, and so on leftwards; ``lengths``. Of an output
    (n, length, dim) the last place is taken.
    Immutable; may be used from many threads. Fork and pickle are safe: the graph is opened anew
    from its path, and refused if its digest changed.
    """

    _reference: SequenceReference

    def __init__(
        self,
        model: str | os.PathLike[str],
        items: IdMap | None = None,
        device: str = "cpu",
        *,
        max_length: int | None = None,
        n_items: int | None = None,
        padding: int | None = None,
        first_item: int | None = None,
        pad_to: str | None = None,
        inputs: Mapping[str, str] | None = None,
        output: str | None = None,
        normalize: bool | None = None,
        on_unknown: str = "raise",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
    ) -> None:
        running = Running(device, num_threads, runtime, buckets)
        session = running.open(model)
        given = {
            "max_length": max_length,
            "n_items": n_items,
            "padding": padding,
            "first_item": first_item,
            "pad_to": pad_to,
            "inputs": None if inputs is None else dict(inputs),
            "output": output,
            "normalize": normalize,
            "on_unknown": on_unknown,
        }
        n_known = None if items is None else len(_checked(items))
        self._set_up(session, settled(session, n_known, given), items, running)

    def _set_up(
        self, session: Session, options: SequenceOptions, items: IdMap | None, running: Running
    ) -> None:
        self._session = session
        self._ladders = running.ladders(options.max_length)
        self._graph = SequenceGraph(session, options, self._ladders)
        self._options, self._running, self._items = options, running, items
        self._histories = Histories(options, items)
        self._reference = SequenceReference(
            source="",
            model=str(session.path),
            model_digest=session.digest,
            items_digest=_items_digest(session, options, items),
            options=options,
        )
        probe = [np.array([options.first_item])]
        self._dim = self._graph.dim or self._graph.vectors(probe).shape[1]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def items(self) -> IdMap | None:
        """What histories are made of; None for item indices."""
        return self._items

    @property
    def options(self) -> SequenceOptions:
        """Length, padding, inputs and output, as they were settled."""
        return self._options

    def encode(
        self,
        histories: Iterable[Any],
        batch_size: int | None = None,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Float32Array:
        """Encode histories.

        Parameters
        ----------
        histories : iterable of sequence of int or str
            One a user, oldest event first, repeats included: ids that `items` knows, else indices.
        batch_size : int, optional
            The most histories of a batch, 64 when omitted; at most 2,048 padded places are in one.
            A dynamically quantized graph takes 1, also when omitted, and no more: its scales are
            those of a whole batch.
        progress : bool
            Show a progress bar on standard error.
        timeout : float, optional
            Seconds, > 0, for all of it.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of `histories`. One without any (known) item is a row of zeros.

        Raises
        ------
        UnknownItemError
            If an item is not known, and `on_unknown` is "raise".
        TypeError
            If an entry is not a sequence of items, is of the wrong kind, or has no order.
        ValueError
            If an index is negative, or the graph gives NaN or infinity.
        DeadlineError
            If `timeout` ran out; the encoder stays usable.

        Notes
        -----
        A float graph gives a history the same vector alone and in any batch, up to rounding (1e-5
        in our tests).
        """
        batch_size = rows_a_run(self._session, batch_size, MOST_TEXTS)
        countdown = Countdown(timeout)
        windows = self._histories.windows(histories)
        lengths = self._graph.places(np.array([len(window) for window in windows], np.int64))
        vectors = np.zeros((len(windows), self.dim), np.float32)
        with progress_bar("encoding", len(windows), shown=progress) as advance:
            advance(int(np.count_nonzero(lengths == 0)))
            for batch in batches_of_like_length(lengths, batch_size, buckets=self._ladders):
                vectors[batch] = self._graph.vectors([windows[i] for i in batch], countdown)
                advance(len(batch))
        return self._finished(vectors)

    def encode_query(self, history: Any, timeout: float | None = None) -> Float32Array:
        """Encode one history, alone in its batch.

        Parameters
        ----------
        history : sequence of int or str
            Oldest event first, as in `encode`.
        timeout : float, optional
            Seconds, > 0; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (dim,), float32
            Zeros for a history without any (known) item.

        Raises
        ------
        DeadlineError
            If `timeout` ran out; the encoder stays usable.
        """
        countdown = Countdown(timeout)
        window = self._histories.window("history", history)
        if not len(window):
            return np.zeros(self.dim, np.float32)
        vectors = self._graph.vectors([window], countdown)
        vector: Float32Array = self._finished(vectors)[0]
        return vector

    def warm_up(self, histories: Iterable[Any] | None = None) -> None:
        """Run what requests will run, so that none of them waits for memory or a new shape.

        Parameters
        ----------
        histories : iterable of sequence of int or str, optional
            Histories on record, each run as `encode_query` does. When omitted, every bucket is
            run; without buckets a whole batch and a single history of `max_length` events and, if
            batches are not padded to that, of half of it, and so on down to 8.
        """
        if histories is None:
            batches = [[self._window(length)] * n for n, length in self._usual_shapes()]
        else:
            windows = self._histories.windows(histories)
            batches = [[window] for window in windows if len(window)]
        self._session.warm_up(self._graph.feeds(batch) for batch in batches)

    def _usual_shapes(self) -> list[tuple[int, int]]:
        length = self._options.max_length
        if self._ladders is None and self._options.pad_to == "max_length":
            return [(most_texts(length, MOST_TEXTS), length), (1, length)]
        return usual_shapes(length, self._ladders)

    def _window(self, length: int) -> Int64Array:
        return np.full(length, self._options.first_item)

    def _finished(self, vectors: Float32Array) -> Float32Array:
        check_finite(f"the output of {self._session.path.name}", vectors)
        return normalized(vectors) if self._options.normalize else vectors

    @classmethod
    def from_reference(
        cls,
        reference: Mapping[str, Any],
        items: IdMap | None = None,
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
    ) -> SequenceEncoder:
        """Open the encoder that `reference` describes.

        Parameters
        ----------
        reference : mapping
            From `reference`; of `items` only the digest is in it.
        items : IdMap, optional
            The map it was made with, or one that extends it; None if it was made without.
        device, num_threads, runtime, buckets
            As of `SequenceEncoder`.

        Returns
        -------
        SequenceEncoder
            With the same `digest`.

        Raises
        ------
        BundleError
            If the file or `items` are not what was referred to, or the reference is damaged.
        FileNotFoundError
            If the file is gone.
        """
        found = SequenceReference.from_json(reference)
        running = Running(device, num_threads, runtime, buckets)
        encoder = cls.__new__(cls)
        items = None if items is None else _checked(items)
        encoder._set_up(running.open(found.file()), found.options, items, running)
        digest = encoder._reference.items_digest
        if digest != found.items_digest:
            raise BundleError(
                f"items must be the IdMap that the encoder was made with, its digest "
                f"{found.items_digest or 'none'}, got {digest or 'none'}"
            )
        return encoder

    def __reduce__(self) -> tuple[Any, ...]:
        return SequenceEncoder.from_reference, (self.reference(), self._items, *self._running)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, dim={self.dim})"


def _checked(items: Any) -> IdMap:
    if not isinstance(items, IdMap):
        raise TypeError(f"items must be an IdMap, as Interactions.items is, got {type(items)}")
    return items


def _items_digest(session: Session, options: SequenceOptions, items: IdMap | None) -> str:
    """Return the digest of the ids that the graph knows, refusing others than it was made for."""
    if items is None:
        return ""
    if len(items) < options.n_items:
        raise ValueError(f"items must hold {options.n_items} ids or more, got {len(items)}")
    digest = ids_digest(items.ids[: options.n_items])
    wanted = metadata_options(session).get("items", digest)
    if digest != wanted:
        raise BundleError(
            f"items must be the ids that {session.path.name} was trained on, in their order: "
            f"their digest must be {wanted}, got {digest}"
        )
    return digest
