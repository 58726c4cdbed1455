"""The command line as a whole: help that teaches, errors in one line, nothing heavy at the door."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import Result

from recengine import cli
from recengine.cli import app
from recengine.cli.app import in_words

COMMANDS = ("demo", "fetch", "fit", "recommend", "evaluate", "encode", "compress", "doctor")
Run = Callable[..., Result]


def test_help_lists_the_commands_and_no_others(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"│ {command} " in result.stdout
    assert sorted(info.callback.__name__ for info in app.registered_commands) == sorted(COMMANDS)


def test_no_arguments_is_help(run: Run) -> None:
    assert run().stdout.split() == run("--help").stdout.split()
    assert run().exit_code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_one_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.count("Example:") == 1
    assert f"recengine {command}" in result.stdout.partition("Example:")[2]
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_example_of_help_is_a_command_line_that_parses(command: str, run: Run) -> None:
    example = run(command, "--help").stdout.partition("Example:")[2].split()[2:]
    group = typer.main.get_command(app)
    group.commands[command].make_context(command, example)


def test_version(run: Run) -> None:
    from recengine import __version__

    assert run("--version").stdout == f"{__version__}\n"


def test_wrong_command_suggests_the_right_one(refused: Callable[..., str]) -> None:
    assert "Did you mean 'fit'?" in refused("fitt", code=2)


def test_wrong_option_points_to_help(refused: Callable[..., str]) -> None:
    assert "see recengine fit --help" in refused("fit", "a.csv", "b.rec", "--bogus", code=2)
    assert "see recengine --help" in refused("--bogus", code=2)


def test_missing_argument_is_named(refused: Callable[..., str]) -> None:
    assert "Missing argument 'ENGINE'" in refused("fit", "events.csv", code=2)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.rec"), "there is no file 'a.rec'"),
        (PermissionError(13, "Permission denied", "a.rec"), "Permission denied: 'a.rec'"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("of our own making"), "of our own making"),
        (ValueError("k must be >= 0"), "k must be >= 0"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_of_the_system_are_told_in_words(error: Exception, told: str) -> None:
    assert in_words(error) == told


def test_traceback_on_request(run: Run) -> None:
    result = run("--traceback", "recommend", "absent.rec", "1")
    assert isinstance(result.exception, FileNotFoundError)


def test_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import recengine.engine

    def broken(path: object) -> None:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(recengine.engine.Engine, "load", broken)
    assert isinstance(run("recommend", "x.rec", "1").exception, KeyError)


def test_interrupt_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import recengine.engine

    def interrupted(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recengine.engine.Engine, "load", interrupted)
    assert run("recommend", "x.rec", "1").exit_code == 130


def test_main_is_the_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.strip()


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, json, recengine.cli\n"
        "try: recengine.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    heavy = {"numpy", "scipy", "numba", "polars", "narwhals", "onnxruntime", "tokenizers", "onnx"}
    assert not loaded & heavy
