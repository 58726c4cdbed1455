"""Screen 5: one event, and the list that follows it; and how long that takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recengine.cli.demo.quality import Quality, median_user
from recengine.cli.demo.stage import Stage
from recengine.cli.demo.training import Trained
from recengine.cli.screen import duration

if TYPE_CHECKING:
    from rich.text import Text

    from recengine import TopK

K = 8


def show(stage: Stage, trained: Trained, quality: Quality) -> None:
    """Observe the fourth event of the new user."""
    engine, movies = trained.time.als, trained.movies
    user = median_user(quality.cold["ALS"])
    later = quality.later_events(user)
    chosen, rating = int(later.items[0]), float(later.weights[0])
    stage.lesson(
        "An event is known to the very next request: `observe` solves the user's factors anew "
        "from the whole history and publishes a new state by one reference. No training runs."
    )
    for item, weight in zip(*quality.first_events[user], strict=True):
        engine.observe(user, item, weight)
    before = engine.recommend(user, K)
    start = time.perf_counter()
    engine.observe(user, chosen, rating)
    observed = time.perf_counter()
    after = engine.recommend(user, K)
    answered = time.perf_counter()

    stage.say(f"New user {user} now watches ", (movies.title(chosen), "bold"), ".")
    rows = [
        (
            str(place + 1),
            movies.title(before.ids[place]),
            movies.title(after.ids[place]),
            _move(before, after, place),
        )
        for place in range(K)
    ]
    stage.table(">", "before", "after", "", rows=rows)
    stage.note(
        f"`engine.observe({user}, {chosen}, {rating:g})` took {duration(observed - start)}, "
        f"the next `engine.recommend({user})` {duration(answered - observed)}."
    )


def _move(before: TopK, after: TopK, place: int) -> Text:
    """Return where the item at this place of `after` stood before."""
    from rich.text import Text

    earlier = before.ids.tolist()
    item = int(after.ids[place])
    if item not in earlier:
        return Text("new", "bold green")
    moved = earlier.index(item) - place
    if moved == 0:
        return Text("=", "dim")
    return Text(f"▲ {moved}", "green") if moved > 0 else Text(f"▼ {-moved}", "yellow")
