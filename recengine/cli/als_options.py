"""The options of ALS, for every command that trains one; what is omitted is ALS's own default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recengine.factorization import ALS


class Objective(StrEnum):
    """The objectives of ALS."""

    implicit = "implicit"
    ials = "ials"


class Solver(StrEnum):
    """The solvers of ALS."""

    cg = "cg"
    cholesky = "cholesky"
    block = "block"


ARGUMENTS = (
    "factors",
    "regularization",
    "alpha",
    "iterations",
    "unobserved_weight",
    "frequency_exponent",
    "cg_steps",
    "block_size",
    "random_state",
    "checkpoint",
)
ONLY_WITH = (
    ("unobserved_weight", "objective", Objective.ials),
    ("frequency_exponent", "objective", Objective.ials),
    ("cg_steps", "solver", Solver.cg),
    ("block_size", "solver", Solver.block),
)
PANEL = "ALS"
Factors = Annotated[
    int | None,
    typer.Option(help="Numbers that describe a user or an item (64).", rich_help_panel=PANEL),
]
Regularization = Annotated[
    float | None, typer.Option(help="Weight of the squared norms (0.01).", rich_help_panel=PANEL)
]
Alpha = Annotated[
    float | None,
    typer.Option(help="What every weight is multiplied with (1).", rich_help_panel=PANEL),
]
Iterations = Annotated[int | None, typer.Option(help="Epochs (15).", rich_help_panel=PANEL)]
Objectives = Annotated[
    Objective | None, typer.Option(help="What is minimised (implicit).", rich_help_panel=PANEL)
]
UnobservedWeight = Annotated[
    float | None,
    typer.Option(help="ials: weight of all pairs (0.1).", rich_help_panel=PANEL),
]
FrequencyExponent = Annotated[
    float | None,
    typer.Option(help="ials: regularization by frequency (1).", rich_help_panel=PANEL),
]
Solvers = Annotated[
    Solver | None, typer.Option(help="How an epoch solves a row (cg).", rich_help_panel=PANEL)
]
CgSteps = Annotated[
    int | None,
    typer.Option(help="cg: steps of conjugate gradients (3).", rich_help_panel=PANEL),
]
BlockSize = Annotated[
    int | None,
    typer.Option(help="block: coordinates solved at once, by 16 (64).", rich_help_panel=PANEL),
]
Seed = Annotated[
    int | None,
    typer.Option(help="The same seed gives the same bits (0).", rich_help_panel=PANEL),
]
CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that is replaced after every epoch; an interrupted fit goes on from it.",
        rich_help_panel=PANEL,
    ),
]


def given_options(**options: Any) -> dict[str, Any]:
    """Return the options that were given, as arguments of ALS and its `fit`."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("objective", "solver"):
        if name in given:
            given[name] = given[name].value
    if "seed" in given:
        given["random_state"] = given.pop("seed")
    return given


def refuse(given: dict[str, Any]) -> None:
    """Refuse options of ALS where none is trained: nothing is accepted and ignored."""
    if given:
        raise typer.BadParameter(
            f"{_option(next(iter(given)))} is about --model als, which is not asked for"
        )


def make_als(given: dict[str, Any]) -> ALS:
    """Return an ALS that is not fitted yet."""
    from recengine.factorization import ALS

    chosen = {"objective": Objective.implicit, "solver": Solver.cg} | given
    for name, choice, value in ONLY_WITH:
        if name in given and chosen[choice] != value:
            raise ValueError(f"{_option(name)} is about --{choice} {value}, got {given[name]:g}")
    with saying_options():
        return ALS(**{"random_state": 0, **given})


@contextmanager
def saying_options() -> Iterator[None]:
    """Let an error that begins with the name of an argument of ALS name the option."""
    try:
        yield
    except ValueError as error:
        name, space, rest = str(error).partition(" ")
        if name not in ARGUMENTS:
            raise
        raise ValueError(f"{_option(name)}{space}{rest}") from error


def _option(name: str) -> str:
    return "--" + name.replace("random_state", "seed").replace("_", "-")
