"""How images are framed for a graph: from its input, the caller's words or a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recengine._validation import as_choice, as_count, as_real
from recengine.encoders.folder import MODELS, read_json
from recengine.encoders.pixels import RESAMPLES, Framing
from recengine.runtime import Port

REFUSED = ("crop_pct", "do_pad", "rescale_offset")
RESCALE = 1 / 255


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
    size: Any,
    crop: Any,
    resample: Any,
    scale: Any,
    mean: Any,
    std: Any,
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
    scale = RESCALE if scale is None else as_real("scale", scale, minimum=0, exclusive=True)
    mean = (0.0,) * 3 if mean is None else _colours("mean", mean)
    std = (1.0,) * 3 if std is None else _colours("std", std)
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


def find_model(folder: Path) -> Path:
    """Return the path of the model in `folder`."""
    model = next((folder / name for name in MODELS if (folder / name).is_file()), None)
    if model is None:
        raise FileNotFoundError(f"{folder} must hold {' or '.join(MODELS)}")
    return model


def read_arguments(folder: Path) -> dict[str, Any]:
    """Return the arguments of `framing` that ``preprocessor_config.json`` in `folder` states.

    Its keys are those of Hugging Face image processors; without the file all is as the graph says.

    Raises
    ------
    ValueError
        If it asks for a step that recengine does not have.
    BundleError
        If it is damaged.
    """
    path = folder / "preprocessor_config.json"
    config: dict[str, Any] = read_json(path, {})
    if not config:
        return {}
    for key in REFUSED:
        if config.get(key):
            raise ValueError(f"{path} asks for {key}, which recengine does not have")
    if not config.get("do_resize", True):
        raise ValueError(f"{path} asks for no resizing; images of one size are needed")
    found: dict[str, Any] = {}
    crops = config.get("do_center_crop", "crop_size" in config)
    if (size := config.get("size")) is not None:
        found["size"] = _size(path, size, whole=not crops)
    if crops and (crop := config.get("crop_size")) is not None:
        found["crop"] = _size(path, crop, whole=True)
    if "resample" in config:
        names = {number: name for name, number in RESAMPLES.items()}
        found["resample"] = names.get(config["resample"], config["resample"])
    rescales, normalizes = config.get("do_rescale", True), config.get("do_normalize", True)
    if rescales:
        found["scale"] = config.get("rescale_factor", RESCALE)
    elif normalizes:
        found["scale"] = 1.0
    if normalizes:
        found |= {name: config.get(f"image_{name}") for name in ("mean", "std")}
    return found


def _size(path: Path, value: Any, *, whole: bool) -> Any:
    """Return an int (the shorter side) or (height, width)."""
    if isinstance(value, dict):
        if set(value) == {"shortest_edge"}:
            return value["shortest_edge"]
        if set(value) == {"height", "width"}:
            return value["height"], value["width"]
        raise ValueError(f"{path} must give sizes by shortest_edge or height and width, {value}")
    return (value, value) if whole else value
