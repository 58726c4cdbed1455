"""What, beside its files, makes the scores of an `OnnxRanker`; and how one is found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from recengine._validation import as_count, as_real, check_text
from recengine.encoders.ranker_columns import as_column
from recengine.encoders.reference import Reference
from recengine.runtime import check_digest, file_digest


@dataclass(frozen=True)
class RankerOptions:
    """The options of an `OnnxRanker`; see there. They are checked and copied."""

    pair: Sequence[str] = ("context.query", "item.text")
    inputs: Mapping[str, str] = field(default_factory=dict)
    vocabularies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    output: str | None = None
    max_length: int = 256
    n_candidates: int = 200

    def __post_init__(self) -> None:
        """Refuse what is unfit; keep plain JSON values."""
        words = _mapping("vocabularies", self.vocabularies)
        numbers = _mapping("missing", self.missing)
        kept = {
            "pair": _pair(self.pair),
            "inputs": {
                name: str(as_column(f"inputs[{name!r}]", column))
                for name, column in _mapping("inputs", self.inputs).items()
            },
            "vocabularies": {
                name: _words(f"vocabularies[{name!r}]", each) for name, each in words.items()
            },
            "missing": {
                name: as_real(f"missing[{name!r}]", number) for name, number in numbers.items()
            },
            "max_length": as_count("max_length", self.max_length, minimum=1),
            "n_candidates": as_count("n_candidates", self.n_candidates, minimum=1),
        }
        if self.output is not None and not isinstance(self.output, str):
            raise TypeError(f"output must be a str, got {type(self.output).__name__}")
        for name, value in kept.items():
            object.__setattr__(self, name, value)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping of str, got {type(value).__name__}")
    return value


def _pair(value: Any) -> tuple[str, str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"pair must be two columns, got {value!r}")
    columns = [as_column(f"pair[{number}]", each) for number, each in enumerate(value)]
    if all(column.role != "item" for column in columns):
        raise ValueError(f"pair must have a column of the items, got {value!r}")
    if any(column.role == "candidate" for column in columns):
        raise ValueError(f"pair must be columns of texts, got {value!r}")
    return str(columns[0]), str(columns[1])


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of str, got {type(value).__name__}")
    words = list(value)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise TypeError(f"{name} must hold str, got {wrong[0]!r}")
    check_text(name, words)
    if len(set(words)) != len(words):
        raise ValueError(f"{name} must not repeat a str")
    return words


@dataclass(frozen=True)
class RankerReference(Reference):
    """The files and options of an `OnnxRanker`.

    Attributes
    ----------
    model, tokenizer : str
        Absolute paths; no tokenizer is empty.
    model_digest, tokenizer_digest : str
        SHA-256, hexadecimal.
    options : RankerOptions
    """

    kind: ClassVar[str] = "ranker"
    options_type: ClassVar[type[Any]] = RankerOptions
    model: str
    model_digest: str
    tokenizer: str
    tokenizer_digest: str
    options: RankerOptions

    def files(self) -> tuple[Path, Path | None]:
        """Return the paths of (model, tokenizer), there and with the right content.

        Raises
        ------
        BundleError
            If a digest differs.
        FileNotFoundError
            If a file is gone.
        """
        model = Path(self.model)
        check_digest(model, self.model_digest, file_digest(model))
        if not self.tokenizer:
            return model, None
        tokenizer = Path(self.tokenizer)
        check_digest(tokenizer, self.tokenizer_digest, file_digest(tokenizer))
        return model, tokenizer
