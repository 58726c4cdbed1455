"""A part that a bundle names by reference: given to the engine, or opened when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

from recengine._errors import BundleError

Part = TypeVar("Part")
DESCRIBED = ("class", "digest", "reference")


@dataclass(frozen=True)
class Slot(Generic[Part]):
    """An encoder or a ranker, or what is needed to open it; a kind says which.

    Attributes
    ----------
    reference : dict or None
        What a bundle keeps: ``{"class", "digest", "reference"}`` and what a kind adds; None
        without the part.
    """

    name: ClassVar[str]
    called: ClassVar[str]
    own: ClassVar[str]  # the class that a bundle can open by itself, of `recengine.encoders`
    reference: Mapping[str, Any] | None = None
    _opened: list[Part] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def _holding(cls, part: Any, **facts: Any) -> Self:
        """Return the slot of a part that was checked, with facts beside its reference."""
        kind, reference = type(part).__name__, getattr(part, "reference", None)
        described = {
            "class": kind,
            "digest": part.digest,
            "reference": reference() if kind == cls.own and callable(reference) else None,
        }
        return cls(described | facts, [part])

    def checked(self, part: Any) -> None:
        """Refuse what is no such part."""
        raise NotImplementedError

    def given(self, part: Part) -> Self:
        """Return the slot with an opened part, refusing one that would answer otherwise."""
        if self.reference is None:
            raise ValueError(f"{self.name} must be None: this engine was saved without one")
        self.checked(part)
        self._check_digest(part, ValueError)
        facts = {key: fact for key, fact in self.reference.items() if key not in DESCRIBED}
        return self._holding(part, **facts)

    def get(self, purpose: str) -> Part:
        """Return the part, opening it if need be; `purpose` begins the message if it cannot be."""
        if self._opened:
            return self._opened[0]
        if self.reference is None:
            raise ValueError(f"{purpose} needs a {self.called}: build the engine with {self.name}=")
        if self.reference["reference"] is None:
            raise ValueError(
                f"{purpose} needs the {self.name} {self.reference['class']}, which a bundle cannot "
                f"open by itself: pass it to Engine.load(path, {self.name}=)"
            )
        from recengine import encoders

        part: Part = getattr(encoders, self.own).from_reference(self.reference["reference"])
        self._check_digest(part, BundleError)
        self._opened.append(part)  # two threads may both open one; the first serves
        return self._opened[0]

    def _check_digest(self, part: Any, error: type[Exception]) -> None:
        wanted = (self.reference or {})["digest"]
        if part.digest != wanted:
            raise error(
                f"{self.name} must have the digest {wanted}, as when the engine was saved, "
                f"got {part.digest}"
            )
