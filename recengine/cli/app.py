"""The commands by name, and errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recengine._errors import RecengineError
from recengine.cli.compress import compress
from recengine.cli.demo.command import demo
from recengine.cli.doctor import doctor
from recengine.cli.encode import encode
from recengine.cli.evaluate import evaluate
from recengine.cli.fetch import fetch
from recengine.cli.fit import fit
from recengine.cli.recommend import recommend

# What bad input, missing files and missing packages raise: told in one line. Anything else is a
# bug of ours and keeps its traceback.
EXPECTED = (RecengineError, ValueError, OSError, ImportError)
INTERRUPTED = 130

# typer has its own copy of click since 0.26: the class of usage errors is found through typer.
UsageProblem: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class OneLineErrors(TyperGroup):
    """A group of commands whose errors are one line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what its input did wrong ends in exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except EXPECTED as error:
            if ctx.params.get("traceback"):
                raise
            say_error(in_words(error))
            raise typer.Exit(1) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; a wrong command line ends in exit code 2."""

        def run() -> Any:
            return super(OneLineErrors, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        if not standalone_mode:
            return run()
        try:
            code = run()
        except UsageProblem as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "recengine"
            say_error(f"{error.format_message().rstrip('.')}; see {command} --help")
            sys.exit(error.exit_code)
        except typer.Abort:
            say_error("interrupted")
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def in_words(error: Exception) -> str:
    """Return what an error says, without the numbers that the system gives its own."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return error.strerror
        name = str(error.filename)
        missing = isinstance(error, FileNotFoundError)
        return f"there is no file {name!r}" if missing else f"{error.strerror}: {name!r}"
    return str(error) or type(error).__name__


def say_error(message: str) -> None:
    """Print one line on standard error."""
    typer.secho("error: ", err=True, nl=False, fg="red", bold=True)
    typer.echo(" ".join(message.split()), err=True)


app = typer.Typer(
    name="recengine",
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    invoke_without_command=True,
    epilog="Start with [bold]recengine demo[/bold]: real recommendations on real data, explained.",
)
def _recengine(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from.")
    ] = False,
) -> None:
    """Recommend, search and rank, exactly: factors, vectors and ONNX encoders in one engine."""
    del traceback  # read by OneLineErrors, when there is an error
    if version:
        from recengine import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add(command: Any, example: str) -> None:
    app.command(epilog=f"[dim]Example:[/dim]  [bold]{example}[/bold]")(command)


_add(demo, "recengine demo")
_add(fetch, "recengine fetch ml-100k")
_add(fit, "recengine fit events.csv shop.rec --factors 64 --items products.csv")
_add(recommend, "recengine recommend shop.rec 42 -k 5")
_add(evaluate, "recengine evaluate events.csv --split time --model als --model popularity")
_add(encode, "recengine encode products.parquet products.rec --column title --id-column id")
_add(compress, "recengine compress model.onnx small.onnx products.csv --column title")
_add(doctor, "recengine doctor")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    app(None if arguments is None else list(arguments), prog_name="recengine")
