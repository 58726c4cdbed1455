"""Sources: each turns profiles into vectors of its own space and holds the items of that space.

A source is three things: an index over items, the vectors of users in the index's space, and a
weight. `ModelSource` holds trained factors, `ContentSource` vectors that an encoder made, and
`PopularitySource` one number per item. All index rows are ordinals, so that filters, fusion and
ties speak one language; ids come in at the engine's door and go out there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recengine._types import Float32Array, Int64Array
from recengine.engine.popularity import Popularity
from recengine.engine.profiles import Profile
from recengine.engine.tastes import TASTES
from recengine.retrieval import FlatIndex

MODEL, CONTENT, POPULARITY = "model", "content", "popularity"
Vectors = tuple[Float32Array, NDArray[np.bool_]]


class Source(Protocol):
    """What retrieval needs of a source."""

    @property
    def name(self) -> str:
        """How `Engine.build`'s weights name it."""

    @property
    def weight(self) -> float:
        """What its scores are multiplied with in a sum; 0: it is not asked."""

    @property
    def n_rows(self) -> int:
        """Items with an ordinal below this have, or had, a vector here."""

    @property
    def index(self) -> FlatIndex:
        """Finds items for a user's vector; its ids are ordinals."""

    @property
    def similar(self) -> FlatIndex | None:
        """Finds items for an item's vector, by cosine; None without such vectors."""

    def user_vectors(self, profiles: Sequence[Profile | None]) -> Vectors:
        """Return (vectors (n, dim) float32, which profiles the source knows (n,) bool).

        Vectors (n, m, dim) are m for each user, whose score of an item is the best of the m.
        """

    def without(self, ordinals: Int64Array) -> Source:
        """Return the source without these items; those it never had are passed over."""


class FactorModel(Protocol):
    """What the engine needs of a factorization; `recengine.ALS` and `BPR` are."""

    @property
    def user_factors_(self) -> Float32Array:
        """Factors of the users (n_users, factors)."""

    @property
    def item_factors_(self) -> Float32Array:
        """Factors of the items (n_items, factors)."""

    def fold_in(self, indices: Any, weights: Any = None) -> Float32Array:
        """Return the vector of the user whom these items describe."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and the JSON from which ``type(model).from_state`` makes it anew."""


@dataclass(frozen=True)
class ModelSource:
    """Trained factors: a user's score for an item is the dot product."""

    weight: float
    index: FlatIndex = field(repr=False)
    similar: FlatIndex = field(repr=False)
    n_rows: int
    name: str = MODEL

    @classmethod
    def of(cls, weight: float, factors: Float32Array, removed: Int64Array) -> ModelSource:
        """Return the source over item factors (n_items, factors).

        A row of zeros is an item of which the model learned nothing: it is left out.
        """
        index, similar = FlatIndex(factors, metric="dot"), FlatIndex(factors, metric="cosine")
        gone = np.union1d(removed, np.flatnonzero(~factors.any(axis=1)))
        return cls(weight, index, similar, len(factors)).without(gone)

    def user_vectors(self, profiles: Sequence[Profile | None]) -> Vectors:
        """Return the profiles' factors."""
        vectors = np.zeros((len(profiles), self.index.dim), np.float32)
        known = np.zeros(len(profiles), np.bool_)
        for row, profile in enumerate(profiles):
            if profile is not None and profile.factors is not None:
                vectors[row], known[row] = profile.factors, True
        return vectors, known

    def without(self, ordinals: Int64Array) -> ModelSource:
        """Return the source without these items."""
        return replace(
            self, index=without(self.index, ordinals), similar=without(self.similar, ordinals)
        )

    def having(
        self, factors: Float32Array, ordinals: Int64Array, removed: Int64Array
    ) -> ModelSource:
        """Return the source over `factors`, which differ in the rows `ordinals`, ascending.

        All rows behind those of this source are among them. O(len(ordinals) dim), or that of `of`
        where they are a fourth of all.
        """
        if 4 * len(ordinals) >= len(factors):
            return ModelSource.of(self.weight, factors, removed[removed < len(factors)])
        rows = factors[ordinals]
        index, similar = self.index.snapshot(), self.similar.snapshot()
        index.upsert(ordinals, rows)
        similar.upsert(ordinals, rows)
        gone = np.union1d(removed, ordinals[~rows.any(axis=1)])
        return replace(self, index=index, similar=similar, n_rows=len(factors)).without(gone)


@dataclass(frozen=True)
class ContentSource:
    """Vectors of what items are: a user is made of what they chose, the score is the cosine.

    Attributes
    ----------
    pooling : {"mean", "attention", "interests"}
        How a user is made; see `TASTES`. One with several interests has the best of their scores.
    """

    weight: float
    index: FlatIndex = field(repr=False)
    vectors: Float32Array = field(repr=False)
    pooling: str = "mean"
    name: str = CONTENT

    @classmethod
    def of(
        cls, weight: float, vectors: Float32Array, removed: Int64Array, pooling: str = "mean"
    ) -> ContentSource:
        """Return the source over read-only content vectors (n_items, dim)."""
        index = without(FlatIndex(vectors, metric="cosine"), removed)
        return cls(weight, index, vectors, pooling)

    @property
    def asks_for_order(self) -> bool:
        """Whether it matters which item was chosen last."""
        return self.pooling == "attention"

    @property
    def n_rows(self) -> int:
        """Number of items, removed ones included: all items have content."""
        return len(self.vectors)

    @property
    def similar(self) -> FlatIndex:
        """The same index: users and items share the space."""
        return self.index

    def user_vectors(self, profiles: Sequence[Profile | None]) -> Vectors:
        """Return what `pooling` makes of each profile's items, and who has any.

        A batch has the bits of its single requests. O(items in the history * dim) each.
        """
        has_any = [profile is not None and len(profile.seen) > 0 for profile in profiles]
        known = np.array(has_any, np.bool_)
        some = [profile for profile in profiles if profile is not None and len(profile.seen)]
        made = TASTES[self.pooling](self.vectors, some)
        if len(some) == len(profiles):
            return made, known
        vectors = np.zeros((len(profiles), *made.shape[1:]), np.float32)
        vectors[known] = made
        return vectors, known

    def without(self, ordinals: Int64Array) -> ContentSource:
        """Return the source without these items."""
        return replace(self, index=without(self.index, ordinals))

    def having(
        self, n_items: int, ordinals: Int64Array, vectors: Float32Array, removed: Int64Array
    ) -> ContentSource:
        """Return the source of `n_items`, these added or replaced. O(n_items dim): copies."""
        table = np.empty((n_items, self.vectors.shape[1]), np.float32)
        table[: self.n_rows] = self.vectors
        table[ordinals] = vectors
        table.flags.writeable = False
        return ContentSource.of(self.weight, table, removed, self.pooling)


@dataclass(frozen=True)
class PopularitySource:
    """How many users have each item: the same for everybody."""

    weight: float
    popularity: Popularity = field(repr=False)
    name: str = POPULARITY

    @property
    def n_rows(self) -> int:
        """Number of items, removed ones included."""
        return self.popularity.n_items

    @property
    def index(self) -> FlatIndex:
        """The counts, indexed when first asked for."""
        return self.popularity.index

    @property
    def similar(self) -> None:
        """A count says nothing about likeness."""
        return

    def user_vectors(self, profiles: Sequence[Profile | None]) -> Vectors:
        """Return ones: whoever has a profile."""
        known = np.array([profile is not None for profile in profiles], np.bool_)
        return np.ones((len(profiles), 1), np.float32), known

    def without(self, ordinals: Int64Array) -> PopularitySource:
        """Return the source without these items."""
        removed = np.union1d(self.popularity.removed, ordinals)
        return replace(self, popularity=self.popularity.resized(self.n_rows, removed))


def without(index: FlatIndex, ordinals: Int64Array) -> FlatIndex:
    """Return another index, without those of the ordinals that it holds; `index` stays as it is.

    The vectors are shared, so the cost is O(n_items / 64).
    """
    changed = index.snapshot()
    changed.delete(ordinals[changed.ordinals(ordinals) >= 0])
    return changed
