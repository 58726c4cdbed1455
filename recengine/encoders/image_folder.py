"""An image model's folder: its model, how it sees, and how it is found again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recengine.encoders import efficientnet
from recengine.encoders.folder import MODELS, read_json, resolve
from recengine.encoders.framing import RESCALE, SCALING
from recengine.encoders.pixels import RESAMPLES, Framing
from recengine.encoders.reference import Reference
from recengine.runtime import check_digest, file_digest

REFUSED = ("crop_pct", "do_pad", "rescale_offset")


@dataclass(frozen=True)
class ImageOptions(Framing):
    """What, beside its graph, makes the vectors of an `ImageEncoder`; see there.

    Attributes
    ----------
    output : str or None
    normalize : bool
    """

    output: str | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "mean", "std"):  # JSON has lists
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    def asked(self) -> dict[str, Any]:
        """Return the arguments of `framing` that give these options."""
        scaling = {name: getattr(self, name) for name in SCALING}
        given = {name: value for name, value in scaling.items() if value != SCALING[name]}
        return {"size": self.resize, "crop": self.crop, "resample": self.resample, **given}


@dataclass(frozen=True)
class ImageReference(Reference):
    """The file and options of an `ImageEncoder`.

    Attributes
    ----------
    model : str
        Absolute path.
    model_digest : str
        SHA-256, hexadecimal.
    options : ImageOptions
    """

    kind: ClassVar[str] = "image"
    options_type: ClassVar[type[Any]] = ImageOptions
    model: str
    model_digest: str
    options: ImageOptions

    def file(self) -> Path:
        """Return the path of the model, there and with the right content.

        Raises
        ------
        BundleError
            If its digest differs.
        FileNotFoundError, FetchError
            If it is gone, and cannot be fetched by the encoder's name.
        """
        model = Path(self.model)
        if self.source and not model.is_file():
            model = find_model(open_folder(self.source)[0])
        check_digest(model, self.model_digest, file_digest(model))
        return model


def open_folder(source: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return (folder, fetched name or "") as `resolve` does, with the ONNX graph made in it."""
    folder, name = resolve(source)
    if name == efficientnet.NAME:
        efficientnet.convert(folder)
    return folder, name


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
