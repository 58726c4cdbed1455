"""One case of the factorization benchmark: engines, interleaved rounds, what must hold."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import machine
import numpy as np
from factorize_data import load
from factorize_engines import Problem, Yardstick
from factorize_page import OURS
from factorize_peers import CORE, SOLVERS, WORKER, Remote, make, own_environment
from search_figures import summary
from search_peers import wants_other_core

EQUAL = 1e-5  # exact solvers from equal factors: relative difference of their losses
RISE = 1e-6  # of a loss from one epoch to the next, relative: rounding
WORSE = 1e-3  # of an inexact solver's last loss beyond the peers' worst, relative
SPARE = 200e6  # bytes of memory beside the factors and one transposed copy
TRIAL = 2  # epochs that choose the BLAS kernels of a peer


@dataclass
class Entry:
    """An engine in the rounds, and what they gave."""

    library: str
    solver: str
    threads: int
    engine: Any
    blas: str | None
    seconds: list[float]
    losses: list[float]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the case that `options` (factorize.py's) describe and return its report."""
    matrix = load(options.dataset, options.seed, options.folder)
    problem = Problem(*(getattr(options, name) for name in Problem.__dataclass_fields__))
    entries = enter(options, problem, matrix)
    yardstick = Yardstick(problem, matrix, options.threads)
    start = problem.start(matrix.shape, options.seed)
    try:
        rounds(entries, start, yardstick, options)
    finally:
        for entry in entries:
            entry.engine.close()
    rows = [row(entry) for entry in entries]
    add_memory(rows, options, problem, matrix)
    add_ratios(rows, options)
    return {
        "benchmark": "factorize",
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "machine": machine.describe(),
        "matrix": {"n_users": matrix.shape[0], "n_items": matrix.shape[1], "entries": matrix.nnz},
        "results": rows,
        "holds": holds(rows),
    }


def enter(options: argparse.Namespace, problem: Problem, matrix: Any) -> list[Entry]:
    """Make the engines: ours with each solver, the peers', all of them on one thread too."""
    wanted = [(OURS, solver) for solver in options.solver]
    for library in options.peers:
        known = SOLVERS[options.objective, library]
        wanted += [(library, solver) for solver in known if solver in options.peer_solvers]
    entries = []
    for threads in sorted({options.threads, 1}, reverse=True):
        for library, solver in wanted:
            engine, blas = make(library, problem, matrix, solver, threads), None
            if library == "implicit":
                engine, blas = better_blas(
                    engine, given(options, problem, library, solver, threads)
                )
            entries.append(Entry(library, solver, threads, engine, blas, [], []))
    return entries


def given(
    options: argparse.Namespace, problem: Problem, library: str, solver: str, threads: int
) -> dict[str, Any]:
    """Return what factorize_worker.py needs to make the same engine."""
    return {
        "library": library,
        "solver": solver,
        "threads": threads,
        "problem": asdict(problem),
        "memory": False,
        **{name: getattr(options, name) for name in ("dataset", "seed", "folder", "epochs")},
    }


def better_blas(engine: Any, what: dict[str, Any]) -> tuple[Any, str]:
    """Return the faster of `engine` and itself with OpenBLAS's other kernels, and the kernels."""
    if not wants_other_core():
        return engine, "chosen by OpenBLAS"
    matrix_of, problem = load(what["dataset"], what["seed"], what["folder"]), what["problem"]
    start = Problem(**problem).start(matrix_of.shape, what["seed"])
    remote = Remote(what, {"OPENBLAS_CORETYPE": CORE})
    times = []
    for one in (engine, remote):
        one.reset(*start, TRIAL)
    for one in [engine, remote] * TRIAL:
        times.append(one.epoch())
    if min(times[3::2]) < min(times[2::2]):  # the first epochs transpose
        return remote, CORE
    remote.close()
    return engine, "chosen by OpenBLAS"


def rounds(
    entries: list[Entry], start: tuple[Any, Any], yardstick: Yardstick, options: argparse.Namespace
) -> None:
    """Let every engine run one epoch a round, in turn; engines on one thread end earlier.

    Before that each has run one epoch: code is compiled and loaded then, not in the rounds.
    """
    for entry in entries:
        entry.engine.reset(*start, 1)
        entry.engine.epoch()
    for entry in entries:
        entry.engine.reset(*start, n_epochs(entry, options))
    for number in range(options.epochs):
        for entry in entries:
            if number < n_epochs(entry, options):
                entry.seconds.append(entry.engine.epoch())
                if entry.threads == options.threads or entry.library == OURS:
                    entry.losses.append(entry.engine.loss(yardstick))


