"""The engine's ranker: what it must be, and which columns it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from recengine._types import Float32Array
from recengine.engine.attributes import Columns
from recengine.engine.slot import Slot


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
class RankerSlot(Slot[Ranker]):
    """A ranker, or what is needed to open it."""

    name: ClassVar[str] = "ranker"
    called: ClassVar[str] = "ranker"
    own: ClassVar[str] = "OnnxRanker"

    @classmethod
    def of(cls, ranker: Ranker) -> RankerSlot:
        """Return the slot of a ranker."""
        cls().checked(ranker)
        return cls._holding(ranker)

    def checked(self, part: Any) -> None:
        """Refuse what does not score."""
        for name in ("score", "columns", "n_candidates", "digest"):
            if not hasattr(part, name):
                raise TypeError(f"ranker must have {name}, got {type(part).__name__}")

    def there(self) -> Ranker | None:
        """Return the ranker, opening it if need be; None without one."""
        return None if self.reference is None else self.get("a request")

    @property
    def context(self) -> tuple[str, ...]:
        """The columns of a request's context that it reads."""
        ranker = self.there()
        return () if ranker is None else tuple(ranker.columns.get("context", ()))


def check_columns(slot: RankerSlot, items: Columns, users: Columns) -> None:
    """Refuse a ranker that reads attributes which an engine does not have."""
    ranker = slot.there()
    if ranker is None:
        return
    for name, role, columns in (("items", "item", items), ("users", "user", users)):
        lacking = [each for each in ranker.columns.get(role, ()) if each not in columns]
        if lacking:
            raise ValueError(
                f"{name} must have the columns that the ranker reads, lacking {lacking}, "
                f"got {list(columns)}"
            )
