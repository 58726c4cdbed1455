"""How images are framed for a graph: from its input and the caller's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recengine._validation import as_choice, as_count, as_real
from recengine.encoders.pixels import RESAMPLES, Framing
from recengine.runtime import Port

RESCALE = 1 / 255
SCALING = {"scale": RESCALE, "mean": (0.0,) * 3, "std": (1.0,) * 3}  # what holds when omitted


def is_channels_first(port: Port) -> bool:
    """Tell whether the input of an image graph is (n, 3, height, width), or refuse it.

    Channels lie last where only the last axis is 3, else second: what exporters write.
    """
    kinds = ("uint8", "float32", "float16", "float64")
    if len(port.shape) != 4 or port.dtype is None or port.dtype.name not in kinds:
        raise ValueError(f"model must take uint8 or float images, 4-D, it takes {port}")
    second, last = port.shape[1], port.shape[3]
    if last == 3 and second != 3:
        return False
    if second == 3 or not isinstance(second, int):
        return True
    raise ValueError(f"model must have an axis of 3 colours, second or last, it takes {port}")


def framing(
    port: Port,
    *,
    size: Any = None,
    crop: Any = None,
    resample: Any = "bicubic",
    scale: Any = None,
    mean: Any = None,
    std: Any = None,
) -> Framing:
    """Return the framing that the arguments of `ImageEncoder` ask for, checked against `port`."""
    taken = _graph_size(port)
    if size is None and taken is None and crop is None:
        raise ValueError(f"size must be given: the graph leaves it open, it takes {port}")
    piece = _pair("crop", crop) if crop is not None else taken
    if piece is None:
        piece = _pair("size", size)
    if taken is not None and piece != taken:
        raise ValueError(f"crop must be {taken}, what the graph takes, got {piece}")
    if size is None:
        resize: int | tuple[int, int] = max(piece)
    else:
        resize = _pair("size", size) if isinstance(size, Sequence) else as_count("size", size)
    smallest = resize if isinstance(resize, tuple) else (resize, resize)
    if smallest[0] < piece[0] or smallest[1] < piece[1]:
        raise ValueError(f"size must be at least {piece}, what is cropped of it, got {size}")
    as_choice("resample", resample, tuple(RESAMPLES))
    scaling = {"scale": scale, "mean": mean, "std": std}
    given = [name for name, value in scaling.items() if value is not None]
    if given and str(port.dtype) == "uint8":
        raise ValueError(f"{given[0]} must be omitted: the graph takes uint8 and scales itself")
    asked = SCALING | {name: scaling[name] for name in given}
    scale = as_real("scale", asked["scale"], minimum=0, exclusive=True)
    mean, std = _colours("mean", asked["mean"]), _colours("std", asked["std"])
    if min(std) <= 0:
        raise ValueError(f"std must be > 0, got {std}")
    return Framing(resize, piece, resample, scale, mean, std)


def _graph_size(port: Port) -> tuple[int, int] | None:
    sides = port.shape[2:] if is_channels_first(port) else port.shape[1:3]
    height, width = sides
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be an integer or (height, width), got {value!r}")
    return as_count(name, pair[0], minimum=1), as_count(name, pair[1], minimum=1)


def _colours(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or len(value) != 3:
        raise ValueError(f"{name} must be 3 numbers, one a colour, got {value!r}")
    return tuple(as_real(name, number) for number in value)
