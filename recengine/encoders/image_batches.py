"""Images, read batch by batch, as the pixels that a graph takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._errors import ImageError
from recengine.encoders.pixels import Framing, load_pillow, upright


class PixelBatch(NamedTuple):
    """Images read at once: the place of the first, and the crops of those that could be read."""

    start: int
    images: list[Any]
    kept: list[int]
    pixels: list[NDArray[np.uint8]]


def pixel_batches(
    images: Iterable[Any],
    framing: Framing,
    size: int,
    skipped: dict[int, str] | None,
    check: Callable[[], object],
) -> Iterator[PixelBatch]:
    """Read images, `size` at a time and no further ahead.

    Parameters
    ----------
    images : iterable
        As of `ImageEncoder.encode`.
    framing : Framing
    size : int
    skipped : dict of int to str, or None
        Is told why an image cannot be read; None raises instead.
    check : function
        Called before each image is read.
    """
    iterator, start = iter(_checked(images)), 0
    while batch := list(islice(iterator, size)):
        kept, pixels = [], []
        for offset, image in enumerate(batch):
            check()
            try:
                picture = upright(image, f"images[{start + offset}]")
            except ImageError as error:
                if skipped is None:
                    raise
                skipped[start + offset] = str(error)
                continue
            kept.append(offset)
            pixels.append(framing.pixels(picture))
        yield PixelBatch(start, batch, kept, pixels)
        start += len(batch)


def _checked(images: Iterable[Any]) -> Iterable[Any]:
    picture = isinstance(images, str | bytes | bytearray | os.PathLike | load_pillow().Image)
    if picture or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise TypeError(
            f"images must be a sequence of images, got one {type(images).__name__}: "
            "pass [image], or use encode_query"
        )
    return images
