"""Screen 7: a film that nobody has watched, found by its title alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recengine.cli.demo.stage import Stage
from recengine.cli.demo.text import names
from recengine.cli.demo.training import Trained
from recengine.cli.screen import duration

if TYPE_CHECKING:
    from rich.text import Text

TITLE, NEW_ID = "Toy Story 2", 2_000
QUERY = "toys that come to life"
K = 5


def show(stage: Stage, trained: Trained) -> None:
    """Add a film by title; find it by text, and find what it is like."""
    engine = trained.time.als
    stage.lesson(
        f"“{TITLE}” came out in 1999, after this data was collected: no events, no factors. "
        "Its title makes it a vector, and it can be found from the next request on."
    )
    before = engine.search(QUERY, K)
    start = time.perf_counter()
    engine.add_items([NEW_ID], texts=[TITLE], items={"item_id": [NEW_ID], "title": [TITLE]})
    elapsed = time.perf_counter() - start
    after, similar = engine.search(QUERY, K), engine.similar_items(NEW_ID, K)
    rows = [
        tuple(
            _cell(names(engine, result.ids)[i], int(result.ids[i]))
            for result in (before, after, similar)
        )
        for i in range(K)
    ]
    stage.table(f"“{QUERY}”, before", "after", f"similar to “{TITLE}”", rows=rows)
    stage.note(
        f'`engine.add_items([{NEW_ID}], texts=["{TITLE}"])` took {duration(elapsed)}, encoding '
        "included."
    )


def _cell(name: str, item_id: int) -> Text:
    from rich.text import Text

    style = "bold green" if item_id == NEW_ID else ""
    return Text(name, style, no_wrap=True, overflow="ellipsis")
