"""The frozen state of an engine: everything that a request reads, replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recengine._errors import UnknownUserError
from recengine._types import Float32Array, ItemId
from recengine._validation import as_id
from recengine.engine.attributes import Columns, align
from recengine.engine.catalogue import Catalogue
from recengine.engine.encoder import EncoderSlot
from recengine.engine.identity import as_id_list
from recengine.engine.profiles import Profile, Profiles
from recengine.engine.ranker import RankerSlot
from recengine.engine.sources import (
    CONTENT,
    MODEL,
    POPULARITY,
    ContentSource,
    FactorModel,
    ModelSource,
    PopularitySource,
    Source,
)

NAMES = (MODEL, CONTENT, POPULARITY)


@dataclass(frozen=True)
class State:
    """What an engine knows at one moment.

    Attributes
    ----------
    catalogue : Catalogue
        Items: ids, ordinals, removals, attributes.
    profiles : Profiles
        Users: histories and factors.
    user_columns : dict of str to ndarray
        Attributes of the users of the build.
    encoder : EncoderSlot
        Turns texts into content vectors.
    ranker : RankerSlot
        Scores what retrieval found.
    popularity : PopularitySource
    content : ContentSource or None
    factors : ModelSource or None
    model : FactorModel or None
        Folds histories in; its items are those of `factors`.
    log : str
        The id of the event log that this state followed; empty without one.
    sequence : int
        The number of that log's last record that is part of this state.
    """

    catalogue: Catalogue
    profiles: Profiles
    popularity: PopularitySource
    content: ContentSource | None = None
    factors: ModelSource | None = None
    model: FactorModel | None = None
    user_columns: Columns = field(default_factory=dict, repr=False)
    encoder: EncoderSlot = field(default_factory=EncoderSlot)
    ranker: RankerSlot = field(default_factory=RankerSlot)
    log: str = ""
    sequence: int = 0

    @property
    def position(self) -> tuple[str, int]:
        """Which log this state followed, and how far."""
        return self.log, self.sequence

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources there are: model, content, popularity."""
        present = (self.factors, self.content, self.popularity)
        return tuple(source for source in present if source is not None)

    @property
    def weighted(self) -> tuple[Source, ...]:
        """The sources that recommendations ask."""
        return tuple(source for source in self.sources if source.weight > 0)

    def fold(self, profile: Profile) -> Profile:
        """Return the profile with its factors solved anew from its history."""
        return replace(profile, factors=self._solved(profile))

    def _solved(self, profile: Profile) -> Float32Array | None:
        if self.model is None:
            return None
        n_usable = int(np.searchsorted(profile.seen, self.profiles.n_modelled))
        if n_usable == 0:
            return None
        factors = self.model.fold_in(profile.seen[:n_usable], profile.weights[:n_usable])
        return factors if factors.any() else None  # of items without factors: nothing is known

    def user(self, user_id: Any) -> ItemId:
        """Return a user id as int or str, of the kind this engine holds."""
        return as_id("user_id", user_id, self.profiles.is_str)

    def users(self, user_ids: Any) -> list[ItemId]:
        """Return user ids as ints or strs."""
        ids: list[ItemId] = as_id_list("user_id", user_ids, self.profiles.is_str).tolist()
        return ids

    def user_attributes(self, ids: Any) -> Columns:
        """Return the attribute columns of users; missing for those the build did not know.

        `ids` are as `users` returns them; None is one user whom nobody knows.
        """
        rows = np.array([-1])
        if ids is not None:
            rows = self.profiles.users.indices(ids, missing="mark")
        n_rows = next((len(column) for column in self.user_columns.values()), 0)
        return align(self.user_columns, np.where(rows < n_rows, rows, -1))


def default_weights(state: State) -> dict[str, float]:
    """Return the weights used where none are given: the best source there is, alone."""
    best = MODEL if state.factors is not None else CONTENT
    if state.factors is None and state.content is None:
        best = POPULARITY
    return {best: 1.0}


def refuse_unknown(user_ids: list[ItemId], known: Any) -> None:
    """Raise `UnknownUserError` naming the users whom no source knows."""
    missing = [user for user, is_known in zip(user_ids, known, strict=True) if not is_known]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise UnknownUserError(
            f"user_id must have a history that a weighted source knows, got {len(missing)} "
            f"without: {shown}"
        )
