"""The last stage: a ranker that scores what retrieval found, and how an engine keeps one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from recengine._errors import BundleError
from recengine._types import Float32Array
from recengine.engine.attributes import Columns

_OWN = "OnnxRanker"


class Ranker(Protocol):
    """What the engine needs of a ranker; `recengine.OnnxRanker` is one."""

    @property
    def digest(self) -> str:
        """What names the scores: the same digest, the same scores."""

    @property
    def n_candidates(self) -> int:
        """How many items retrieval should find for it."""

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """The columns it reads, by "user", "item" and "context"."""

    def score(
        self,
        items: Mapping[str, Any],
        *,
        user: Mapping[str, Any],
        context: Mapping[str, Any],
        scores: Float32Array,
        timeout: float | None,
    ) -> Float32Array:
        """Return a score for each candidate (n,), or raise `DeadlineError`."""


@dataclass(frozen=True)
class RankerSlot:
    """A ranker, or what is needed to open it.

    Attributes
    ----------
    reference : dict or None
        What a bundle keeps: ``{"class", "digest", "reference"}``; None without a ranker.
    """

    reference: Mapping[str, Any] | None = None
    _opened: list[Ranker] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, ranker: Ranker) -> RankerSlot:
        """Return the slot of a ranker."""
        for name in ("score", "columns", "n_candidates", "digest"):
            if not hasattr(ranker, name):
                raise TypeError(f"ranker must have {name}, got {type(ranker).__name__}")
        kind = type(ranker).__name__
        reference = getattr(ranker, "reference", None)
        described = {
            "class": kind,
            "digest": ranker.digest,
            "reference": reference() if kind == _OWN and callable(reference) else None,
        }
        return cls(described, [ranker])

    def given(self, ranker: Ranker) -> RankerSlot:
        """Return the slot with an opened ranker, refusing one that gives other scores."""
        if self.reference is None:
            raise ValueError("ranker must be None: this engine was saved without one")
        if ranker.digest != self.reference["digest"]:
            raise ValueError(
                f"ranker must have the digest {self.reference['digest']}, as when the engine was "
                f"saved, got {ranker.digest}"
            )
        return RankerSlot.of(ranker)

    def get(self) -> Ranker | None:
        """Return the ranker, opening it if need be; None without one."""
        if self.reference is None:
            return None
        if self._opened:
            return self._opened[0]
        if self.reference["reference"] is None:
            raise ValueError(
                f"a request needs the ranker {self.reference['class']}, which a bundle cannot open "
                "by itself: pass it to Engine.load(path, ranker=)"
            )
        from recengine.encoders import OnnxRanker

        ranker: Ranker = OnnxRanker.from_reference(self.reference["reference"])
        if ranker.digest != self.reference["digest"]:
            raise BundleError(
                f"the ranker must have the digest {self.reference['digest']}, as when the engine "
                f"was saved, got {ranker.digest}"
            )
        self._opened.append(ranker)  # two threads may both open one; the first serves
        return self._opened[0]

    @property
    def context(self) -> tuple[str, ...]:
        """The columns of a request's context that it reads."""
        ranker = self.get()
        return () if ranker is None else tuple(ranker.columns.get("context", ()))


def check_columns(slot: RankerSlot, items: Columns, users: Columns) -> None:
    """Refuse a ranker that reads attributes which an engine does not have."""
    ranker = slot.get()
    if ranker is None:
        return
    for name, role, columns in (("items", "item", items), ("users", "user", users)):
        lacking = [each for each in ranker.columns.get(role, ()) if each not in columns]
        if lacking:
            raise ValueError(
                f"{name} must have the columns that the ranker reads, lacking {lacking}, "
                f"got {list(columns)}"
            )
