"""``recengine fetch``: named data sets and models into the cache."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="What to fetch; without it, a list of what there is."),
    ] = None,
) -> None:
    """Fetch a data set or model by name: with your own pip, checked by sha256, kept in a cache.

    What is in the cache needs no network. RECENGINE_CACHE names another cache folder.
    """
    from recengine.cli.screen import console
    from recengine.data import sources

    screen = console()
    if name is None:
        _show_list()
        return
    steps = console(stderr=True)
    folder = sources.fetch(
        name, progress=lambda line: steps.print(line, style="dim", markup=False, soft_wrap=True)
    )
    source = sources.SOURCES[name]
    screen.print(f"{name} in {folder}", style="bold", markup=False)
    for member in source.members:
        screen.print(f"  {member.name}", style="dim", markup=False)
    screen.print(f"Licence: {source.licence}. {source.notice}", markup=False)


def _show_list() -> None:
    from recengine.cli.screen import console, table
    from recengine.data import sources

    home = sources.cache_dir()
    rows = [
        (
            source.name,
            f"{sum(wheel.megabytes for wheel in source.wheels):.1f} MB",
            "yes" if source.is_complete(home / source.folder) else "no",
            source.licence,
        )
        for source in sources.SOURCES.values()
    ]
    screen = console()
    screen.print(table("name", ">download", "in the cache", "licence", rows=rows))
    line = f"\nThe cache is {home}. Fetch one with: recengine fetch NAME"
    screen.print(line, style="dim", markup=False)
