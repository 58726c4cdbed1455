"""How an encoder is found again: paths, digests and options, as JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from recengine._errors import BundleError
from recengine.encoders.folder import TextOptions, find_files, resolve
from recengine.runtime import check_digest, file_digest


@dataclass(frozen=True)
class Reference:
    """What kinds of encoders have in common: strings, one field of options, and how they travel.

    A kind adds its own fields: paths, their digests in fields that end in ``_digest``, `options`.

    Attributes
    ----------
    source : str
        The fetched name it was opened by; empty for plain paths.
    """

    kind: ClassVar[str]
    options_type: ClassVar[type[Any]]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 over all that makes the vectors: files and options, not where they lie."""
        fields = asdict(self)
        digests = [value for name, value in fields.items() if name.endswith("_digest")]
        options = {name: value for name, value in fields["options"].items() if value is not None}
        made_of = (*digests, options)
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, reference: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            If it is not that.
        """
        fields = dict(reference)
        try:
            if fields.pop("kind") != cls.kind:
                raise BundleError(f"kind must be {cls.kind!r}, got {reference['kind']!r}")
            options = cls.options_type(**fields.pop("options"))
            if wrong := [name for name, value in fields.items() if not isinstance(value, str)]:
                raise TypeError(f"{wrong[0]} must be a str")
            return cls(**fields | {"options": options})
        except (KeyError, TypeError) as error:
            raise BundleError(f"reference is no {cls.kind} encoder's: {error!r}") from error


@dataclass(frozen=True)
class TextReference(Reference):
    """The files and options of a `TextEncoder`.

    Attributes
    ----------
    model, tokenizer : str
        Absolute paths.
    model_digest, tokenizer_digest : str
        SHA-256, hexadecimal.
    options : TextOptions
    """

    kind: ClassVar[str] = "text"
    options_type: ClassVar[type[Any]] = TextOptions
    model: str
    model_digest: str
    tokenizer: str
    tokenizer_digest: str
    options: TextOptions

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
