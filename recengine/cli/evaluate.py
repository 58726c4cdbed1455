"""``recengine evaluate``: how well models would have done, on events held out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recengine.cli import als_options
from recengine.cli.als_options import (
    Alpha,
    BlockSize,
    CgSteps,
    Factors,
    FrequencyExponent,
    Iterations,
    Objectives,
    Regularization,
    Seed,
    Solvers,
    UnobservedWeight,
)
from recengine.cli.arguments import Columns, EventsFile, ItemsPerList

if TYPE_CHECKING:
    from recengine.data import Interactions
    from recengine.engine import Engine
    from recengine.evaluation import Evaluation

METRICS = ("ndcg", "recall", "mrr")


class Split(StrEnum):
    """How events are held out."""

    last = "last"
    time = "time"


class Model(StrEnum):
    """What can be evaluated."""

    als = "als"
    popularity = "popularity"


def evaluate(
    events: EventsFile,
    split: Annotated[
        Split,
        typer.Option(
            help="Hold out the last event of each user, or all events after a moment (no leak "
            "from the future)."
        ),
    ] = Split.last,
    fraction: Annotated[
        float | None,
        typer.Option(help="With --split time: the share of events held out; 0.2 when omitted."),
    ] = None,
    model: Annotated[
        list[Model] | None, typer.Option(help="Which model; may be repeated. Both when omitted.")
    ] = None,
    k: ItemsPerList = 10,
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
) -> None:
    """Measure models on held-out events: figures with bootstrap intervals, and who wins.

    All items are ranked, what a user has already had is left out, nothing is sampled. Users
    without a history are counted apart: nobody can be personal to them.
    """
    if fraction is not None and split is not Split.time:
        raise typer.BadParameter("--fraction is about --split time")
    chosen = list(dict.fromkeys(model or list(Model)))
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
    )
    if Model.als not in chosen:
        als_options.refuse(given)
    train, test = _halves(events, column or [], split, 0.2 if fraction is None else fraction)
    evaluations = {
        kind.value: _measured(_engine(kind, train, given), train, test, k) for kind in chosen
    }
    _show(train, test, evaluations)


def _halves(
    events: Path, columns: list[str], split: Split, fraction: float
) -> tuple[Interactions, Interactions]:
    from recengine.cli.files import read_events

    inter = read_events(events, columns)
    train, test = inter.split_time(fraction) if split is Split.time else inter.split_last(1)
    if not len(train) or not len(test):
        raise ValueError(
            f"{events} must leave events on both sides of the split, got {len(train)} to train on "
            f"and {len(test)} to test on"
        )
    return train, test


def _engine(kind: Model, train: Interactions, given: dict[str, Any]) -> Engine:
    from recengine.cli.screen import waiting
    from recengine.engine import Engine

    if kind is Model.popularity:
        return Engine.build(train)
    als = als_options.make_als(given)
    with waiting(f"training ALS with {als.factors} factors"), als_options.saying_options():
        als.fit(train)
    return Engine.build(train, model=als)


def _measured(engine: Engine, train: Interactions, test: Interactions, k: int) -> Evaluation:
    import numpy as np

    from recengine.evaluation import evaluate

    users = test.users.ids[np.unique(test.user_indices)]
    result = engine.recommend(users, k)
    return evaluate(result, test, users=users, train=train, k=k, metrics=METRICS)


def _show(train: Interactions, test: Interactions, evaluations: dict[str, Evaluation]) -> None:
    import numpy as np

    from recengine.cli.screen import console

    screen = console()
    screen.print(str(train.report), markup=False)
    screen.print(f"{len(train):,} events to train on, {len(test):,} held out\n")
    warm = np.asarray(next(iter(evaluations.values())).warm)
    cold = "users without a history, to whom every model gives what is popular"
    for title, mask in (("users with a history", warm), (cold, ~warm)):
        if mask.any():
            _show_group(title, {name: e.select(mask) for name, e in evaluations.items()})


def _show_group(title: str, evaluations: dict[str, Evaluation]) -> None:
    from recengine.cli.figures import figures_table, verdict
    from recengine.cli.screen import console

    first = next(iter(evaluations.values()))
    screen = console()
    screen.print(figures_table(evaluations, METRICS, title=f"{first.n_users:,} {title}"))
    if len(evaluations) > 1 and "popularity" in evaluations:
        screen.print(verdict(evaluations, "popularity", "ndcg"))
    screen.print()
