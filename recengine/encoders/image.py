"""`ImageEncoder`: images to vectors, with what an image model needs around its graph."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal, overload

import numpy as np

from recengine._errors import ImageError
from recengine._types import Float32Array
from recengine._validation import as_choice, as_count
from recengine.encoders import efficientnet
from recengine.encoders.arrays import OnnxEncoder
from recengine.encoders.folder import resolve
from recengine.encoders.framing import find_model, framing, is_channels_first, read_arguments
from recengine.encoders.pixels import Framing, described, load_pillow, upright
from recengine.encoders.progress import progress_bar
from recengine.encoders.skipping import ON_ERROR, Encoded, encoded, not_finite


class ImageEncoder:
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
        The output to take, (n, dim) and real; the first one when omitted.
    normalize : bool
        Scale each vector to length 1.
    num_threads : int, optional
        Threads inside one operator; what this process may use when omitted.

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
    ) -> None:
        load_pillow()
        self._graph = OnnxEncoder(
            model, device, output=output, normalize=normalize, num_threads=num_threads
        )
        if len(self._graph.inputs) != 1:
            listed = "; ".join(map(str, self._graph.inputs))
            raise ValueError(f"model must have one input, images; it takes {listed}")
        (port,) = self._graph.inputs
        self._channels_first = is_channels_first(port)
        self._framing = framing(port, size, crop, resample, scale, mean, std)
        made_of = (self._graph.digest, output, normalize, asdict(self._framing))
        self._digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        blank = np.zeros((1, *self._framing.crop, 3), np.uint8)
        self._dim = self._graph.dim or self._vectors(blank).shape[1]

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        device: str = "cpu",
        *,
        output: str | None = None,
        normalize: bool = True,
        num_threads: int | None = None,
    ) -> ImageEncoder:
        """Open a model folder, or a model that `recengine fetch` knows by name.

        Parameters
        ----------
        source : path or str
            A folder with ``model.onnx`` (or ``onnx/model.onnx``); what its
            ``preprocessor_config.json`` (Hugging Face's) says about size, crop and scaling is
            followed. Or the name "efficientnet-lite0": downloaded on first use and converted to
            ONNX beside the download. A folder goes before a name.
        device, output, normalize, num_threads
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
        folder, name = resolve(source)
        if name == efficientnet.NAME:
            efficientnet.convert(folder)
        return cls(
            find_model(folder),
            device,
            output=output,
            normalize=normalize,
            num_threads=num_threads,
            **read_arguments(folder),
        )

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:N"."""
        return self._graph.device

    @property
    def reason(self) -> str:
        """Why it runs there."""
        return self._graph.reason

    @property
    def options(self) -> Framing:
        """Size, crop, resampling and scaling."""
        return self._framing

    @property
    def digest(self) -> str:
        """SHA-256 over what makes the vectors: the model file, the output and the options."""
        return self._digest

    @overload
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int = 32,
        progress: bool = False,
        on_error: Literal["raise"] = "raise",
    ) -> Float32Array: ...
    @overload
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int = 32,
        progress: bool = False,
        *,
        on_error: Literal["skip"],
    ) -> Encoded: ...
    def encode(
        self,
        images: Iterable[Any],
        batch_size: int = 32,
        progress: bool = False,
        on_error: str = "raise",
    ) -> Float32Array | Encoded:
        """Encode images.

        Parameters
        ----------
        images : iterable of path, bytes, PIL.Image.Image or uint8 ndarray
            Also one array (n, height, width, 3). Arrays are (height, width) or
            (height, width, 1, 3 or 4), RGB or RGBA.
        batch_size : int
            Images read and run at once. An iterator is read so far ahead and no further.
        progress : bool
            Show a progress bar on standard error.
        on_error : {"raise", "skip"}
            What to do about an image that cannot be encoded.

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

        Notes
        -----
        EXIF orientation is applied; grey, palette and CMYK become RGB; what is transparent lies on
        white; of an animation the first frame is taken. Memory: one batch of crops, one decoded
        image and the vectors. A float graph gives an image the same vector alone and in any batch,
        up to rounding (1e-5 in our tests).
        """
        batch_size = as_count("batch_size", batch_size, minimum=1)
        as_choice("on_error", on_error, ON_ERROR)
        parts, start = [np.empty((0, self.dim), np.float32)], 0
        skipped: dict[int, str] = {}
        total = len(images) if isinstance(images, Sized) else None
        with progress_bar("encoding", total, shown=progress) as advance:
            for batch in _batches(self._checked(images), batch_size):
                parts.append(self._batch(batch, start, skipped, strict=on_error == "raise"))
                start += len(batch)
                advance(len(batch))
        vectors = np.concatenate(parts)
        return vectors if on_error == "raise" else encoded(vectors, skipped)

    def encode_query(self, image: Any) -> Float32Array:
        """Encode one image, alone in its batch.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image or uint8 ndarray

        Returns
        -------
        ndarray (dim,), float32
        """
        pixels = self._framing.pixels(upright(image, "image"))
        vector: Float32Array = self._vectors(pixels[None])[0]
        if not np.isfinite(vector).all():
            raise ImageError(f"{described('image', image)} makes {self._name} give NaN or infinity")
        return vector

    def _checked(self, images: Iterable[Any]) -> Iterable[Any]:
        picture = isinstance(images, str | bytes | bytearray | os.PathLike | load_pillow().Image)
        if picture or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise TypeError(
                f"images must be a sequence of images, got one {type(images).__name__}: "
                "pass [image], or use encode_query"
            )
        return images

    def _batch(
        self, batch: list[Any], start: int, skipped: dict[int, str], *, strict: bool
    ) -> Float32Array:
        """Return a row for each image, zeros for one that is put into `skipped`."""
        vectors = np.zeros((len(batch), self.dim), np.float32)
        kept, pixels = [], []
        for number, image in enumerate(batch, start):
            try:
                picture = upright(image, f"images[{number}]")
            except ImageError as error:
                if strict:
                    raise
                skipped[number] = str(error)
                continue
            kept.append(number - start)
            pixels.append(self._framing.pixels(picture))
        if kept:
            vectors[kept] = self._vectors(np.stack(pixels))
        for row in not_finite(vectors).tolist():
            reason = f"{described(f'images[{start + row}]', batch[row])} makes {self._name} give "
            skipped[start + row] = f"{reason}NaN or infinity"
            if strict:
                raise ImageError(skipped[start + row])
        return vectors

    def _vectors(self, pixels: Any) -> Float32Array:
        (port,) = self._graph.inputs
        if port.dtype != np.uint8:
            pixels = self._framing.scaled(pixels).astype(port.dtype)
        if self._channels_first:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return self._graph._encoded(pixels, len(pixels))

    @property
    def _name(self) -> str:
        return self._graph._session.path.name

    def __repr__(self) -> str:
        path = str(self._graph._session.path)
        return f"ImageEncoder({path!r}, device={self.device!r}, dim={self.dim})"


def _batches(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch
