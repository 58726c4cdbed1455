"""Screen 6: find films by free text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from recengine.cli.demo.stage import Stage
from recengine.cli.demo.training import Trained
from recengine.cli.screen import duration

if TYPE_CHECKING:
    from recengine.engine import Engine

QUERIES = ("space battles far away", "wizards and magic for children")
K = 6


def show(stage: Stage, trained: Trained) -> None:
    """Search for two texts."""
    engine = trained.time.als
    stage.lesson(
        "The encoder that described the films also reads queries: `engine.search(text)` encodes "
        "the text and finds the nearest films, exactly. It knows titles and genres, no plots."
    )
    found, seconds = [], []
    for query in QUERIES:
        start = time.perf_counter()
        found.append(engine.search(query, K))
        seconds.append(time.perf_counter() - start)
    titles = [names(engine, result.ids) for result in found]
    rows = [
        (titles[0][i], f"{found[0].scores[i]:.2f}", titles[1][i], f"{found[1].scores[i]:.2f}")
        for i in range(K)
    ]
    first, second = (f"“{query}”" for query in QUERIES)
    stage.table(first, ">cosine", second, ">cosine", rows=rows)
    stage.note(
        f"Encoding and search took {duration(seconds[0])} and {duration(seconds[1])} "
        f"on {trained.encoder.device}."
    )


def names(engine: Engine, item_ids: Any) -> list[str]:
    """Return titles and years as the engine keeps them; a year may be missing."""
    columns = engine.item_attributes(item_ids)
    return [
        f"{title} ({year:.0f})" if year > 0 else str(title)
        for title, year in zip(columns["title"], columns["year"], strict=True)
    ]
