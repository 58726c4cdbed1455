"""`TextEncoder`: texts to vectors, by a graph trained elsewhere and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from recengine._types import Float32Array
from recengine._validation import as_choice, as_count, check_finite
from recengine.encoders._pool import scale_rows
from recengine.encoders.encoder import GraphEncoder
from recengine.encoders.folder import TextOptions, find_files, read_options, resolve
from recengine.encoders.graph import TextGraph, gives_tokens
from recengine.encoders.pooling import POOLINGS
from recengine.encoders.progress import progress_bar
from recengine.encoders.reference import TextReference
from recengine.encoders.running import MOST_TEXTS, Countdown, Running, rows_a_run
from recengine.encoders.skipping import ON_ERROR, Encoded, encoded, not_finite
from recengine.encoders.tokens import Tokenizer, Tokens, checked_text
from recengine.runtime import Session


class TextEncoder(GraphEncoder):
    """Text to vector.

    Parameters
    ----------
    model : path
        An ``.onnx`` transformer: input_ids, and where it has them attention_mask and
        token_type_ids, to token vectors (n, tokens, dim) or to text vectors (n, dim).
    tokenizer : path
        Its ``tokenizer.json``. The padding and truncation stored in it are not used.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    pooling : {"mean", "cls", "last", "none"}
        The mean over the text's tokens, its first or last token, or "none": the graph pools.
    normalize : bool
        Scale each vector to length 1.
    max_length : int
        Tokens kept of a text, special tokens included.
    query_prompt, document_prompt : str
        Put before the text by `encode_query` and by `encode`.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.
    buckets : (sequence of int, sequence of int), optional
        Rows and lengths that batches are padded to, such as ``((1, 8), (32, 64, 128, 256))``; the
        last length holds `max_length`. For a GPU, where a new shape costs, and for a graph with
        fixed shapes. On the CPU a new shape costs nothing and padding does.
    output : str, optional
        What to take: an output of the graph or any tensor inside it (a lower layer, what lies
        under a classifier), at which it is cut, as of `OnnxEncoder`. The first output whose shape
        suits `pooling` when omitted.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; ImportError also without `tokenizers`.
    ValueError
        If the graph has inputs or outputs that are not those of a text model, or an option is
        unknown or unfit.

    Notes
    -----
    Immutable; may be used from many threads. Fork and pickle are safe: the files are opened anew
    from their paths, and refused if a digest changed.
    """

    _reference_type = TextReference
    _reference: TextReference

    def __init__(
        self,
        model: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str],
        device: str = "cpu",
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int = 256,
        query_prompt: str = "",
        document_prompt: str = "",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
        output: str | None = None,
    ) -> None:
        options = TextOptions(pooling, normalize, max_length, query_prompt, document_prompt, output)
        running = Running(device, num_threads, runtime, buckets)
        self._set_up(running.open(model, output), Path(tokenizer), options, running, source="")

    def _set_up(
        self,
        session: Session,
        tokenizer: Path,
        options: TextOptions,
        running: Running,
        source: str,
    ) -> None:
        as_choice("pooling", options.pooling, POOLINGS)
        as_count("max_length", options.max_length, minimum=1)
        checked_text("query_prompt", options.query_prompt)
        checked_text("document_prompt", options.document_prompt)
        self._tokenizer = Tokenizer(tokenizer.absolute(), options.max_length)
        self._buckets = running.ladders(options.max_length)
        self._graph = TextGraph(session, options.pooling, self._tokenizer.pad_id, self._buckets)
        self._session, self._options, self._running = session, options, running
        self._reference = TextReference(
            source=source,
            model=str(session.path),
            model_digest=session.digest,
            tokenizer=str(self._tokenizer.path),
            tokenizer_digest=self._tokenizer.digest,
            options=options,
        )
        self._dim = self._graph.dim or self._graph.vectors([Tokens([0], [0])]).shape[1]

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
        output: str | None = None,
    ) -> TextEncoder:
        """Open a model folder, or a model that `recengine fetch` knows by name.

        Parameters
        ----------
        source : path or str
            A folder with ``model.onnx`` (or ``onnx/model.onnx``) and ``tokenizer.json``; what it
            says about pooling, normalisation, length and prompts, in the files of
            sentence-transformers, is followed. Or a name such as "minilm-l6-int8", downloaded on
            first use. A folder goes before a name.
        device, num_threads, runtime, buckets, output
            As of `TextEncoder`.

        Returns
        -------
        TextEncoder

        Raises
        ------
        FileNotFoundError
            If `source` is neither, or the folder lacks a file.
        FetchError
            If the model can be neither found in the cache nor downloaded.
        ValueError
            If the folder asks for modules or a pooling that recengine does not have.
        """
        folder, name = resolve(source)
        model, tokenizer = find_files(folder)
        options = replace(read_options(folder), output=output)
        running = Running(device, num_threads, runtime, buckets)
        session = running.open(model, output)
        if not gives_tokens(session):
            options = replace(options, pooling="none")
        return cls._made(session, tokenizer, options, running, name)

    @property
    def options(self) -> TextOptions:
        """Pooling, normalisation, length, prompts and output."""
        return self._options

    @overload
    def encode(
        self,
        texts: Iterable[str],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["raise"] = "raise",
        timeout: float | None = None,
    ) -> Float32Array: ...
    @overload
    def encode(
        self,
        texts: Iterable[str],
        batch_size: int | None = None,
        progress: bool = False,
        *,
        on_error: Literal["skip"],
        timeout: float | None = None,
    ) -> Encoded: ...
    def encode(
        self,
        texts: Iterable[str],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: str = "raise",
        timeout: float | None = None,
    ) -> Float32Array | Encoded:
        """Encode texts, each after the document prompt.

        Parameters
        ----------
        texts : iterable of str
        batch_size : int, optional
            The most texts of a batch; fewer where they are long, see Notes. When omitted 64. With
            1 a text runs alone, and its vector depends on nothing but the text. A dynamically
            quantized graph takes 1, also when omitted, and no more.
        progress : bool
            Show a progress bar on standard error.
        on_error : {"raise", "skip"}
            What to do about a text that cannot be encoded.
        timeout : float, optional
            Seconds, > 0, for all of it; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of `texts`. A text without any token (the empty one, where the tokenizer
            adds no special tokens) is a row of zeros. With ``on_error="skip"`` an `Encoded`
            (vectors, kept, skipped): the rows that there are, whose they are, and what was wrong
            with the others.

        Raises
        ------
        TypeError
            If `texts` is one str, or an entry is not a str; also under "skip".
        ValueError
            If an entry is not valid Unicode, or the graph gives NaN or infinity.
        DeadlineError
            If `timeout` ran out; the encoder stays usable.

        Notes
        -----
        Batches are cut from the texts sorted by length: at most `batch_size` texts, at most 2,048
        padded tokens, none less than half as long as the longest. A vector may differ with its
        batch mates by rounding in a float graph (1e-5 in our tests; int8 weights alone change
        nothing about that). Dynamic quantisation takes its scales from the whole batch: MiniLM
        quantized so by onnxruntime would have cosines of 0.97 to 1 to the text alone, which is why
        its texts do run alone. `compress` with "row-int8" makes a model whose batches change no
        bit. One list encoded twice gives the same bits, from any thread.
        """
        batch_size = rows_a_run(self._session, batch_size, MOST_TEXTS)
        as_choice("on_error", on_error, ON_ERROR)
        countdown = Countdown(timeout)
        skipped: dict[int, str] | None = None if on_error == "raise" else {}
        prompt = self._options.document_prompt
        tokens = self._tokenizer.encode_all(texts, prompt, skipped, countdown.left)
        with progress_bar("encoding", len(tokens), shown=progress) as advance:
            vectors = np.zeros((len(tokens), self.dim), np.float32)
            self._graph.fill(vectors, tokens, batch_size, countdown, advance)
        if skipped is None:
            return self._finished(vectors)
        for row in not_finite(vectors).tolist():
            vectors[row] = 0.0
            skipped[row] = f"texts[{row}] makes {self._session.path.name} give NaN or infinity"
        return encoded(self._finished(vectors), skipped)

    def encode_query(self, text: str, timeout: float | None = None) -> Float32Array:
        """Encode one text after the query prompt, alone in its batch.

        Parameters
        ----------
        text : str
        timeout : float, optional
            Seconds, > 0; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (dim,), float32
            The same bits whatever else is being encoded.

        Raises
        ------
        DeadlineError
            If `timeout` ran out; the encoder stays usable.
        """
        countdown = Countdown(timeout)
        tokens = self._query_tokens(text)
        if not tokens.ids:
            return np.zeros(self.dim, np.float32)
        vectors = self._graph.vectors([tokens], countdown)
        vector: Float32Array = self._finished(vectors)[0]
        return vector

    def warm_up(self, texts: Iterable[str] | None = None) -> None:
        """Run what requests will run, so that none of them waits for memory or a new shape.

        Parameters
        ----------
        texts : iterable of str, optional
            Queries on record, each run as `encode_query` does. When omitted, every bucket is run;
            without buckets whole batches and single texts of `max_length` tokens, half of it, and
            so on down to 8.
        """
        queries = None if texts is None else map(self._query_tokens, texts)
        self._graph.warm_up(self._options.max_length, queries)

    def _query_tokens(self, text: str) -> Tokens:
        return self._tokenizer.encode(self._options.query_prompt + checked_text("text", text))

    def _finished(self, vectors: Float32Array) -> Float32Array:
        """Return vectors of its own making, scaled in place, refusing NaN and infinity."""
        if self._options.normalize and scale_rows(vectors):
            return vectors
        return check_finite(f"the output of {self._session.path.name}", vectors)

    @classmethod
    def from_reference(
        cls,
        reference: Mapping[str, Any],
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        buckets: Any = None,
    ) -> TextEncoder:
        """Open the encoder that `reference` describes.

        Parameters
        ----------
        reference : mapping
            From `reference`. Where its paths are gone and it came from a fetched name, the files
            are fetched by that name.
        device, num_threads, runtime, buckets
            As of `TextEncoder`.

        Returns
        -------
        TextEncoder
            With the same `digest`; raises as `GraphEncoder.from_reference`.
        """
        found = TextReference.from_json(reference)
        model, tokenizer = found.files()
        running = Running(device, num_threads, runtime, buckets)
        session = running.open(model, found.options.output)
        return cls._made(session, tokenizer, found.options, running, found.source)

    def __reduce__(self) -> tuple[Any, ...]:
        return TextEncoder.from_reference, (self.reference(), *self._running)
