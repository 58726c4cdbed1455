"""A progress bar for work that is long enough to watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Marks steps as done; a note stands beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


@contextmanager
def bar(label: str, total: int, shown: bool) -> Iterator[Advance]:
    """Give a function that marks one of `total` steps as done; draws on standard error."""
    if not shown:
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            progress.advance(task, steps)
            if note:
                progress.update(task, note=note)

        yield advance
