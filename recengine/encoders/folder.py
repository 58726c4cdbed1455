"""A model folder as sentence-transformers writes it: which files it has, and what they ask for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recengine._errors import BundleError

MODELS = ("model.onnx", "onnx/model.onnx")
POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class TextOptions:
    """What, beside the two files, makes the vectors of a `TextEncoder`; see there."""

    pooling: str = "mean"
    normalize: bool = True
    max_length: int = 256
    query_prompt: str = ""
    document_prompt: str = ""
    output: str | None = None


def resolve(source: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return (folder, fetched name or "") of a folder or of a model known by name.

    Raises
    ------
    FileNotFoundError
        If `source` is neither.
    FetchError
        If the model can be neither found in the cache nor downloaded.
    """
    from recengine.data import sources

    folder = Path(source)
    if folder.is_dir():
        return folder.absolute(), ""
    if source in sources.NAMES:
        return sources.fetch(str(source)), str(source)
    raise FileNotFoundError(
        f"source must be a folder or one of {', '.join(sources.NAMES)}, got {str(source)!r}"
    )


def find_files(folder: Path) -> tuple[Path, Path]:
    """Return the paths of (model, tokenizer) in `folder`."""
    model = next((folder / name for name in MODELS if (folder / name).is_file()), None)
    if model is None:
        raise FileNotFoundError(f"{folder} must hold {' or '.join(MODELS)}")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise FileNotFoundError(f"{folder} must hold tokenizer.json")
    return model, tokenizer


def read_options(folder: Path) -> TextOptions:
    """Read pooling, normalisation, length and prompts from the configuration in `folder`.

    What it does not say is as in `TextOptions`. The file names and keys are those of
    sentence-transformers: ``modules.json``, its pooling module's ``config.json``,
    ``sentence_bert_config.json`` and ``config_sentence_transformers.json``.
    """
    default = TextOptions()
    modules = {module["type"].rpartition(".")[2]: module for module in _modules(folder)}
    if unknown := sorted(set(modules) - set(MODULES)):
        raise ValueError(f"{folder} uses the module {unknown[0]}; known are {', '.join(MODULES)}")
    pooling = default.pooling
    if "Pooling" in modules:
        pooling = _pooling(folder / modules["Pooling"]["path"] / "config.json")
    length = read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    config = read_json(folder / "config_sentence_transformers.json", {})
    prompts = config.get("prompts") or {}
    usual = prompts.get(config.get("default_prompt_name"), "")
    return TextOptions(
        pooling=pooling,
        normalize="Normalize" in modules if modules else default.normalize,
        max_length=default.max_length if length is None else length,
        query_prompt=prompts.get("query", usual),
        document_prompt=prompts.get("document", prompts.get("passage", usual)),
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(folder / "modules.json", [])
    return found


def _pooling(path: Path) -> str:
    config = read_json(path, {})
    asked = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(asked) != 1 or asked[0] not in POOLING_FLAGS:
        known = ", ".join(POOLING_FLAGS)
        raise ValueError(f"{path} must set exactly one of {known}, it sets {asked}")
    return POOLING_FLAGS[asked[0]]


def read_json(path: Path, default: Any) -> Any:
    """Return the JSON in `path`, of the type of `default`; `default` if there is no such file."""
    if not path.is_file():
        return default
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON or broken UTF-8
        raise BundleError(f"{path} is damaged: {error}") from error
    if not isinstance(value, type(default)):
        raise BundleError(f"{path} is damaged: it must hold a {type(default).__name__}")
    return value
