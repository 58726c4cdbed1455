"""`ImageEncoder`: images to vectors, with what an image model needs around its graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Literal, overload

import numpy as np

from recengine._errors import ImageError
from recengine._types import Float32Array
from recengine._validation import as_choice
from recengine.encoders.encoder import GraphEncoder
from recengine.encoders.framing import framing, is_channels_first
from recengine.encoders.image_batches import PixelBatch, pixel_batches
from recengine.encoders.image_folder import (
    ImageOptions,
    ImageReference,
    find_model,
    open_folder,
    read_arguments,
)
from recengine.encoders.pixels import described, load_pillow, upright
from recengine.encoders.progress import progress_bar
from recengine.encoders.rows import RowGraph
from recengine.encoders.running import UNLIMITED, Countdown, Running, rows_a_run
from recengine.encoders.skipping import ON_ERROR, Encoded, encoded, not_finite

MOST_IMAGES = 32  # of a batch that warm-up runs: the default batch_size of `encode`


class ImageEncoder(GraphEncoder):
    """Image to vector.

    Parameters
    ----------
    model : path
        An ``.onnx`` graph with one input, images (n, height, width, 3) or (n, 3, height, width),
        uint8 or float.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        "cuda" is given wholly or refused with the reason; "auto" may fall to the CPU and says so.
    size : int or (int, int), optional
        What the shorter side, or (height, width), is resized to; the longer side of `crop` when
        omitted.
    crop : int or (int, int), optional
        Height and width of the piece taken from the middle; what the graph takes when omitted.
    resample : {"bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"}
    scale : float, optional
    mean, std : sequence of 3 floats, optional
        A float graph gets (x * scale - mean) / std for x in 0 … 255; 1/255, 0 and 1 when omitted.
        A uint8 graph gets x, and refuses these three.
    output : str, optional
        What to take, (n, dim) and real: an output of the graph or any tensor inside it, at which
        it is cut, as of `OnnxEncoder`. The first output when omitted.
    normalize : bool
        Scale each vector to length 1.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.
    runtime : mapping, optional
        Options of the runtime by name, as `recengine.runtime.open_session` takes them.

    Raises
    ------
    DeviceError, BundleError, FileNotFoundError, ImportError
        As `recengine.runtime.open_session`; ImportError also without Pillow.
    ValueError
        If the graph is not one of images, or an argument does not fit it.

    Notes
    -----
    Immutable; may be used from many threads. Fork and pickle are safe: the graph is opened anew
    from its path, and refused if its digest changed.
    """

    _reference_type = ImageReference
    _reference: ImageReference

    def __init__(
        self,
        model: str | os.PathLike[str],
        device: str = "cpu",
        size: int | Sequence[int] | None = None,
        *,
        crop: int | Sequence[int] | None = None,
        resample: str = "bicubic",
        scale: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        output: str | None = None,
        normalize: bool = True,
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        asked: dict[str, Any] = {"size": size, "crop": crop, "resample": resample}
        asked |= {"scale": scale, "mean": mean, "std": std}
        running = Running(device, num_threads, runtime)
        self._set_up(model, asked, output, normalize, running, source="")

    def _set_up(
        self,
        model: str | os.PathLike[str],
        asked: Mapping[str, Any],
        output: str | None,
        normalize: bool,
        running: Running,
        source: str,
    ) -> None:
        load_pillow()
        if not isinstance(normalize, bool):
            raise TypeError(f"normalize must be a bool, got {type(normalize).__name__}")
        self._session = session = running.open(model, output)
        self._graph = RowGraph(session, normalize)
        if len(session.inputs) != 1:
            listed = "; ".join(map(str, session.inputs))
            raise ValueError(f"model must have one input, images; it takes {listed}")
        (self._port,) = session.inputs
        self._channels_first = is_channels_first(self._port)
        framed = framing(self._port, **asked)
        self._options = ImageOptions(**vars(framed), output=output, normalize=normalize)
        self._running = running
        self._reference = ImageReference(source, str(session.path), session.digest, self._options)
        self._dim = self._graph.dim or self._vectors(self._blank(1)).shape[1]

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        device: str = "cpu",
        *,
        output: str | None = None,
        normalize: bool = True,
        num_threads: int | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> ImageEncoder:
        """Open a model folder, or a model that `recengine fetch` knows by name.

        Parameters
        ----------
        source : path or str
            A folder with ``model.onnx`` (or ``onnx/model.onnx``); what its
            ``preprocessor_config.json`` (Hugging Face's) says about size, crop and scaling is
            followed. Or the name "efficientnet-lite0": downloaded on first use and converted to
            ONNX beside the download. A folder goes before a name.
        device, output, normalize, num_threads, runtime
            As of `ImageEncoder`.

        Returns
        -------
        ImageEncoder

        Raises
        ------
        FileNotFoundError
            If `source` is neither, or the folder lacks the model.
        FetchError
            If the model can be neither found in the cache nor downloaded.
        ImportError
            Without `onnx`, where a fetched model has yet to be converted.
        ValueError
            If the folder asks for a step that recengine does not have.
        """
        folder, name = open_folder(source)
        asked, running = read_arguments(folder), Running(device, num_threads, runtime)
        return cls._made(find_model(folder), asked, output, normalize, running, name)

    @classmethod
    def _found(cls, reference: ImageReference, running: Running) -> ImageEncoder:
        options = reference.options
        chosen = options.output, options.normalize
        return cls._made(reference.file(), options.asked(), *chosen, running, reference.source)

    @property
    def options(self) -> ImageOptions:
        """Size, crop, resampling and scaling; output and normalisation."""
        return self._options

    @overload
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Literal["raise"] = "raise",
        timeout: float | None = None,
    ) -> Float32Array: ...
    @overload
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int | None = None,
        progress: bool = False,
        *,
        on_error: Literal["skip"],
        timeout: float | None = None,
    ) -> Encoded: ...
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int | None = None,
        progress: bool = False,
        on_error: str = "raise",
        timeout: float | None = None,
    ) -> Float32Array | Encoded:
        """Encode images.

        Parameters
        ----------
        images : iterable of path, bytes, PIL.Image.Image or uint8 ndarray
            Also one array (n, height, width, 3). Arrays are (height, width) or
            (height, width, 1, 3 or 4), RGB or RGBA.
        batch_size : int, optional
            Images read and run at once, 32 when omitted. An iterator is read so far ahead and no
            further. A dynamically quantized graph takes 1, also when omitted, and no more: its
            scales are those of a whole run.
        progress : bool
            Show a progress bar on standard error.
        on_error : {"raise", "skip"}
            What to do about an image that cannot be encoded.
        timeout : float, optional
            Seconds, > 0, for all of it; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (n, dim), float32
            In the order of `images`. With ``on_error="skip"`` an `Encoded` (vectors, kept,
            skipped): the rows that there are, whose they are, and what was wrong with the others.

        Raises
        ------
        ImageError
            If an image is damaged, cut short, of no known format or of more than 89 million
            pixels, or if the graph gives NaN or infinity for it.
        TypeError
            If `images` is one image, or an entry is of another type; also under "skip".
        DeadlineError
            If `timeout` ran out; the encoder stays usable.

        Notes
        -----
        EXIF orientation is applied; grey, palette and CMYK become RGB; what is transparent lies on
        white; of an animation the first frame is taken. Memory: one batch of crops, one decoded
        image and the vectors. A float graph gives an image the same vector alone and in any batch,
        up to rounding (1e-5 in our tests).
        """
        batch_size = rows_a_run(self._session, batch_size, MOST_IMAGES)
        as_choice("on_error", on_error, ON_ERROR)
        countdown = Countdown(timeout)
        skipped: dict[int, str] | None = None if on_error == "raise" else {}
        total = len(images) if isinstance(images, Sized) else None
        parts = [np.empty((0, self.dim), np.float32)]
        with progress_bar("encoding", total, shown=progress) as advance:
            for batch in pixel_batches(images, self._options, batch_size, skipped, countdown.left):
                parts.append(self._rows(batch, skipped, countdown))
                advance(len(batch.images))
        vectors = np.concatenate(parts)
        return vectors if skipped is None else encoded(vectors, skipped)

    def encode_query(self, image: Any, timeout: float | None = None) -> Float32Array:
        """Encode one image, alone in its batch.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image or uint8 ndarray
        timeout : float, optional
            Seconds, > 0; see `recengine.runtime.Session.run`.

        Returns
        -------
        ndarray (dim,), float32

        Raises
        ------
        DeadlineError
            If `timeout` ran out; the encoder stays usable.
        """
        countdown = Countdown(timeout)
        pixels = self._options.pixels(upright(image, "image"))
        vector: Float32Array = self._vectors(pixels[None], countdown)[0]
        if not np.isfinite(vector).all():
            raise ImageError(self._bad("image", image))
        return vector

    def warm_up(self, images: Iterable[Any] | None = None) -> None:
        """Run what requests will run, so that none of them waits for memory or a new shape.

        Parameters
        ----------
        images : iterable, optional
            Images on record, each run as `encode_query` does. When omitted a batch of 32 blank
            ones is run, and one alone; of a graph with a fixed number of rows one batch.
        """
        if images is None:
            counts = [self._graph.fixed_rows] if self._graph.fixed_rows else [MOST_IMAGES, 1]
            batches: Iterable[Any] = (self._blank(count) for count in counts)
        else:
            rows = self._graph.fixed_rows or 1
            framed = (self._options.pixels(upright(image, "image")) for image in images)
            batches = (pixels[None].repeat(rows, axis=0) for pixels in framed)
        self._session.warm_up({self._port.name: self._laid_out(batch)} for batch in batches)

    def _rows(
        self, batch: PixelBatch, skipped: dict[int, str] | None, countdown: Countdown
    ) -> Float32Array:
        """Return a row for each image of a batch, zeros for one that is skipped."""
        vectors = np.zeros((len(batch.images), self.dim), np.float32)
        if batch.kept:
            vectors[batch.kept] = self._vectors(np.stack(batch.pixels), countdown)
        for row in not_finite(vectors).tolist():
            number = batch.start + row
            reason = self._bad(f"images[{number}]", batch.images[row])
            if skipped is None:
                raise ImageError(reason)
            skipped[number] = reason
        return vectors

    def _bad(self, name: str, image: Any) -> str:
        model = self._session.path.name
        return f"{described(name, image)} makes {model} give NaN or infinity"

    def _vectors(self, pixels: Any, countdown: Countdown = UNLIMITED) -> Float32Array:
        return self._graph.vectors(self._laid_out(pixels), len(pixels), countdown)

    def _laid_out(self, pixels: Any) -> Any:
        """Return uint8 (n, height, width, 3) as the graph takes it."""
        if self._port.dtype != np.uint8:
            pixels = self._options.scaled(pixels).astype(self._port.dtype)
        return (
            np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self._channels_first else pixels
        )

    def _blank(self, n_images: int) -> Any:
        return np.zeros((n_images, *self._options.crop, 3), np.uint8)
