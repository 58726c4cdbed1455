"""The engine's text encoder: what it must be, and how the engine asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, Protocol

import numpy as np

from recengine._types import Float32Array
from recengine._validation import as_matrix
from recengine.engine.slot import Slot


class Encoder(Protocol):
    """What the engine needs of an encoder; `recengine.TextEncoder` is one."""

    @property
    def dim(self) -> int:
        """Components of a vector."""

    @property
    def digest(self) -> str:
        """What names the vectors: the same digest, the same vectors."""

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Return the vectors (n, dim) float32 of items described by these texts."""

    def encode_query(self, text: str) -> Float32Array:
        """Return the vector (dim,) float32 of what somebody looks for."""


@dataclass(frozen=True)
class EncoderSlot(Slot[Encoder]):
    """An encoder, or what is needed to open it; its reference also holds ``dim``."""

    name: ClassVar[str] = "encoder"
    called: ClassVar[str] = "text encoder"
    own: ClassVar[str] = "TextEncoder"

    @classmethod
    def of(cls, encoder: Encoder, dim: int) -> EncoderSlot:
        """Return the slot of an encoder whose vectors must have `dim` components."""
        cls({"dim": dim}).checked(encoder)
        return cls._holding(encoder, dim=dim)

    def checked(self, part: Any) -> None:
        """Refuse what does not encode, or vectors of another length."""
        for name in ("encode_query", "encode"):
            if not callable(getattr(part, name, None)):
                raise TypeError(f"encoder must have {name}(), got {type(part).__name__}")
        dim = (self.reference or {})["dim"]
        if part.dim != dim:
            raise ValueError(f"encoder must have content's dim {dim}, got {part.dim}")

    def encode_query(self, text: str, timeout: float | None) -> Float32Array:
        """Return the query (1, dim) of what somebody looks for.

        `timeout`, in seconds, ends an encoder that takes one (`TextEncoder` does); any other is
        waited for.
        """
        encoder = self.get("search")
        limits: dict[str, float] = {}
        if timeout is not None and "timeout" in signature(encoder.encode_query).parameters:
            limits["timeout"] = timeout
        vector = np.asarray(encoder.encode_query(text, **limits))
        query: Float32Array = as_matrix("encoded text", vector[None], dim=encoder.dim)
        return query

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Return content vectors of texts."""
        encoder = self.get("texts")
        return as_matrix("encoded texts", encoder.encode(texts), dim=encoder.dim, n_rows=len(texts))
