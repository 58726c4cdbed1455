"""From a file, bytes, a picture or an array to the pixels that an image model takes."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._errors import ImageError

# Formats that are decoded by a library and by nothing else (EPS, for one, starts Ghostscript).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
RESAMPLES = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
MAX_PIXELS = 2**28 // 3  # 89 million, where Pillow begins to warn: a quarter of a GB in RGB


@dataclass(frozen=True)
class Framing:
    """How an image becomes the input of a graph; see `ImageEncoder`.

    Attributes
    ----------
    resize : int or (int, int)
        What the shorter side, or (height, width), becomes.
    crop : (int, int)
        Height and width of the piece then taken from the middle.
    resample : str
    scale : float
    mean, std : tuple of 3 floats
        A float graph gets (x * scale - mean) / std for x in 0 … 255; a uint8 graph gets x.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    resample: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Any) -> NDArray[np.uint8]:
        """Return uint8 (height, width, 3) of the crop of an upright RGB picture.

        Only what is kept is resized, so a strip of 1 x 100,000 pixels costs no more than a square.
        """
        width, height = image.size
        if isinstance(self.resize, int):
            across = down = min(width, height) / self.resize
        else:
            down, across = height / self.resize[0], width / self.resize[1]
        half_x, half_y = self.crop[1] * across / 2, self.crop[0] * down / 2
        x, y = width / 2, height / 2
        box = (
            max(x - half_x, 0.0), max(y - half_y, 0.0),
            min(x + half_x, width), min(y + half_y, height),
        )  # fmt: skip
        resized = image.resize(self.crop[::-1], RESAMPLES[self.resample], box=box)
        return np.asarray(resized, np.uint8)

    def scaled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 of the same shape (…, 3) for a float graph."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (pixels * np.float32(self.scale) - mean) / std


def load_pillow() -> Any:
    """Return the module PIL.Image.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "ImageEncoder needs the Pillow library: pip install 'recengine[image]'"
        ) from None
    return Image


def described(name: str, image: Any) -> str:
    """Return how messages call `image`: its place in the argument, and its path if it has one."""
    return f"{name} ({os.fspath(image)!r})" if isinstance(image, str | os.PathLike) else name


def upright(image: Any, name: str) -> Any:
    """Return an image as an RGB picture, turned as its EXIF orientation says.

    Parameters
    ----------
    image : path, bytes, PIL.Image.Image or ndarray
        An array is uint8: (height, width) or (height, width, 1, 3 or 4), RGB or RGBA.
    name : str
        What messages call it.

    Returns
    -------
    PIL.Image.Image
        RGB. What is transparent lies on white; of several frames it is the first; 16-bit grey is
        scaled to 8 bits; CMYK is converted without a colour profile.

    Raises
    ------
    ImageError
        If it cannot be read, or has more than 89 million pixels (told before they are decoded).
    TypeError
        If it is none of these kinds.
    """
    module = load_pillow()
    if isinstance(image, np.ndarray):
        return _as_rgb(module, _from_array(module, image, name))
    if isinstance(image, module.Image):
        return _read(module, image, name)
    if isinstance(image, bytes | bytearray | memoryview):
        source: Any = io.BytesIO(image)
    elif isinstance(image, str | os.PathLike):
        name, source = described(name, image), Path(image)
    else:
        kinds = "a path, bytes, a PIL image or a uint8 array"
        raise TypeError(f"{name} must be {kinds}, got {type(image).__name__}")
    module.init()
    formats = [known for known in FORMATS if known in module.OPEN]
    try:
        opened = module.open(source, formats=formats)
    except Exception as error:  # decoders raise what they like, warnings of size among it
        raise ImageError(f"{name} cannot be read as an image: {error}") from error
    with opened:
        return _read(module, opened, name)


def _from_array(module: Any, array: NDArray[Any], name: str) -> Any:
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {array.dtype}")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(
            f"{name} must be (height, width) or (height, width, 1, 3 or 4), got {array.shape}"
        )
    _check_size(array.shape[1], array.shape[0], name)
    plain = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return module.fromarray(np.ascontiguousarray(plain))


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} must have pixels, it has {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} must have at most {MAX_PIXELS:,} pixels, it has {width} x {height}: "
            "make it smaller first"
        )


def _read(module: Any, image: Any, name: str) -> Any:
    from PIL import ImageOps

    _check_size(image.width, image.height, name)
    try:
        return _as_rgb(module, ImageOps.exif_transpose(image))
    except Exception as error:  # as above
        raise ImageError(f"{name} cannot be read as an image: {error}") from error


def _as_rgb(module: Any, image: Any) -> Any:
    if image.mode.startswith("I"):  # 16-bit grey, also where Pillow reads it into 32 bits
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode} with values beyond 16 bits has no colours")
        return module.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("mode F has no colours: scale it to uint8 first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = module.new("RGBA", image.size, "white")
        return module.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")  # a copy, also of what is RGB: decoded here, errors and all
