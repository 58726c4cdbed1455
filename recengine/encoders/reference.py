"""How a text encoder is found again: paths, digests and options, as JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recengine._errors import BundleError
from recengine.encoders.folder import TextOptions, find_files, resolve
from recengine.runtime import check_digest, file_digest

KIND = "text"


@dataclass(frozen=True)
class TextReference:
    """The files and options of a `TextEncoder`.

    Attributes
    ----------
    source : str
        The fetched name it was opened by; empty for plain paths.
    model, tokenizer : str
        Absolute paths.
    model_digest, tokenizer_digest : str
        SHA-256, hexadecimal.
    options : TextOptions
    """

    source: str
    model: str
    model_digest: str
    tokenizer: str
    tokenizer_digest: str
    options: TextOptions

    @property
    def digest(self) -> str:
        """SHA-256 over all that makes the vectors: files and options, not where they lie."""
        made_of = (self.model_digest, self.tokenizer_digest, asdict(self.options))
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_json(cls, reference: Mapping[str, Any]) -> TextReference:
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            If it is not that.
        """
        fields = dict(reference)
        try:
            if fields.pop("kind") != KIND:
                raise BundleError(f"kind must be {KIND!r}, got {reference['kind']!r}")
            options = TextOptions(**fields.pop("options"))
            if wrong := [name for name, value in fields.items() if not isinstance(value, str)]:
                raise TypeError(f"{wrong[0]} must be a str")
            return cls(**fields, options=options)
        except (KeyError, TypeError) as error:
            raise BundleError(f"reference is not one of a text encoder: {error!r}") from error

    def files(self) -> tuple[Path, Path]:
        """Return the paths of (model, tokenizer), there and with the right content.

        Raises
        ------
        BundleError
            If a digest differs.
        FileNotFoundError, FetchError
            If a file is gone, and cannot be fetched by the encoder's name.
        """
        model, tokenizer = Path(self.model), Path(self.tokenizer)
        if self.source and not (model.is_file() and tokenizer.is_file()):
            model, tokenizer = find_files(resolve(self.source)[0])
        check_digest(model, self.model_digest, file_digest(model))
        check_digest(tokenizer, self.tokenizer_digest, file_digest(tokenizer))
        return model, tokenizer
