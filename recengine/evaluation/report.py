"""Evaluations as rows of text, for whoever draws them; nothing is printed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recengine.evaluation.figures import Evaluation


@dataclass(frozen=True)
class Table:
    """A header and rows of cells, all str, the first column a name and the others figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown, figures to the right."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = [self.header, rule, *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def __str__(self) -> str:
        """Return the table in aligned plain text."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                [
                    cells[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
                ]
            )
            for cells in lines
        )


def figures_table(
    evaluations: Mapping[str, Evaluation],
    metrics: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    random_state: Any = 0,
) -> Table:
    """Return a row per evaluation: name, users, and each figure with its interval.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        At one k; at least one.
    metrics : sequence of str, optional
        The columns; those of the first evaluation when omitted.
    level, random_state
        As for `Evaluation.interval`.

    Returns
    -------
    Table
    """
    first = _first(evaluations)
    columns = list(first) if metrics is None else list(metrics)
    rows = [
        (
            name,
            str(evaluation.n_users),
            *(_figure(evaluation, metric, level, random_state) for metric in columns),
        )
        for name, evaluation in evaluations.items()
    ]
    titles = (metric if metric == "coverage" else f"{metric}@{first.k}" for metric in columns)
    return Table(("", "users", *titles), tuple(rows))


def differences_table(
    evaluations: Mapping[str, Evaluation],
    baseline: str,
    metric: str = "ndcg",
    *,
    level: float = 0.95,
    random_state: Any = 0,
) -> Table:
    """Return a row per evaluation but the baseline: its paired difference in one metric.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        Of the same users.
    baseline : str
        Which of them the others are compared with.
    metric, level, random_state
        As for `Evaluation.compare`.

    Returns
    -------
    Table
    """
    _first(evaluations)
    if baseline not in evaluations:
        raise ValueError(f"baseline must be one of {', '.join(evaluations)}, got {baseline!r}")
    rows = []
    for name, evaluation in evaluations.items():
        if name == baseline:
            continue
        found = evaluation.compare(evaluations[baseline], metric, level, random_state=random_state)
        rows.append(
            (
                f"{name} − {baseline}",
                f"{found.difference:+.4f}",
                f"[{found.interval.low:+.4f}, {found.interval.high:+.4f}]",
                f"{found.relative:+.1%}",
                f"{found.n_better}/{found.n_equal}/{found.n_worse}",
            )
        )
    title = f"{metric}@{evaluations[baseline].k}"
    header = (title, "difference", f"{level:.0%} interval", "relative", "better/equal/worse")
    return Table(header, tuple(rows))


def _first(evaluations: Mapping[str, Evaluation]) -> Evaluation:
    if not evaluations:
        raise ValueError("evaluations must not be empty, got none")
    first = next(iter(evaluations.values()))
    for name, evaluation in evaluations.items():
        if evaluation.k != first.k:
            raise ValueError(
                f"evaluations must be at one k ({first.k}), got {evaluation.k} for {name!r}"
            )
    return first


def _figure(evaluation: Evaluation, metric: str, level: float, random_state: Any) -> str:
    figure = f"{evaluation[metric]:.4f}"
    if metric not in evaluation.per_user:
        return figure
    low, high = evaluation.interval(metric, level, random_state=random_state)
    return f"{figure} [{low:.4f}, {high:.4f}]"
