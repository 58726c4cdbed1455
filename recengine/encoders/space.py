"""`SharedSpace`: encoders of different modalities whose vectors may be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recengine._errors import BundleError
from recengine._types import Float32Array
from recengine._validation import check_finite
from recengine.encoders.catalogue import Catalogue
from recengine.encoders.contents import CatalogueEncoder, kind_of

KEY = "recengine.space"  # of metadata_props


class SharedSpace:
    """Encoders that were trained together, so that a text finds images, or a sound texts.

    Parameters
    ----------
    encoders : mapping of str to TextEncoder, ImageEncoder or AudioEncoder
        At least two, by modality; vectors of one dim.
    digests : mapping of str to str, optional
        The digest that each encoder must have, as `digests` told them when the space was tested.

    Attributes
    ----------
    encoders : dict of str to encoder
    dim : int

    Raises
    ------
    BundleError
        If the encoders do not share a space: their graphs name different ones, a digest is another
        one, or nothing says that they do.
    ValueError
        If there are fewer than two, their dims differ, or `digests` has other names.
    TypeError
        If one is no such encoder.

    Notes
    -----
    Two encoders of one dim have nothing in common unless they were trained to: the scores are then
    noise that no shape check finds. So the graphs say so in their ``metadata_props``, under
    ``recengine.space`` one tag that the training gave to all of them; or the caller says it by
    `digests`, and answers for it. `alignment` measures it.
    Immutable; may be used from many threads; travels by pickle as its encoders do.

    Examples
    --------
    >>> space = SharedSpace({"text": text, "image": image})  # doctest: +SKIP
    >>> photos = encode_catalogue(paths, image, "photos.rec")  # doctest: +SKIP
    >>> index = FlatIndex(photos.vectors, photos.ids)  # doctest: +SKIP
    >>> index.search(space.query("text", "a dog on a beach", photos), k=10)  # doctest: +SKIP
    """

    def __init__(
        self,
        encoders: Mapping[str, CatalogueEncoder],
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.encoders = dict(encoders)
        if len(self.encoders) < 2:
            raise ValueError(f"encoders must be at least two, got {len(self.encoders)}")
        for encoder in self.encoders.values():
            kind_of(encoder)
        dims = {name: encoder.dim for name, encoder in self.encoders.items()}
        if len(set(dims.values())) > 1:
            listed = ", ".join(f"{name} {dim}" for name, dim in dims.items())
            raise ValueError(f"encoders must have one dim, got {listed}")
        self.dim = next(iter(dims.values()))
        self._given = None if digests is None else dict(digests)
        if self._given is not None and set(self._given) != set(self.encoders):
            raise ValueError(f"digests must name {', '.join(self.encoders)}")
        for name, digest in (self._given or {}).items():
            if self.encoders[name].digest != digest:
                raise BundleError(
                    f"{name} must be the encoder of digest {digest}, got "
                    f"{self.encoders[name].digest}"
                )
        tags = {name: encoder._session.metadata.get(KEY) for name, encoder in encoders.items()}
        told = {tag for tag in tags.values() if tag is not None}
        if len(told) > 1 or (told and None in tags.values() and self._given is None):
            raise BundleError(f"encoders must share one space, their graphs say {json.dumps(tags)}")
        if not told and self._given is None:
            raise BundleError(
                "nothing says that the encoders share a space: export their graphs with one tag "
                f"under {KEY}, or give digests={self.digests}"
            )

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each encoder: what names this space."""
        return {name: encoder.digest for name, encoder in self.encoders.items()}

    def query(self, modality: str, content: Any, catalogue: Catalogue | str) -> Float32Array:
        """Encode one query for a catalogue of any modality of this space.

        Parameters
        ----------
        modality : str
            Which encoder takes it.
        content : str, path, bytes or what else its `encode_query` takes
        catalogue : Catalogue or str
            What will be searched, or the digest of the encoder that made its vectors.

        Returns
        -------
        ndarray (dim,), float32

        Raises
        ------
        BundleError
            If the catalogue was made by no encoder of this space.
        ValueError
            If there is no such modality.
        """
        if modality not in self.encoders:
            raise ValueError(
                f"modality must be one of {', '.join(self.encoders)}, got {modality!r}"
            )
        made_by = catalogue.encoder if isinstance(catalogue, Catalogue) else catalogue
        if made_by not in self.digests.values():
            listed = ", ".join(f"{name} {digest}" for name, digest in self.digests.items())
            raise BundleError(
                f"catalogue must be made by an encoder of this space ({listed}), got {made_by}"
            )
        return self.encoders[modality].encode_query(content)

    def alignment(
        self, first: tuple[str, Sequence[Any]], second: tuple[str, Sequence[Any]]
    ) -> float:
        """Return how often the right partner is the nearest one, of pairs that belong together.

        Parameters
        ----------
        first, second : (modality, contents)
            Entry i of the one belongs to entry i of the other; at least two.

        Returns
        -------
        float
            The share of `first` whose partner has the largest cosine of all of `second` (a tie
            counts as a miss): 1 / n by chance, near 1 where the space is shared.

        Raises
        ------
        ValueError
            If there are fewer than two pairs, or their numbers differ.
        """
        if len(first[1]) != len(second[1]) or len(first[1]) < 2:
            raise ValueError(
                f"first and second must be pairs, at least two, got {len(first[1])} and "
                f"{len(second[1])}"
            )
        sides = []
        for modality, contents in (first, second):
            if modality not in self.encoders:
                raise ValueError(
                    f"modality must be one of {', '.join(self.encoders)}, got {modality!r}"
                )
            encoder = self.encoders[modality]
            vectors = np.stack([encoder.encode_query(content) for content in contents])
            sides.append(check_finite(modality, vectors).astype(np.float64))
        units = [side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-30)
                 for side in sides]  # fmt: skip
        cosines = np.einsum("nd,md->nm", *units)
        own = np.diag(cosines).copy()
        np.fill_diagonal(cosines, -np.inf)
        return float(np.mean(own > cosines.max(axis=1)))

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedSpace, (self.encoders, self._given)

    def __repr__(self) -> str:
        return f"SharedSpace({', '.join(self.encoders)}; dim={self.dim})"
