"""Evaluations on the screen: figures with their intervals, the best one bold, and who wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from recengine.cli.screen import table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from recengine.evaluation import Comparison, Evaluation

NAMES = {"ndcg": "NDCG", "recall": "recall", "mrr": "MRR", "precision": "precision"}


def figures_table(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[str], title: str = ""
) -> Table:
    """Return a row per model, a column per metric: figure and 95 % bootstrap interval."""
    best = {metric: max(e[metric] for e in evaluations.values()) for metric in metrics}
    k = next(iter(evaluations.values())).k
    rows: list[tuple[str | Text, ...]] = [
        (name, *(_cell(each, metric, best[metric]) for metric in metrics))
        for name, each in evaluations.items()
    ]
    headers = [f">{NAMES[metric]}@{k}  [95 % interval]" for metric in metrics]
    return table("", *headers, title=title, rows=rows)


def _cell(evaluation: Evaluation, metric: str, best: float) -> Text:
    from rich.text import Text

    low, high = evaluation.interval(metric)
    style = "bold green" if evaluation[metric] == best else ""
    return Text.assemble(
        (f"{evaluation[metric]:.4f}", style), (f"  [{low:.4f}, {high:.4f}]", "dim")
    )


def verdict(evaluations: Mapping[str, Evaluation], baseline: str, metric: str) -> Table:
    """Return a line for each other model: how it stands to the baseline, user by user."""
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 2))
    k = evaluations[baseline].k
    for name, evaluation in evaluations.items():
        if name == baseline:
            continue
        found = evaluation.compare(evaluations[baseline], metric)
        low, high = found.interval
        lines.add_row(
            f"{name} − {baseline}",
            Text(f"{_signed(found.difference)} {NAMES[metric]}@{k}"),
            Text(f"[{_signed(low)}, {_signed(high)}]", "dim"),
            Text(f"{_signed(100 * found.relative, 0)} %"),
            _winner(found, name, baseline),
        )
    return lines


def _winner(found: Comparison, name: str, baseline: str) -> Text:
    from rich.text import Text

    if not found.n_better and not found.n_worse:
        return Text("the same for every user", "dim")
    if not found.excludes_zero:
        return Text("no clear winner", "yellow")
    if found.difference > 0:
        return Text(f"{name} wins", "green")
    return Text(f"{baseline} wins", "red")


def _signed(value: float, decimals: int = 4) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")
