"""``recengine demo``: the screens in order, and where the time went."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recengine.cli.demo.stage import Stage

DEFAULT_ITEMS = 1_000_000
NEEDED = {"tokenizers": "text", "onnx": "onnx"}
BAR = 36


def demo(
    n_items: Annotated[
        int,
        typer.Option(min=1000, help="Vectors of the speed screen; 256 bytes of memory each."),
    ] = DEFAULT_ITEMS,
) -> None:
    """See real recommendations on real data (MovieLens 100K and MiniLM), explained and measured.

    Downloads 24 MB on the first run, and needs no network after that.
    """
    _check_extras()
    from recengine.cli.demo import (
        data,
        device,
        live,
        new_film,
        program,
        quality,
        speed,
        text,
        training,
        viewers,
    )
    from recengine.cli.demo.stage import Stage

    stage = Stage()
    with _quiet_log():
        with stage.screen("The data, its licence, and what cleaning does"):
            movies = data.show(stage)
        with stage.screen("From events and texts to engines"):
            trained = training.show(stage, movies)
        with stage.screen("How good it is, on events nobody trained on"):
            measured = quality.show(stage, trained)
        with stage.screen("Lists, and what people really watched next"):
            viewers.show(stage, trained, measured)
        with stage.screen("One event later"):
            live.show(stage, trained, measured)
        with stage.screen("Search by free text"):
            text.show(stage, trained)
        with stage.screen("A new film, by its title alone"):
            new_film.show(stage, trained)
        with stage.screen("Exact search beside NumPy and onnxruntime"):
            speed.show(stage, n_items)
        with stage.screen("Where the encoder runs, and why"):
            device.show(stage, trained)
        with stage.screen("The ten lines of Python that do all this"):
            program.show(stage)
    _show_laps(stage)


def _check_extras() -> None:
    missing = [extra for module, extra in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ImportError(
            f"the demo needs more packages: pip install 'recengine[{','.join(missing)}]'"
        )


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep recengine's log off the screens: what it says about the device has a screen."""
    log = logging.getLogger("recengine")
    was, log.propagate = log.propagate, False
    handler = logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = was


def _show_laps(stage: Stage) -> None:
    from rich.text import Text

    from recengine.cli.screen import duration

    total = sum(seconds for _, seconds in stage.laps)
    rows = [
        (
            str(number),
            title,
            duration(seconds),
            Text("━" * round(BAR * seconds / total), "cyan"),
        )
        for number, (title, seconds) in enumerate(stage.laps, 1)
    ]
    stage.console.print()
    stage.table(
        ">", "where the time went", ">time", "", rows=[*rows, ("", "all", duration(total), "")]
    )
