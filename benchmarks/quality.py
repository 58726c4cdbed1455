"""Are the recommendations good? Models, seeds and splits on MovieLens 100K in one table.

    python benchmarks/quality.py --seeds 10

All items are ranked, seen items excluded, no sampled negatives. Ratings are the weights. The
seed draws the initial factors; implicit (exact solver) starts from the same ones. A figure is the
mean over seeds of each user's value, its interval a bootstrap over users.

Two splits. `split_last(1)`: each user's last event is to be found. `split_time(0.2)`: the last
fifth of all events; its users are mostly new, so warm users (with a history before the moment)
and cold ones (described by their first three events after it, folded in) stand apart.
The default settings were chosen on the second last event of each user, but not blindly: a wider
sweep had been looked at on these test events before. ALS and implicit share them.
The GRU, LSTM and SASRec are those of examples/ (left out without PyTorch), exported and run
by recengine. SASRec's rate was chosen on the second last event, after one figure on the last had
been seen; those of the recurrent nets were not tuned. Content is MiniLM's.
Exits with 1 where ALS is not within two standard errors of implicit or not 40 % above popularity.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import machine
import numpy as np
from quality_models import HAS_TORCH, Content, Implicit, Ours, Popularity, Sequence, content_vectors
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.sparse import csr_array

import recengine as rec
from recengine.data import load_ml_100k

K = 10
N_GIVEN = 3  # events that describe a cold user
MIN_ABOVE_POPULARITY = 0.40
TRAINED = {"gru": "GRU", "lstm": "LSTM", "sasrec": "SASRec"}
SETTINGS = ("seeds", "trained_seeds", "epochs", "factors", "regularization", "alpha", "iterations")
IALS = {
    "factors": 128,
    "objective": "ials",
    "regularization": 0.01,
    "unobserved_weight": 1.0,
    "frequency_exponent": 1.0,
    "iterations": 15,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--regularization", type=float, default=10.0)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--trained-seeds", type=int, default=3, help="of models by PyTorch")
    parser.add_argument("--epochs", type=int, help="of models by PyTorch; theirs when omitted")
    parser.add_argument("--folder", help="where ml-100k lies; fetched when omitted")
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    for name in ("seeds", "trained_seeds"):
        if (given := getattr(options, name)) < 2:
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} must be >= 2 for a standard error, got {given}")
    return options


def evaluate(
    user_vectors: Any, model: Any, seen: csr_array, users: Any, test: Any, train: Any
) -> rec.Evaluation:
    """Rank all items for `users` but the seen ones, against their events in `test`."""
    index = rec.FlatIndex(model.items, ids=test.items.ids, metric=model.metric)
    result = index.search(user_vectors, K, exclude=seen)
    return rec.evaluate(
        result, test, users=users, train=train, k=K, metrics=("ndcg", "recall", "hit_rate")
    )


def mean_over_seeds(parts: list[rec.Evaluation]) -> rec.Evaluation:
    """Return the evaluation in which each user has the mean of their values."""
    first = parts[0]
    per_user = {
        metric: np.mean([part.per_user[metric] for part in parts], axis=0)
        for metric in first.per_user
    }
    return rec.Evaluation(
        k=first.k,
        users=first.users,
        per_user=per_user,
        n_relevant=first.n_relevant,
        warm=first.warm,
        catalogue=None,
    )


def known_users(model: Any, train: Any, test: Any) -> rec.Evaluation:
    """Evaluate the users who have events in both splits."""
    matrix = train.to_csr()
    rows = np.flatnonzero(np.diff(matrix.indptr))
    return evaluate(model.known(rows), model, matrix[rows], train.users.ids[rows], test, train)


def cold_split(train: Any, test: Any) -> tuple[Any, Any, Any]:
    """Return (rows of the cold users, their first events, their other events)."""
    cold = np.bincount(train.user_indices, minlength=train.n_users) == 0
    indptr, order = test.by_user()
    counts = np.diff(indptr)
    place = np.arange(len(order)) - np.repeat(indptr[:-1], counts)
    is_cold = np.repeat(cold, counts)
    rows = np.flatnonzero(cold & (counts > N_GIVEN))
    given, rest = is_cold & (place < N_GIVEN), is_cold & (place >= N_GIVEN)
    return rows, test.select(order[given]), test.select(order[rest])


def cold_users(model: Any, split: tuple[Any, Any, Any]) -> rec.Evaluation:
    """Evaluate users whom only their first events describe."""
    rows, given, rest = split
    seen = given.to_csr()[rows]
    return evaluate(model.fold_in(given, rows), model, seen, given.users.ids[rows], rest, given)


def measure(options: argparse.Namespace, data: Any, console: Console) -> dict[str, Any]:
    """Return scenario -> model -> (evaluations by seed, losses by seed)."""
    settings = {
        name: getattr(options, name)
        for name in ("factors", "regularization", "alpha", "iterations")
    }
    vectors = content_vectors(data.items)
    makers = {
        "ALS": lambda train, seed: Ours(train, seed, settings),
        "implicit": lambda train, seed: Implicit(train, seed, settings),
        "ALS ials": lambda train, seed: Ours(train, seed, IALS),
        "content": lambda train, _: Content(train, vectors),
        "popularity": lambda train, _: Popularity(train),
    }
    seeds = dict.fromkeys(makers, options.seeds)
    for kind, name in TRAINED.items() if HAS_TORCH else ():
        makers[name] = lambda train, seed, kind=kind: Sequence(train, seed, kind, options.epochs)
        seeds[name] = options.trained_seeds
    last, by_time = data.interactions.split_last(1), data.interactions.split_time(0.2)
    cold = cold_split(*by_time)
    found: dict[str, Any] = {"last": {}, "time, warm": {}, "time, cold": {}}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("fitting", total=sum(seeds.values()))
        for name, make in makers.items():
            for seed in range(seeds[name]):
                model = make(last[0], seed)
                note(found["last"], name, known_users(model, *last), model.loss)
                model = make(by_time[0], seed)
                note(found["time, warm"], name, known_users(model, *by_time), model.loss)
                note(found["time, cold"], name, cold_users(model, cold), model.loss)
                progress.advance(task)
    return found


def note(scenario: dict[str, Any], name: str, evaluation: rec.Evaluation, loss: Any) -> None:
    evaluations, losses = scenario.setdefault(name, ([], []))
    evaluations.append(evaluation)
    losses.append(loss)


def figures(scenario: dict[str, Any]) -> dict[str, Any]:
    """Return model -> what is reported of it, each beside popularity."""
    means = {name: mean_over_seeds(evaluations) for name, (evaluations, _) in scenario.items()}
    rows = {}
    for name, (evaluations, losses) in scenario.items():
        by_seed = [evaluation["ndcg"] for evaluation in evaluations]
        beside = means[name].compare(means["popularity"], "ndcg")
        beside_als = means[name].compare(means["ALS"], "ndcg")
        rows[name] = {
            **means[name].figures,
            "ndcg_interval": means[name].interval("ndcg"),
            "ndcg_by_seed": by_seed,
            "ndcg_seed_error": float(np.std(by_seed, ddof=1) / np.sqrt(len(by_seed))),
            "difference": beside.difference,
            "difference_interval": beside.interval,
            "relative": beside.relative,
            "beside_als": beside_als.difference,
            "beside_als_interval": beside_als.interval,
            "n_users": means[name].n_users,
            "loss": None if losses[0] is None else float(np.mean(losses)),
        }
    return rows


def verdict(last: dict[str, Any]) -> dict[str, Any]:
    """Return what must hold on `split_last(1)`, and whether it does."""
    ours, peer = last["ALS"], last["implicit"]
    error = float(np.hypot(ours["ndcg_seed_error"], peer["ndcg_seed_error"]))
    apart = ours["ndcg"] - peer["ndcg"]
    return {
        "difference_to_implicit": apart,
        "two_standard_errors": 2 * error,
        "equals_implicit": abs(apart) <= 2 * error,
        "above_popularity": ours["relative"] >= MIN_ABOVE_POPULARITY
        and ours["difference_interval"].low > 0,
    }


def draw(title: str, rows: dict[str, Any]) -> Table:
    n_users = rows["popularity"]["n_users"]
    table = Table(title=f"{title}, {n_users} users", title_justify="left")
    for header in ("", f"NDCG@{K}", "95 %", "± seeds", f"recall@{K}", f"hit@{K}"):
        table.add_column(header, justify="right" if header else "left")
    for header in ("− popularity", "95 %", "relative", "− ALS", "95 %", "training loss"):
        table.add_column(header, justify="right")
    for name, row in rows.items():
        cells = [
            name,
            f"{row['ndcg']:.4f}",
            "{:.4f} … {:.4f}".format(*row["ndcg_interval"]),
            f"{row['ndcg_seed_error']:.4f}",
            f"{row['recall']:.4f}",
            f"{row['hit_rate']:.4f}",
        ]
        if name != "popularity":
            style = "[red]" if row["difference"] < 0 else ""
            low, high = row["difference_interval"]
            cells += [
                f"{style}{row['difference']:+.4f}",
                f"{low:+.4f} … {high:+.4f}",
                f"{row['relative']:+.0%}",
                f"{row['beside_als']:+.4f}",
                "{:+.4f} … {:+.4f}".format(*row["beside_als_interval"]),
                "" if row["loss"] is None else f"{row['loss']:.6f}",
            ]
        table.add_row(*cells)
    return table


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    console = Console(stderr=options.json == "-", width=None if sys.stdout.isatty() else 180)
    found = measure(options, load_ml_100k(options.folder), console)
    rows = {scenario: figures(models) for scenario, models in found.items()}
    held = verdict(rows["last"])
    titles = {
        "last": "split_last(1)",
        "time, warm": "split_time(0.2), warm",
        "time, cold": f"split_time(0.2), cold, {N_GIVEN} events folded in",
    }
    for scenario, title in titles.items():
        console.print(draw(title, rows[scenario]))
    console.print(
        f"ALS − implicit {held['difference_to_implicit']:+.5f}, two standard errors "
        f"{held['two_standard_errors']:.5f}: {'equal' if held['equals_implicit'] else 'NOT equal'}"
        f"; ALS {rows['last']['ALS']['relative']:+.0%} over popularity "
        f"(wanted: {MIN_ABOVE_POPULARITY:+.0%} and an interval without 0)"
    )
    for scenario, title in titles.items():
        behind = [name for name, row in rows[scenario].items() if row["difference"] < 0]
        if behind:
            console.print(f"{title}: popularity wins over {', '.join(behind)}")
    if options.json:
        report = {
            "benchmark": "quality",
            "options": {name: getattr(options, name) for name in SETTINGS},
            "ials": IALS,
            "scenarios": rows,
            "holds": held,
            "machine": machine.describe(),
        }
        text = json.dumps(report, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text)
    return 0 if held["equals_implicit"] and held["above_popularity"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
