"""`AudioEncoder`: sounds to vectors, by a graph trained elsewhere and its front end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, overload

from recengine._types import Float32Array
from recengine._validation import as_choice
from recengine.encoders.audio_folder import (
    AudioOptions,
    AudioReference,
    find_audio_files,
    read_audio_options,
)
from recengine.encoders.audio_graph import AudioGraph
from recengine.encoders.encoder import GraphEncoder
from recengine.encoders.folder import resolve
from recengine.encoders.hearing import heard
from recengine.encoders.running import Countdown, Running, rows_a_run
from recengine.encoders.skipping import ON_ERROR, Encoded
from recengine.encoders.sound_means import SoundMeans
from recengine.encoders.sounds import Sound

MOST_WINDOWS = 64  # of a run


class AudioEncoder(GraphEncoder):
    """Sound to vector: the mean over windows of what a graph hears in each.

    Parameters
    ----------
    model : path
        An ``.onnx`` graph with one real input and, as its first real output, vectors (n, dim) or
        framewise (n, ..., dim), whose frames are averaged. Its input is samples (n, window) or,
        after a front end, features (n, frames, bands); axes of length 1 may stand between.
    front_end : path, optional
        An ``.onnx`` graph from the samples of one sound (1, samples) to features
        (..., frames, bands), each frame of its own samples alone.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        For both graphs. "cuda" is given wholly or refused with the reason; "auto" may fall to the
        CPU and says so.
    window : int
        Samples of one window.
    hop : int, optional
        Samples from one window to the next, at most `window`, which it is when omitted.
    sample_rate : int
        Hz that the graphs want.
    amplitude : float
        What full scale is to the graphs: 1, or 32,768 where they were made for 16-bit samples.
    feature_scale, feature_offset : float
        Features are multiplied by the one, then moved by the other, between the graphs.
    output : str, optional
        What to take of the model, (n, dim) or framewise: an output or any tensor inside it, at
        which it is cut, as of `OnnxEncoder`. Its first real output when omitted.
    normalize : bool
        Scale each vector to length 1.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`.
    ValueError
        If the graphs, the window and the hop do not fit each other.

    Notes
    -----
    Immutable; may be used from many threads. Fork and pickle are safe: the graphs are opened anew
    from their paths, and refused if a digest changed. Needs soundfile for files and soxr for other
    rates than `sample_rate`: the extra ``audio``.

    Examples
    --------
    >>> encoder = AudioEncoder.open("speech-embedding")  # doctest: +SKIP
    >>> vectors = encoder.encode(["hello.wav", "rain.flac"])  # doctest: +SKIP
    """

    _reference_type = AudioReference
    _reference: AudioReference

    def __init__(
        self,
        model: str | os.PathLike[str],
        front_end: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        *,
        window: int,
        hop: int | None = None,
        sample_rate: int = 16_000,
        amplitude: float = 1.0,
        feature_scale: float = 1.0,
        feature_offset: float = 0.0,
        output: str | None = None,
        normalize: bool = True,
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        options = AudioOptions(
            window=window,
            hop=window if hop is None else hop,
            sample_rate=sample_rate,
            amplitude=amplitude,
            feature_scale=feature_scale,
            feature_offset=feature_offset,
            normalize=normalize,
            output=output,
        )
        running = Running(device, num_threads, runtime)
        self._set_up(model, front_end, options, running, source="")

    def _set_up(
        self,
        model: str | os.PathLike[str],
        front_end: str | os.PathLike[str] | None,
        options: AudioOptions,
        running: Running,
        source: str,
    ) -> None:
        options = options.checked()
        if front_end is None and (options.feature_scale, options.feature_offset) != (1.0, 0.0):
            raise ValueError("feature_scale and feature_offset must go with a front_end")
        session = running.open(model, options.output)
        front = None if front_end is None else running.open(front_end)
        self._graph = AudioGraph(session, front, options)
        self._session, self._options, self._running = session, options, running
        self._dim = self._graph.dim
        self._reference = AudioReference(
            source=source,
            model=str(session.path),
            model_digest=session.digest,
            front_end="" if front is None else str(front.path),
            front_end_digest="" if front is None else front.digest,
            options=options,
        )

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        device: str = "cpu",
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
        output: str | None = None,
    ) -> AudioEncoder:
        """Open a model folder, or a model that `recengine fetch` knows by name.

        Parameters
        ----------
        source : path or str
            A folder with ``model.onnx`` (or ``onnx/model.onnx``), ``front_end.onnx`` beside it
            where there is one, and ``audio.json``: an object of the options of `AudioEncoder`,
            ``window`` and ``hop`` among them. Or a folder with openWakeWord's
            ``melspectrogram.onnx`` and ``embedding_model.onnx``. Or a name such as
            "speech-embedding", downloaded on first use. A folder goes before a name.
        device, num_threads, runtime
            As of `AudioEncoder`.
        output : str, optional
            As of `AudioEncoder`; what the folder says when omitted.

        Returns
        -------
        AudioEncoder

        Raises
        ------
        FileNotFoundError
            If `source` is neither, or the folder lacks a file.
        FetchError
            If the model can be neither found in the cache nor downloaded.
        BundleError
            If ``audio.json`` is damaged.
        """
        folder, name = resolve(source)
        model, front_end = find_audio_files(folder)
        options = read_audio_options(folder)
        if output is not None:
            options = replace(options, output=output)
        return cls._made(model, front_end, options, Running(device, num_threads, runtime), name)

    @classmethod
    def _found(cls, reference: AudioReference, running: Running) -> AudioEncoder:
        model, front_end = reference.files()
        return cls._made(model, front_end, reference.options, running, reference.source)

    @property
    def options(self) -> AudioOptions:
        """Window, hop, rate, scales, normalisation and output."""
        return self._options

    @overload
    def encode(
        self,
        sounds: Iterable[Sound],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["raise"] = "raise",
        timeout: float | None = None,
    ) -> Float32Array: ...
    @overload
    def encode(
        self,
        sounds: Iterable[Sound],
        batch_size: int | None = None,
        progress: bool = False,
        *,
        on_error: Literal["skip"],
        timeout: float | None = None,
    ) -> Encoded: ...
    def encode(
        self,
        sounds: Iterable[Sound],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: str = "raise",
        timeout: float | None = None,
    ) -> Float32Array | Encoded:
        """Encode sounds.

        Parameters
        ----------
        sounds : iterable of path, bytes or (samples, rate)
            Files or their content in any format of libsndfile (WAV, FLAC, OGG, MP3, AIFF, ...), or
            samples (n,) or (n, channels) with their rate in Hz: floating with full scale 1, or
            uint8, int8, int16 or int32. Channels are averaged. Taken one after the other: a
            generator need not hold them.
        batch_size : int, optional
            The most windows of a run of the model, 64 when omitted; windows of several sounds share
            one. A dynamically quantized graph takes 1, also when omitted, and no more: its scales
            are those of a whole run.
        progress : bool
            Show a progress bar on standard error, counted in sounds.
        on_error : {"raise", "skip"}
            What to do about a sound that cannot be encoded.
        timeout : float, optional
            Seconds, > 0, for all of it; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of `sounds`. With ``on_error="skip"`` an `Encoded` (vectors, kept,
            skipped): the rows that there are, whose they are, and what was wrong with the others.

        Raises
        ------
        SoundError
            If a sound is damaged, empty, silent (all its samples are equal), not finite, or far
            beyond full scale, or if the graph gives NaN or infinity for it.
        OSError
            If a file cannot be opened: `FileNotFoundError` where there is none.
        TypeError
            If an entry is no sound at all; also under ``on_error="skip"``.
        DeadlineError
            If `timeout` ran out; the encoder stays usable.

        Notes
        -----
        Window i begins at sample i * hop; there are 1 + ceil(max(0, n - window) / hop) of them, so
        that every sample is heard. The last may end in zeros, and counts in the mean by the share
        of it that is sound. A sound shorter than one window is followed by such zeros.

        A vector depends on its own sound alone: the front end runs on stretches of one sound
        (about 6 s, counted from its start), because such graphs cut at a floor below the loudest
        place *of the run*; the model runs on windows of several. Batch mates change no more than
        the rounding of a float graph, and no more than 1e-5 in the models tested here.

        Memory is bounded whatever the length of a sound: 65,536 frames of the file, two stretches
        and one batch. A WAV, AIFF or OGG file that was cut short reads like a shorter one.
        """
        batch_size = rows_a_run(self._session, batch_size, MOST_WINDOWS)
        as_choice("on_error", on_error, ON_ERROR)
        if isinstance(sounds, str | bytes | bytearray | memoryview | os.PathLike):
            raise TypeError(
                f"sounds must be a sequence of sounds, got one {type(sounds).__name__}: pass "
                "[sound], or use encode_query"
            )
        strict = on_error == "raise"
        means = SoundMeans(self._graph, batch_size, Countdown(timeout))
        found = heard(sounds, means, self._options, "sounds[{}]", shown=progress, strict=strict)
        return found.vectors if strict else found

    def encode_query(self, sound: Sound, timeout: float | None = None) -> Float32Array:
        """Encode one sound, alone in its batches.

        Parameters
        ----------
        sound : path, bytes or (samples, rate)
            As of `encode`.
        timeout : float, optional
            Seconds, > 0.

        Returns
        -------
        ndarray (dim,), float32
            The same bits whatever else is being encoded.

        Raises
        ------
        DeadlineError
            If `timeout` ran out; the encoder stays usable.
        """
        windows = rows_a_run(self._session, None, MOST_WINDOWS)
        means = SoundMeans(self._graph, windows, Countdown(timeout))
        found = heard([sound], means, self._options, "sound")
        vector: Float32Array = found.vectors[0]
        return vector

    def warm_up(self) -> None:
        """Run both graphs at their largest and smallest, so that no request waits for memory."""
        self._graph.warm_up(MOST_WINDOWS)