def n_epochs(entry: Entry, options: argparse.Namespace) -> int:
    """Return how many epochs an engine runs: a few are enough for its time on one thread."""
    few = min(options.epochs, options.one_thread_epochs)
    return options.epochs if entry.threads == options.threads else few


def row(entry: Entry) -> dict[str, Any]:
    """Return an engine's figures; an epoch's leave out the first, which takes in preparations."""
    times = summary([1000 * value for value in entry.seconds[1:]])
    return {
        "library": entry.library,
        "solver": entry.solver,
        "threads": entry.threads,
        "blas": entry.blas,
        "epoch_s": times["median_ms"] / 1000,
        "min_s": times["min_ms"] / 1000,
        "spread": times["spread"],
        "seconds": [round(value, 5) for value in entry.seconds],
        "losses": entry.losses,
    }


def add_memory(
    rows: list[dict[str, Any]], options: argparse.Namespace, problem: Problem, matrix: Any
) -> None:
    """Add the rise of the peak, each in a process of its own, and the bound for ours."""
    bound = 4 * problem.factors * sum(matrix.shape) + 8 * matrix.nnz + 8 * matrix.shape[1] + SPARE
    for one in rows:
        is_wanted = options.memory == "all" or (options.memory, one["library"]) == ("ours", OURS)
        if one["threads"] != options.threads or not is_wanted:
            continue
        what = given(options, problem, one["library"], one["solver"], one["threads"])
        command = [sys.executable, str(WORKER), json.dumps(what | {"memory": True}), "."]
        done = subprocess.run(
            command, env=own_environment(), stdout=subprocess.PIPE, text=True, check=True
        )
        one["memory_bytes"] = json.loads(done.stdout)
        one["memory_bound"] = int(bound)


def add_ratios(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Add to our rows: one thread's time over this one's, and each peer's time over ours."""
    full = [one for one in rows if one["threads"] == options.threads]
    for one in full:
        for other in rows:
            same = all(other[name] == one[name] for name in ("library", "solver"))
            if same and other["threads"] == 1 and options.threads > 1:
                one["faster_than_one_thread"] = other["epoch_s"] / one["epoch_s"]
    for mine in (one for one in full if one["library"] == OURS):
        mine["beside"] = {
            f"{peer['library']} {peer['solver']}": beside(mine, peer)
            for peer in full
            if peer["library"] != OURS
        }


def beside(mine: dict[str, Any], peer: dict[str, Any]) -> dict[str, Any]:
    """Return a peer's epoch over ours, and what its last loss takes us and takes it."""
    target = peer["losses"][-1] * (1 + EQUAL)
    reached = np.flatnonzero(np.array(mine["losses"]) <= target)
    found: dict[str, Any] = {"epoch_ratio": peer["epoch_s"] / mine["epoch_s"]}
    found |= {"its_loss": peer["losses"][-1], "its_seconds": sum(peer["seconds"])}
    if not len(reached):
        return found | {"our_epochs": None, "our_seconds": None, "ratio": None}
    n = int(reached[0]) + 1
    seconds = sum(mine["seconds"][:n])
    return found | {
        "our_epochs": n,
        "our_seconds": seconds,
        "ratio": found["its_seconds"] / seconds,
    }


def holds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what must hold, each with the figure that says so."""
    most = max(one["threads"] for one in rows)
    full = [one for one in rows if one["threads"] == most]
    ours = [one for one in full if one["library"] == OURS]
    others = [one for one in full if one["library"] != OURS]
    exact = [np.array(one["losses"]) for one in full if one["solver"] == "cholesky"]
    apart = max((float(abs(one / exact[0] - 1).max()) for one in exact), default=0.0)
    if not any(one["solver"] == "cholesky" for one in ours):
        apart = 0.0
    rise = max(float(np.max(np.diff(one["losses"]) / one["losses"][0])) for one in ours)
    worst = max((one["losses"][-1] for one in others), default=np.inf)
    last = max(one["losses"][-1] for one in ours)
    same = True
    for one in ours:
        for other in rows:
            if (other["library"], other["solver"]) == (OURS, one["solver"]):
                n = min(len(one["losses"]), len(other["losses"]))
                same &= one["losses"][:n] == other["losses"][:n]
    known = [one for one in ours if one.get("memory_bytes") is not None]
    memory = all(one["memory_bytes"] <= one["memory_bound"] for one in known)
    return {
        "exact_losses_apart": apart,
        "exact_losses_equal": apart <= EQUAL,
        "losses_fall": rise <= RISE,
        "as_good_as_peers": bool(last <= worst * (1 + WORSE)),
        "same_at_any_threads": same,
        "memory_within_bound": memory,
    }
