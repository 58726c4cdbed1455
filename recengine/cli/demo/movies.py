"""The films of the demo as people call them, and as the encoder reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recengine.data import Interactions

# "Full Monty, The" and "Blob, The (1958)": MovieLens puts articles behind.
_ARTICLE_BEHIND = re.compile(r"^(.*), (The|A|An|Il|La|Le|Les|Das|Der|Die|El|L')( \(.*)?$")


@dataclass(frozen=True)
class Movies:
    """MovieLens 100K with readable titles.

    Attributes
    ----------
    inter : Interactions
    columns : dict of str to ndarray
        item_id, title, year, genres; rows in the order of ``inter.items``.
    """

    inter: Interactions
    columns: dict[str, Any]

    @classmethod
    def load(cls) -> Movies:
        """Read the data set from the cache, fetching it on first use."""
        from recengine.data import load_ml_100k

        inter, columns, _ = load_ml_100k()
        titles = columns["title"].copy()
        titles[:] = [readable(title) for title in titles]
        return cls(inter, {**columns, "title": titles})

    @property
    def texts(self) -> list[str]:
        """What the encoder reads of each film: title and genres."""
        pairs = zip(self.columns["title"], self.columns["genres"], strict=True)
        return [f"{title}. {genres}" for title, genres in pairs]

    def title(self, item_id: int) -> str:
        """Return a film's title and year."""
        row = self.inter.items.index(item_id)
        year = int(self.columns["year"][row])
        return f"{self.columns['title'][row]} ({year})" if year else str(self.columns["title"][row])

    def titles(self, item_ids: Iterable[Any]) -> list[str]:
        """Return titles and years."""
        return [self.title(int(item_id)) for item_id in item_ids]


def readable(title: str) -> str:
    """Return a title with its article in front."""
    found = _ARTICLE_BEHIND.match(title)
    if found is None:
        return title
    article = found[2] if found[2].endswith("'") else f"{found[2]} "
    return f"{article}{found[1]}{found[3] or ''}"
