"""The engine's text encoder: given, or named by a reference and opened when first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Protocol

import numpy as np

from recengine._errors import BundleError
from recengine._types import Float32Array
from recengine._validation import as_matrix

_OWN = "TextEncoder"


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
class EncoderSlot:
    """An encoder, or what is needed to open it.

    Attributes
    ----------
    reference : dict or None
        What a bundle keeps: ``{"class", "digest", "dim", "reference"}``; None without an encoder.
    """

    reference: Mapping[str, Any] | None = None
    _opened: list[Encoder] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, encoder: Encoder, dim: int) -> EncoderSlot:
        """Return the slot of an encoder whose vectors must have `dim` components."""
        for name in ("encode_query", "encode"):
            if not callable(getattr(encoder, name, None)):
                raise TypeError(f"encoder must have {name}(), got {type(encoder).__name__}")
        if encoder.dim != dim:
            raise ValueError(f"encoder must have content's dim {dim}, got {encoder.dim}")
        kind = type(encoder).__name__
        reference = getattr(encoder, "reference", None)
        described = {
            "class": kind,
            "digest": encoder.digest,
            "dim": dim,
            "reference": reference() if kind == _OWN and callable(reference) else None,
        }
        return cls(described, [encoder])

    def given(self, encoder: Encoder) -> EncoderSlot:
        """Return the slot with an opened encoder, refusing one that made other vectors."""
        if self.reference is None:
            raise ValueError("encoder must be None: this engine was saved without one")
        if encoder.digest != self.reference["digest"]:
            raise ValueError(
                f"encoder must have the digest {self.reference['digest']}, as the content vectors "
                f"were made with it, got {encoder.digest}"
            )
        return EncoderSlot.of(encoder, self.reference["dim"])

    def get(self, purpose: str) -> Encoder:
        """Return the encoder, opening it if need be; `purpose` begins the message without one."""
        if self._opened:
            return self._opened[0]
        if self.reference is None:
            raise ValueError(f"{purpose} needs a text encoder: build the engine with encoder=")
        if self.reference["reference"] is None:
            raise ValueError(
                f"{purpose} needs the encoder {self.reference['class']}, which a bundle cannot "
                "open by itself: pass it to Engine.load(path, encoder=)"
            )
        from recengine.encoders import TextEncoder

        encoder: Encoder = TextEncoder.from_reference(self.reference["reference"])
        if encoder.digest != self.reference["digest"]:
            raise BundleError(
                f"the encoder must have the digest {self.reference['digest']}, as when the "
                f"engine was saved, got {encoder.digest}"
            )
        self._opened.append(encoder)  # two threads may both open one; the first serves
        return self._opened[0]

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
