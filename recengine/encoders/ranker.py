"""`OnnxRanker`: a graph that scores candidates for one request, columns and text pairs alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import PADDING_ID, Float32Array, Int64Array, TopK
from recengine._validation import as_count, as_ids, as_vector, check_finite
from recengine.encoders.encoder import Referred
from recengine.encoders.ranker_columns import Given, features_of, n_candidates
from recengine.encoders.ranker_options import RankerOptions, RankerReference
from recengine.encoders.ranker_pairs import Pairs
from recengine.encoders.running import Countdown, Running
from recengine.encoders.tokens import IDS, MASK, TYPES
from recengine.runtime import Port, Session, as_buckets

MOST_ROWS = 1024  # of a batch without texts
WARM_ROWS = (1000, 200, 100, 1)  # candidates that warm-up scores


class OnnxRanker(Referred):
    """Score the candidates of one request: a cross-encoder, or a graph over columns.

    Parameters
    ----------
    model : path
        An ``.onnx`` graph whose inputs and output have the candidates as their first axis.
    tokenizer : path, optional
        A ``tokenizer.json``, for a graph that takes input_ids, and may take attention_mask and
        token_type_ids: they are fed with the pair of texts, as a cross-encoder reads it.
    pair : (str, str)
        The columns of those texts, first and second.
    inputs : mapping of str to str, optional
        Which column feeds an input, ``{"x": "user.age"}``, where it is not named after one (as
        ``user.age``, ``user_age`` or ``user/age`` is). Columns are ``user.``, ``item.`` or
        ``context.`` and a name; ``candidate.score`` is the score of the stage before.
    vocabularies : mapping of column to sequence of str, optional
        The str that a column may hold: the first becomes 1, and so on; any other, and None, 0.
    missing : mapping of column to number, optional
        What stands for NaN and None in a column of numbers; without it they are refused.
    output : str, optional
        The output to take; the first one when omitted. Real, (n,) or (n, 1); of (n, 2), the
        probabilities of no and yes, the second column.
    max_length : int
        Tokens kept of a pair, special tokens included; the longer text is cut first.
    n_candidates : int
        How many an `Engine` retrieves for it (k, if that is more), >= 1.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.
    buckets : optional
        What batches are padded to, for a GPU: rows and lengths, as of `TextEncoder`; for a graph
        without texts the rows alone, ``(1, 128, 1024)``.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; ImportError also without `tokenizers` for texts.
    ValueError, TypeError
        If an input has no column, or an option names what the graph has not: the message lists the
        inputs of the model.

    Notes
    -----
    Immutable; may be used from many threads. Fork and pickle are safe: the files are opened anew
    from their paths, and refused if a digest changed. Batches hold 1,024 candidates, or 64 pairs
    of like length; in a float graph the score of a candidate differs with its batch mates by
    rounding.

    Examples
    --------
    >>> ranker = OnnxRanker("ctr.onnx", vocabularies={"item.genre": genres})  # doctest: +SKIP
    >>> ranker.rank(ids, 10, items={"genre": of_items}, user={"age": 31})  # doctest: +SKIP
    """

    _reference: RankerReference

    def __init__(
        self,
        model: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str] | None = None,
        *,
        pair: Sequence[str] = ("context.query", "item.text"),
        inputs: Mapping[str, str] | None = None,
        vocabularies: Mapping[str, Sequence[str]] | None = None,
        missing: Mapping[str, float] | None = None,
        output: str | None = None,
        max_length: int = 256,
        n_candidates: int = 200,
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
    ) -> None:
        options = RankerOptions(
            pair, inputs or {}, vocabularies or {}, missing or {}, output, max_length, n_candidates
        )
        running = Running(device, num_threads, runtime, buckets)
        path = None if tokenizer is None else Path(tokenizer).absolute()
        self._set_up(running.open(model), path, options, running)

    def _set_up(
        self, session: Session, tokenizer: Path | None, options: RankerOptions, running: Running
    ) -> None:
        self._session, self._options, self._running = session, options, running
        listed = "; ".join(map(str, session.inputs))
        texts = [port for port in session.inputs if port.name in (IDS, MASK, TYPES)]
        if (tokenizer is None) == any(port.name == IDS for port in texts):
            what = "be given: it takes" if tokenizer is None else "be None: it does not take"
            raise ValueError(f"tokenizer must {what} {IDS}; the model has: {listed}")
        self._pairs = None
        if tokenizer is not None:
            ladders = running.ladders(options.max_length)
            self._pairs = Pairs(tokenizer, options.pair, options.max_length, texts, ladders)
        self._rows = None
        if self._pairs is None and running.buckets is not None:
            self._rows = as_buckets("buckets", (running.buckets, (1,)))
        self._features = features_of(
            tuple(port for port in session.inputs if self._pairs is None or port not in texts),
            options.inputs,
            options.vocabularies,
            options.missing,
            listed,
        )
        self._columns = tuple(feature.column for feature in self._features)
        if self._pairs is not None:
            self._columns += self._pairs.columns
        if not any(column.is_per_item for column in self._columns):
            raise ValueError(f"model must take a column of the items; it has: {listed}")
        self._taken = _taken(session, options.output)
        self._reference = RankerReference(
            source="",
            model=str(session.path),
            model_digest=session.digest,
            tokenizer="" if self._pairs is None else str(self._pairs.path),
            tokenizer_digest="" if self._pairs is None else self._pairs.digest,
            options=options,
        )

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the graph takes: name, dtype and shape of each input."""
        return self._session.inputs

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns it reads: names by role, "user", "item", "context" and "candidate"."""
        found: dict[str, list[str]] = {"user": [], "item": [], "context": [], "candidate": []}
        for role, name in dict.fromkeys(self._columns):
            found[role].append(name)
        return {role: tuple(names) for role, names in found.items()}

    @property
    def n_candidates(self) -> int:
        """How many candidates an `Engine` retrieves for it."""
        return self._options.n_candidates

    @property
    def options(self) -> RankerOptions:
        """What, beside the files, makes its scores."""
        return self._options

    def score(
        self,
        items: Mapping[str, Any],
        *,
        user: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        scores: Any = None,
        timeout: float | None = None,
    ) -> Float32Array:
        """Score candidates.

        Parameters
        ----------
        items : mapping of str to array_like (n, ...)
            The columns of the candidates. Columns that are not read are passed over.
        user, context : mapping of str to value, optional
            The columns of the request: a number, a str or an array each.
        scores : array_like (n,), optional
            Of the stage before, for a graph that reads ``candidate.score``.
        timeout : float, optional
            Seconds, > 0; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (n,), float32
            In the order of the candidates; higher is better.

        Raises
        ------
        DeadlineError
            If `timeout` ran out; the ranker stays usable.
        ValueError, TypeError
            If a column that it reads is not given (the message lists the inputs of the model), is
            missing values or does not fit, or the graph gives NaN or infinity.
        """
        countdown = Countdown(timeout)
        given = self._given(items, user, context, scores)
        n_rows = n_candidates(self._columns, given)
        found = np.empty(n_rows, np.float32)
        if n_rows == 0:
            return found
        for batch, feeds, n_real in self._batches(given, n_rows):
            values = countdown.run(self._session, feeds)[self._taken]
            found[batch] = self._scores(values, n_real)
        return check_finite(f"the output of {self._session.path.name}", found)

    def rank(
        self,
        ids: Any,
        k: int | None = None,
        *,
        items: Mapping[str, Any],
        user: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        scores: Any = None,
        timeout: float | None = None,
    ) -> TopK:
        """Order candidates, best first.

        Parameters
        ----------
        ids : array_like (n,), integers or str
            Of the candidates.
        k : int, optional
            How many, >= 0; all when omitted.
        items, user, context, scores, timeout
            As of `score`.

        Returns
        -------
        TopK
            ids and scores (k,), score descending, then in the order given; `ordinals` are places
            in `ids`. Fewer than k: id −1 (None for str ids) and score −inf at the end.

        Raises
        ------
        DeadlineError, ValueError, TypeError
            As of `score`; or ids of another number than the candidates.
        """
        names = as_ids("ids", ids)
        count = len(names) if k is None else as_count("k", k)
        found = self.score(items, user=user, context=context, scores=scores, timeout=timeout)
        if len(found) != len(names):
            raise ValueError(
                f"ids must have one entry a candidate ({len(found)}), got {len(names)}"
            )
        order = np.argsort(-found, kind="stable")[:count]
        places = np.full(count, PADDING_ID, np.int64)
        places[: len(order)] = order
        best = np.full(count, -np.inf, np.float32)
        best[: len(order)] = found[order]
        ranked = np.full(count, None if names.dtype == object else PADDING_ID, names.dtype)
        ranked[: len(order)] = names[order]
        return TopK(ranked, best, ordinals=places)

    def warm_up(self, requests: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Run what requests will run, so that none of them waits for memory or a new shape.

        Parameters
        ----------
        requests : iterable of mapping, optional
            The arguments of `score` by name, ``{"items": ..., "user": ...}``. When omitted, batches
            of zeros: every bucket, or the usual sizes.
        """
        if requests is None:
            self._session.warm_up(self._blanks())
            return
        self._session.warm_up(feeds for request in requests for feeds in self._feeds_of(**request))

    def _feeds_of(
        self, items: Any, user: Any = None, context: Any = None, scores: Any = None
    ) -> Any:
        given = self._given(items, user, context, scores)
        n_rows = n_candidates(self._columns, given)
        return [feeds for _, feeds, _ in self._batches(given, n_rows)] if n_rows else []

    def _blanks(self) -> Iterator[dict[str, NDArray[Any]]]:
        fixed = self._fixed_rows()
        if self._pairs is not None:
            shapes = [(fixed or n, length) for n, length in self._pairs.shapes()]
        elif self._rows is not None:
            shapes = list(self._rows)
        else:
            shapes = [(n, 1) for n in ([fixed] if fixed else WARM_ROWS)]
        for n_rows, length in shapes:
            feeds = {} if self._pairs is None else self._pairs.blank(n_rows, length)
            for feature in self._features:
                sizes = [size if isinstance(size, int) else 1 for size in feature.port.shape[1:]]
                feeds[feature.port.name] = np.zeros((n_rows, *sizes), feature.port.dtype)
            yield feeds

    def _given(self, items: Any, user: Any, context: Any, scores: Any) -> Given:
        for name, columns in (("items", items), ("user", user), ("context", context)):
            if columns is not None and not isinstance(columns, Mapping):
                raise TypeError(
                    f"{name} must be a mapping of columns, got {type(columns).__name__}"
                )
        before = None
        if scores is not None:
            before = as_vector("scores", scores, len(np.asarray(scores)))
        given = Given(user or {}, items or {}, context or {}, before)
        if lacking := [str(each) for each in self._columns if given.value(each) is None]:
            listed = "; ".join(map(str, self.inputs))
            raise ValueError(
                f"columns must be given for all inputs of {self._session.path.name}, lacking "
                f"{', '.join(dict.fromkeys(lacking))}; it has: {listed}"
            )
        return given

    def _batches(
        self, given: Given, n_rows: int
    ) -> Iterator[tuple[Int64Array, dict[str, NDArray[Any]], int]]:
        """Yield (rows, feeds, how many of the feeds' rows are real)."""
        arrays = {
            feature.port.name: feature.array(given.value(feature.column), n_rows)
            for feature in self._features
        }
        if self._pairs is not None:
            for batch, texts in self._pairs.batches(given, n_rows, self._fixed_rows()):
                yield batch, texts | _taken_rows(arrays, batch, len(texts[IDS])), len(batch)
            return
        fixed = self._fixed_rows()
        step = fixed or (MOST_ROWS if self._rows is None else self._rows.most_rows(MOST_ROWS))
        for first in range(0, n_rows, step):
            batch = np.arange(first, min(first + step, n_rows))
            padded_to = fixed or len(batch)
            if self._rows is not None:
                padded_to = self._rows.fit(len(batch), 1)[0]
            yield batch, _taken_rows(arrays, batch, padded_to), len(batch)

    def _fixed_rows(self) -> int:
        sizes = {port.shape[0] for port in self.inputs if port.shape}
        return max((size for size in sizes if isinstance(size, int)), default=0)

    def _scores(self, values: NDArray[Any], n_rows: int) -> Float32Array:
        flat = values[:, -1] if values.ndim == 2 and values.shape[1] in (1, 2) else values
        if flat.ndim != 1 or len(flat) < n_rows or flat.dtype.kind not in "fiu":
            port = self._session.outputs[self._taken]
            raise ValueError(
                f"output {port.name} must be real and (n,), (n, 1) or (n, 2), got {values.dtype} "
                f"of {values.shape} for {n_rows} candidates"
            )
        scores: Float32Array = flat[:n_rows].astype(np.float32)
        return scores

    @classmethod
    def from_reference(
        cls,
        reference: Mapping[str, Any],
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
    ) -> OnnxRanker:
        """Open the ranker that `reference` describes.

        Parameters
        ----------
        reference : mapping
            From `reference`.
        device, num_threads, runtime, buckets
            As of `OnnxRanker`.

        Returns
        -------
        OnnxRanker
            With the same `digest`.

        Raises
        ------
        BundleError
            If a file is not the one that was referred to, or the reference is damaged.
        FileNotFoundError
            If a file is gone.
        """
        found = RankerReference.from_json(reference)
        model, tokenizer = found.files()
        running = Running(device, num_threads, runtime, buckets)
        ranker = cls.__new__(cls)
        ranker._set_up(running.open(model), tokenizer, found.options, running)
        return ranker

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxRanker.from_reference, (self.reference(), *self._running)


def _taken(session: Session, output: str | None) -> int:
    names = [port.name for port in session.outputs]
    if output is None:
        return 0
    if output not in names:
        raise ValueError(f"output must be one of {', '.join(names)}, got {output!r}")
    return names.index(output)


def _taken_rows(
    arrays: Mapping[str, NDArray[Any]], batch: Int64Array, n_rows: int
) -> dict[str, NDArray[Any]]:
    """Return some rows of each array, the last one repeated up to `n_rows`."""
    rows = batch if n_rows == len(batch) else batch[np.arange(n_rows).clip(max=len(batch) - 1)]
    return {name: array[rows] for name, array in arrays.items()}
