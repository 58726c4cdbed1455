"""``recengine fit``: events in, one engine file out."""

from __future__ import annotations

import shlex
import time
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recengine.cli import als_options
from recengine.cli.als_options import (
    Alpha,
    BlockSize,
    CgSteps,
    CheckpointFile,
    Factors,
    FrequencyExponent,
    Iterations,
    Objectives,
    Regularization,
    Seed,
    Solvers,
    UnobservedWeight,
)
from recengine.cli.arguments import Columns, EventsFile

if TYPE_CHECKING:
    from recengine.data import Interactions


class FitModel(StrEnum):
    """What can be trained."""

    als = "als"
    popularity = "popularity"


def fit(
    events: EventsFile,
    engine: Annotated[
        Path, typer.Argument(metavar="ENGINE", help="The engine file to write, e.g. shop.rec.")
    ],
    model: Annotated[FitModel, typer.Option(help="What to train.")] = FitModel.als,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Attributes of items, shown beside recommendations: a .csv, .tsv, .parquet or "
            ".item file with a column item_id."
        ),
    ] = None,
    column: Columns = None,
    factors: Factors = None,
    regularization: Regularization = None,
    alpha: Alpha = None,
    iterations: Iterations = None,
    objective: Objectives = None,
    unobserved_weight: UnobservedWeight = None,
    frequency_exponent: FrequencyExponent = None,
    solver: Solvers = None,
    cg_steps: CgSteps = None,
    block_size: BlockSize = None,
    seed: Seed = None,
    checkpoint: CheckpointFile = None,
) -> None:
    """Train on a file of events and save an engine: one file with everything to recommend from.

    Weights are strengths (0 is no event), datetimes ISO 8601 or seconds since 1970.
    Rows that cannot be events are dropped, counted and reported.
    """
    given = als_options.given_options(
        factors=factors,
        regularization=regularization,
        alpha=alpha,
        iterations=iterations,
        objective=objective,
        unobserved_weight=unobserved_weight,
        frequency_exponent=frequency_exponent,
        solver=solver,
        cg_steps=cg_steps,
        block_size=block_size,
        seed=seed,
        checkpoint=checkpoint,
    )
    if model is FitModel.popularity:
        als_options.refuse(given)
    _check_target("ENGINE", engine)
    if checkpoint is not None:
        _check_target("--checkpoint", checkpoint)
        if checkpoint.resolve() == engine.resolve():
            raise ValueError(f"--checkpoint must be another file than ENGINE, got {checkpoint}")
    _fit(events, engine, items, column or [], given if model is FitModel.als else None)


def _fit(
    events: Path, target: Path, items: Path | None, columns: list[str], als: dict[str, Any] | None
) -> None:
    """Train and save, keeping the time of each stage; `als` is None for popularity alone."""
    from recengine.cli.files import items_error, read_events, read_items
    from recengine.engine import Engine

    laps = [("", time.perf_counter())]
    inter = read_events(events, columns)
    attributes = None if items is None else read_items(items)
    laps.append(("read and clean", time.perf_counter()))
    trained = None
    if als is not None:
        checkpoint = als.pop("checkpoint", None)
        trained = als_options.make_als(als)
        with als_options.saying_options():
            trained.fit(inter, progress=_watched(), checkpoint=checkpoint)
        what = f"train ALS, {trained.factors} factors, {trained.iterations} epochs"
        laps.append((what, time.perf_counter()))
    try:
        engine = Engine.build(inter, model=trained, items=attributes)
    except (TypeError, ValueError) as error:
        if str(error).startswith("items["):
            raise items_error(items, error) from error
        raise
    laps.append(("build the engine", time.perf_counter()))
    engine.save(target)
    laps.append(("save", time.perf_counter()))
    _show(inter, laps, target)


def _show(inter: Interactions, laps: list[tuple[str, float]], target: Path) -> None:
    from recengine.cli.screen import console, duration, size, table

    screen = console()
    screen.print(f"{inter.report}\n", markup=False)
    stages = [(name, duration(end - start)) for (_, start), (name, end) in pairwise(laps)]
    screen.print(table("stage", ">time", rows=stages))
    screen.print()
    holds = f"{inter.n_users:,} users, {inter.n_items:,} items"
    screen.print(f"{target}  {size(target.stat().st_size)}, {holds}", style="bold", markup=False)
    user = shlex.quote(str(inter.users.ids[0]))
    line = f"Next: recengine recommend {shlex.quote(str(target))} {user}"
    screen.print(line, style="dim", markup=False)


def _check_target(name: str, path: Path) -> None:
    """Refuse before training, not after it, a place that cannot be written."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.absolute().parent)!r} to write into")
    if path.is_dir():
        raise ValueError(f"{name} must be a file name, got the folder {str(path)!r}")


def _watched() -> bool:
    """Whether somebody can see a progress bar."""
    from recengine.cli.screen import console

    return console(stderr=True).is_terminal
