"""What the screens print on: headings, lessons, timed steps, and lists side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recengine.cli.screen import console, duration, table, waiting

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STEP_WIDTH = 76


class Stage:
    """The console of the demo, and the clock of its screens."""

    def __init__(self) -> None:
        self.console = console()
        self.laps: list[tuple[str, float]] = []

    @contextmanager
    def screen(self, title: str) -> Iterator[None]:
        """Open a screen: a numbered heading; its time is kept for the last table."""
        from rich.rule import Rule
        from rich.text import Text

        number = len(self.laps) + 1
        heading = Text(f"{number}  {title}", "bold cyan")
        self.console.print()
        self.console.print(Rule(heading, align="left", style="cyan"))
        start = time.perf_counter()
        yield
        self.laps.append((title, time.perf_counter() - start))

    def lesson(self, text: str) -> None:
        """Print what there is to learn; "`code`" is shown as code."""
        from rich.padding import Padding

        self.console.print(Padding(code(text), (0, 0, 1, 0)))

    def note(self, text: str) -> None:
        """Print a remark below a table."""
        self.console.print(code(text, "dim"))

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print a line of texts and (text, style) pairs, as they are."""
        from rich.text import Text

        self.console.print(Text.assemble(*parts))

    def done(self, what: str, detail: str) -> None:
        """Print that something is there."""
        self.say(("  ✓ ", "green"), (what, "bold"), f"  {detail}")

    def remark(self, text: str) -> None:
        """Print something that belongs to the line above, further in."""
        from rich.padding import Padding

        self.console.print(Padding(code(text, "dim"), (0, 0, 0, 4)))

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Do something that takes a while; print it with its time."""
        start = time.perf_counter()
        with waiting(what):
            yield
        elapsed = duration(time.perf_counter() - start)
        dots = " " + "·" * (STEP_WIDTH - len(what) - 2)
        self.say(("  ✓ ", "green"), what, (dots, "dim"), (f"{elapsed:>10}", "bold"))

    def table(
        self, *columns: str, title: str = "", rows: Sequence[Sequence[str | RenderableType]]
    ) -> None:
        """Print a table with a line of air below it."""
        self.console.print(table(*columns, title=title, rows=rows))
        self.console.print()


def code(text: str, style: str = "") -> Text:
    """Return text in which what stands between backquotes is shown as code."""
    from rich.text import Text

    made = Text(style=style)
    for number, part in enumerate(text.split("`")):
        made.append(part, "bold cyan" if number % 2 else "")
    return made
