"""``recengine evaluate``, and figures on the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import recengine as rec
from recengine.cli.figures import figures_table, verdict
from recengine.cli.screen import console
from recengine.evaluation import Evaluation

Run = Callable[..., Result]
Refused = Callable[..., str]


def test_figures_are_those_of_python(folder: Path, run: Run) -> None:
    result = run("evaluate", folder / "events.csv", "--factors", 4, "-k", 5)
    assert result.exit_code == 0, result.output
    train, test = rec.Interactions.read(folder / "events.csv").split_last(1)
    als = rec.ALS(factors=4, random_state=0).fit(train)
    for name, engine in (
        ("als", rec.Engine.build(train, als)),
        ("popularity", rec.Engine.build(train)),
    ):
        users = test.users.ids
        found = rec.evaluate(engine.recommend(users, 5), test, users=users, train=train, k=5)
        low, high = found.interval("ndcg")
        row = next(line for line in result.stdout.splitlines() if line.startswith(f"{name} "))
        assert f"{found['ndcg']:.4f}  [{low:.4f}, {high:.4f}]" in row
        assert f"{found['mrr']:.4f}" in row
    assert "NDCG@5  [95 % interval]" in result.stdout
    assert "als − popularity" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_figures_are_those_of_the_solver(folder: Path, run: Run) -> None:
    line = ("--factors", 32, "--iterations", 2, "--solver", "block", "--block-size", 16)
    result = run("evaluate", folder / "events.csv", "--model", "als", *line)
    assert result.exit_code == 0, result.output
    train, test = rec.Interactions.read(folder / "events.csv").split_last(1)
    options = {"factors": 32, "iterations": 2, "random_state": 0}
    found, other = (
        rec.evaluate(
            rec.Engine.build(train, als.fit(train)).recommend(test.users.ids, 10),
            test, users=test.users.ids, train=train, k=10,
        )
        for als in (
            rec.ALS(**options, solver="block", block_size=16), rec.ALS(**options, cg_steps=1)
        )
    )  # fmt: skip
    assert f"{found['mrr']:.4f}" != f"{other['mrr']:.4f}"
    assert f"{found['mrr']:.4f}" in result.stdout


def test_split_time_counts_cold_users_apart(folder: Path, run: Run) -> None:
    result = run("evaluate", folder / "events.csv", "--split", "time", "--factors", 4)
    assert result.exit_code == 0, result.output
    assert "users without a history" in result.stdout
    assert "the same for every user" in result.stdout


def test_fraction_moves_the_cut(folder: Path, run: Run) -> None:
    line = ("evaluate", folder / "events.csv", "--split", "time", "--model", "popularity")
    assert "384 events to train on, 96 held out" in run(*line).stdout
    assert "240 events to train on, 240 held out" in run(*line, "--fraction", 0.5).stdout


def test_one_model_has_no_verdict(folder: Path, run: Run) -> None:
    result = run("evaluate", folder / "events.csv", "--model", "popularity")
    assert result.exit_code == 0
    assert "als" not in result.stdout


def test_options_that_would_be_ignored_are_refused(folder: Path, refused: Refused) -> None:
    line = ("evaluate", folder / "events.csv")
    assert "--fraction is about --split time" in refused(*line, "--fraction", 0.3, code=2)
    assert "--alpha is about --model als" in refused(
        *line, "--model", "popularity", "--alpha", 2, code=2
    )
    assert "--solver is about --model als" in refused(
        *line, "--model", "popularity", "--solver", "cg", code=2
    )
    told = refused(*line, "--solver", "cholesky", "--cg-steps", 2)
    assert told == "error: --cg-steps is about --solver cg, got 2\n"


def test_wrong_fraction(folder: Path, refused: Refused) -> None:
    line = refused("evaluate", folder / "events.csv", "--split", "time", "--fraction", 1.5)
    assert "fraction must be < 1, got 1.5" in line


def test_split_that_leaves_nothing(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "x.csv").write_text("user_id,item_id\n1,1\n2,2\n")
    line = refused("evaluate", tmp_path / "x.csv")
    assert "must leave events on both sides of the split, got 2 to train on and 0 to test" in line
    line = refused("evaluate", tmp_path / "x.csv", "--split", "time")
    assert "split_time needs timestamps" in line


def evaluation(values: list[float]) -> Evaluation:
    """Return an evaluation whose users have these values in one metric."""
    return Evaluation(
        k=10,
        users=np.arange(len(values)),
        per_user={"ndcg": np.array(values)},
        n_relevant=np.ones(len(values), np.int64),
        warm=None,
        catalogue=None,
    )


def printed(what: object) -> str:
    screen = console()
    with screen.capture() as captured:
        screen.print(what)
    return captured.get()


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        ([0.9] * 40, "als wins"),
        ([0.1] * 40, "popularity wins"),
        ([0.5] * 40, "the same for every user"),
        ([0.4, 0.6] * 20, "no clear winner"),
    ],
)
def test_verdict_says_who_wins(ours: list[float], word: str) -> None:
    both = {"als": evaluation(ours), "popularity": evaluation([0.5] * 40)}
    assert word in printed(verdict(both, "popularity", "ndcg"))


def test_best_figure_is_bold() -> None:
    both = {"worse": evaluation([0.2, 0.3]), "better": evaluation([0.4, 0.5])}
    made = figures_table(both, ["ndcg"])
    cells = list(made.columns[1].cells)
    styles = [[str(span.style) for span in cell.spans] for cell in cells]
    assert "bold green" not in styles[0]
    assert "bold green" in styles[1]
