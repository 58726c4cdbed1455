"""An audio model's folder: which files it has, how it hears, and how it is found again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from recengine._errors import BundleError
from recengine._validation import as_count, as_real
from recengine.encoders.folder import MODELS, resolve
from recengine.encoders.reference import Reference
from recengine.runtime import check_digest, file_digest

CONFIG, FRONT_END = "audio.json", "front_end.onnx"
OPEN_WAKE_WORD = ("embedding_model.onnx", "melspectrogram.onnx")


@dataclass(frozen=True)
class AudioOptions:
    """What, beside its graphs, makes the vectors of an `AudioEncoder`; see there."""

    window: int
    hop: int
    sample_rate: int = 16_000
    amplitude: float = 1.0
    feature_scale: float = 1.0
    feature_offset: float = 0.0
    normalize: bool = True
    output: str | None = None

    def checked(self) -> AudioOptions:
        """Return these options, every number of its type and in its range."""
        as_count("sample_rate", self.sample_rate, minimum=1)
        as_count("window", self.window, minimum=1)
        as_count("hop", self.hop, minimum=1)
        if self.hop > self.window:
            raise ValueError(f"hop must be <= window, {self.window}, got {self.hop}")
        as_real("amplitude", self.amplitude, minimum=0.0, exclusive=True)
        as_real("feature_scale", self.feature_scale, minimum=0.0, exclusive=True)
        as_real("feature_offset", self.feature_offset)
        if not isinstance(self.normalize, bool):
            raise TypeError(f"normalize must be a bool, got {type(self.normalize).__name__}")
        if not isinstance(self.output, str | None):
            raise TypeError(f"output must be a str, got {type(self.output).__name__}")
        return self


# 76 frames of the front end (512 samples, hop 160) a window, 8 of them a hop. Its samples are those
# of 16-bit sound, and its decibels become what the model was trained on: openWakeWord, utils.py,
# `AudioFeatures._get_melspectrogram`.
SPEECH = AudioOptions(
    window=75 * 160 + 512,
    hop=8 * 160,
    amplitude=2.0**15,
    feature_scale=0.1,
    feature_offset=2.0,
)


def find_audio_files(folder: Path) -> tuple[Path, Path | None]:
    """Return the paths of (model, front end or None) in `folder`."""
    model, front_end = (folder / name for name in OPEN_WAKE_WORD)
    if model.is_file() and front_end.is_file():
        return model, front_end
    found = next((folder / name for name in MODELS if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder} must hold {' or '.join(MODELS)}, or {' and '.join(OPEN_WAKE_WORD)}"
        )
    beside = found.parent / FRONT_END
    return found, beside if beside.is_file() else None


def read_audio_options(folder: Path) -> AudioOptions:
    """Read ``audio.json`` in `folder`; a folder of openWakeWord needs none."""
    path = folder / CONFIG
    if not path.is_file():
        if all((folder / name).is_file() for name in OPEN_WAKE_WORD):
            return SPEECH
        raise FileNotFoundError(f"{folder} must hold {CONFIG}, which says window, hop and rate")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return AudioOptions(**fields).checked()
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error


@dataclass(frozen=True)
class AudioReference(Reference):
    """The files and options of an `AudioEncoder`.

    Attributes
    ----------
    model, front_end : str
        Absolute paths; `front_end` is empty where there is none.
    model_digest, front_end_digest : str
        SHA-256, hexadecimal.
    options : AudioOptions
    """

    kind: ClassVar[str] = "audio"
    options_type: ClassVar[type[Any]] = AudioOptions
    model: str
    model_digest: str
    front_end: str
    front_end_digest: str
    options: AudioOptions

    def files(self) -> tuple[Path, Path | None]:
        """Return the paths of (model, front end or None), there and with the right content.

        Raises
        ------
        BundleError
            If a digest differs.
        FileNotFoundError, FetchError
            If a file is gone, and cannot be fetched by the encoder's name.
        """
        model, front_end = Path(self.model), Path(self.front_end) if self.front_end else None
        found = model.is_file() and (front_end is None or front_end.is_file())
        if self.source and not found:
            model, front_end = find_audio_files(resolve(self.source)[0])
        check_digest(model, self.model_digest, file_digest(model))
        if front_end is not None:
            check_digest(front_end, self.front_end_digest, file_digest(front_end))
        return model, front_end
