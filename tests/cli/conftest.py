"""What the tests of the command line share: a way to run it, and small files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from recengine.cli import app

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def run() -> Run:
    """Return a function that runs a command line in this process, 100 columns wide."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})

    def call(*arguments: object) -> Result:
        return runner.invoke(app, [str(each) for each in arguments], prog_name="recengine")

    return call


@pytest.fixture(scope="session")
def refused(run: Run) -> Callable[..., str]:
    """Return a function that runs what must fail, and gives the one line that it says."""

    def call(*arguments: object, code: int = 1) -> str:
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr

    return call


def write_events(path: Path, *, strings: bool = False) -> Path:
    """Write 60 users' events: two groups of tastes, so that there is something to learn."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,weight,datetime"]
    prefix = ("u", "i") if strings else ("", "")
    for user in range(60):
        liked = rng.permutation(20)[:8] + 20 * (user % 2)
        for number, item in enumerate(liked):
            moment = 1_600_000_000 + 1000 * user + number
            lines.append(f"{prefix[0]}{user},{prefix[1]}{item},{rng.integers(1, 6)},{moment}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with events.csv, named.csv (str ids), items.csv and engines of both."""
    home = tmp_path_factory.mktemp("cli")
    write_events(home / "events.csv")
    write_events(home / "named.csv", strings=True)
    rows = [f"{item},Film [{item}],{1950 + item}" for item in range(39)]  # one is not described
    (home / "items.csv").write_text("\n".join(["item_id,title,year", *rows]) + "\n")
    return home


@pytest.fixture(scope="session")
def engine(folder: Path, run: Run) -> Path:
    """Return an engine file over int ids, with titles."""
    path = folder / "shop.rec"
    result = run("fit", folder / "events.csv", path, "--items", folder / "items.csv")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def named_engine(folder: Path, run: Run) -> Path:
    """Return an engine file over str ids."""
    path = folder / "named.rec"
    result = run("fit", folder / "named.csv", path, "--factors", 8)
    assert result.exit_code == 0, result.output
    return path
