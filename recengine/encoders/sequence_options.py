"""What makes the vectors of a `SequenceEncoder`: told by the caller, or by the graph itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from recengine._errors import BundleError
from recengine._validation import as_choice, as_count
from recengine.encoders.reference import Reference
from recengine.runtime import Session, check_digest, file_digest

KEY = "recengine.sequence"  # of metadata_props
PAD_TO = ("max_length", "longest")
ON_UNKNOWN = ("raise", "skip")


@dataclass(frozen=True)
class SequenceOptions:
    """What, beside the graph, makes the vectors of a `SequenceEncoder`; see there."""

    max_length: int
    n_items: int
    padding: int
    first_item: int
    pad_to: str = "max_length"
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    normalize: bool = False
    on_unknown: str = "raise"

    def __post_init__(self) -> None:
        as_count("max_length", self.max_length, minimum=1)
        as_count("n_items", self.n_items, minimum=1)
        as_count("padding", self.padding, minimum=-(2**31))
        as_count("first_item", self.first_item)
        as_choice("pad_to", self.pad_to, PAD_TO)
        for name, kind in (("inputs", Mapping), ("output", str), ("normalize", bool)):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
        as_choice("on_unknown", self.on_unknown, ON_UNKNOWN)
        last = self.first_item + self.n_items - 1
        if self.first_item <= self.padding <= last:
            raise ValueError(
                f"padding must be no item, whose numbers are {self.first_item} ... {last}, "
                f"got {self.padding}"
            )


TOLD = ("max_length", "n_items", "padding", "first_item", "pad_to", "inputs", "output", "normalize")


def settled(session: Session, n_known: int | None, given: Mapping[str, Any]) -> SequenceOptions:
    """Return the options: what the caller gives goes before what the graph says.

    Parameters
    ----------
    session : Session
    n_known : int or None
        Items that the caller's id map knows.
    given : mapping
        Options by name; None where the caller says nothing.
    """
    told = metadata_options(session)
    told.pop("items", None)
    options = told | {name: value for name, value in given.items() if value is not None}
    if n_known is not None:
        options.setdefault("n_items", n_known)
    if "max_length" not in options and (length := fixed_length(session)):
        options["max_length"] = length
    for name, what in (
        ("max_length", "the events of a history that the graph reads"),
        ("padding", "the number at places without an event"),
        ("n_items", "the items that the graph knows, or items= an IdMap of them"),
    ):
        if name not in options:
            raise ValueError(
                f"{name} must be given ({what}): the metadata of {session.path.name} says nothing"
            )
    options.setdefault("first_item", 1 if options["padding"] == 0 else 0)
    return SequenceOptions(**options)


def metadata_options(session: Session) -> dict[str, Any]:
    """Return what the graph says of itself under `KEY`: options, and the digest of its items.

    Raises
    ------
    BundleError
        If that is no JSON object, or has names that are no options.
    """
    written = session.metadata.get(KEY, "{}")
    try:
        told = json.loads(written)
    except ValueError as error:
        raise BundleError(f"{session.path} says {KEY} in no JSON: {error}") from error
    if not isinstance(told, dict):
        raise BundleError(f"{session.path} must say {KEY} as a JSON object, got {written}")
    if unknown := sorted(set(told) - {*TOLD, "items"}):
        raise BundleError(
            f"{session.path} says {unknown[0]} under {KEY}; known are {', '.join(TOLD)} and items"
        )
    return told


def fixed_length(session: Session) -> int:
    """Return the length that every 2-D input is fixed to; 0 where it is free."""
    lengths = {port.shape[1] for port in session.inputs if len(port.shape) == 2}
    numbers = [length for length in lengths if isinstance(length, int)]
    return numbers[0] if numbers else 0


@dataclass(frozen=True)
class SequenceReference(Reference):
    """The file and options of a `SequenceEncoder`.

    Attributes
    ----------
    model : str
        Absolute path.
    model_digest : str
        SHA-256, hexadecimal.
    items_digest : str
        Of the ids that histories are made of; empty where those are indices.
    options : SequenceOptions
    """

    kind: ClassVar[str] = "sequence"
    options_type: ClassVar[type[Any]] = SequenceOptions
    model: str
    model_digest: str
    items_digest: str
    options: SequenceOptions

    def file(self) -> Path:
        """Return the path of the model, there and with the right content.

        Raises
        ------
        BundleError
            If the digest differs.
        FileNotFoundError
            If it is gone.
        """
        model = Path(self.model)
        check_digest(model, self.model_digest, file_digest(model))
        return model
