"""The table of the factorization benchmark: every case in its own process, JSON, a plot, README.

    python benchmarks/factorize_table.py                     # an hour; rewrites benchmarks/results
    python benchmarks/factorize_table.py --quick --out FOLDER   # tiny, to see that it works

A case is a command line of factorize.py, kept in the JSON beside what it gave, so that any row can
be run alone. When the table goes to benchmarks/results, README is rewritten from it (report.py).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
LARGE = "synthetic:138000,27000,9400000"
ALL, EXACT = 15, 3  # epochs: to a loss, or enough for a time
WIDE = "--threads 2 --one-thread-epochs 2"
CASES = (
    *(
        (f"--dataset {dataset} --factors 64 --objective {objective} --threads 2", ALL)
        for dataset in ("ml-100k", LARGE)
        for objective in ("implicit", "ials")
    ),
    *(
        (
            f"--dataset {LARGE} --factors 128 --objective {objective} {WIDE} "
            "--solver cholesky --peer-solvers cholesky",
            EXACT,
        )
        for objective in ("ials", "implicit")
    ),
    (
        f"--dataset {LARGE} --factors 256 --objective ials {WIDE} "
        "--solver block --peer-solvers ialspp",
        EXACT,
    ),
)
QUICK = (LARGE, "synthetic:300,200,6000")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; needs --out")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases that contain it")
    parser.add_argument("--epochs", type=int, default=ALL, help="the most of a case")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--no-plot", action="store_true", help="do without matplotlib")
    options = parser.parse_args(arguments)
    if options.quick and options.out.resolve() == RESULTS:
        parser.error("tiny figures do not replace the committed ones: choose --out FOLDER")
    return options


def lines(options: argparse.Namespace) -> list[str]:
    """Return the command lines to be run."""
    chosen = [
        f"{line} --epochs {min(epochs, options.epochs)}"
        for line, epochs in CASES
        if options.only in line
    ]
    if not options.quick:
        return [f"{line} --memory all" for line in chosen]
    return [f"{line.replace(*QUICK)} --memory none --one-thread-epochs 2" for line in chosen]


def run(line: str) -> dict[str, Any]:
    """Run one case in a process of its own and return its report; a case that fails ends all."""
    command = [sys.executable, str(HERE / "factorize.py"), *shlex.split(line), "--json", "-"]
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=own)
    if not done.stdout:
        raise SystemExit(f"python benchmarks/factorize.py {line} gave nothing")
    result: dict[str, Any] = json.loads(done.stdout)
    return {"command": f"python benchmarks/factorize.py {line}"} | result


def collect(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run the cases; those of an older table that are not among them stay in it."""
    path = options.out / "factorize.json"
    kept = json.loads(path.read_text())["cases"] if options.only and path.exists() else []
    found = {case["command"].partition(" --epochs")[0]: case for case in kept}
    for line in lines(options):
        console.print(line, highlight=False, soft_wrap=True)
        case = run(line)
        found[case["command"].partition(" --epochs")[0]] = case
        failed = [name for name, held in case["holds"].items() if held is False]
        if failed:
            console.print(f"does not hold: {', '.join(failed)}", style="red")
    cases = list(found.values())
    return {"benchmark": "factorize-table", "machine": cases[-1]["machine"], "cases": cases}


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    report = collect(options, Console(stderr=True))
    (options.out / "factorize.json").write_text(json.dumps(report, indent=1) + "\n")
    if not options.no_plot:
        from factorize_plot import draw

        draw(report, options.out / "factorize.png")
    if options.out.resolve() == RESULTS:
        import report as readme

        readme.main([])
    return int(any(held is False for case in report["cases"] for held in case["holds"].values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
