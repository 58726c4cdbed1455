"""How the command line looks: one width, one kind of table, numbers as people read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

WIDTH = 100


def console(*, stderr: bool = False) -> Console:
    """Return a console at most `WIDTH` columns wide: exactly so where there is no terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, emoji=False)
    knows_width = made.is_terminal or "COLUMNS" in os.environ
    made.width = min(made.width, WIDTH) if knows_width else WIDTH
    return made


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error, where it is a terminal, that something takes a while."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    from rich.text import Text

    with screen.status(Text(what), spinner="dots"):
        yield


def table(*columns: str, title: str = "", rows: Sequence[Sequence[str | RenderableType]]) -> Table:
    """Return a table; a column whose name starts with ">" stands at the right.

    Strings are shown as they are (square brackets are not markup) and cut where there is no room;
    columns at the right never are.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title, "bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right)
    for row in rows:
        made.add_row(
            *(
                Text(cell, no_wrap=True, overflow="ellipsis") if isinstance(cell, str) else cell
                for cell in row
            )
        )
    return made


def duration(seconds: float) -> str:
    """Return a time to three digits, in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs"


def span(low: float, high: float) -> str:
    """Return two times with a dash between; the unit once where it is the same."""
    first, second = duration(low), duration(high)
    if first.split()[1] == second.split()[1]:
        first = first.split()[0]
    return f"{first}–{second}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def size(n_bytes: int) -> str:
    """Return a file size in kB or MB (powers of ten)."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:,.1f} kB"
