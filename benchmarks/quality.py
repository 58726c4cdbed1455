"""Are the recommendations good? Models, seeds and splits on MovieLens 100K in one table.

    python benchmarks/quality.py --tune                   # searches settings and keeps them
    python benchmarks/quality.py --seeds 10 --json FILE   # tests with them, once

All items are ranked, seen items excluded, no sampled negatives. A figure is the mean over seeds of
each user's value, its interval a bootstrap over users; models that draw nothing have one seed.

Two splits. `split_last(1)`: each user's last event is to be found. `split_time(0.2)`: the last
fifth of all events; its users are mostly new, so warm users (with a history before the moment)
and cold ones (described by their first three events after it, folded in) stand apart. For either
split every model's settings were chosen by the same number of random configurations on the last
events of its train part (quality_search.py), ours and peers' alike.

GRU, LSTM and SASRec are those of examples/, exported and run by recengine; without PyTorch their
rows are taken over from the committed figures, with the commit that they are of. SASRec's rate was
chosen on the second last event, after one figure on the last had been seen; those of the recurrent
nets were not tuned. Content is MiniLM's, untrained.
Exits with 1 where ALS is not within two standard errors of implicit with the same settings from the
same factors, or not 40 % above popularity.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import machine
from quality_figures import beside_best_peer, draw, figures, kept_rows, parity, verdict
from quality_models import content_vectors
from quality_ratings import folds
from quality_search import MODELS, TRAINED, tune
from quality_splits import N_GIVEN, cold_split, cold_users, known_users
from rich.console import Console
from rich.progress import Progress

from recengine.data import load_ml_100k

RESULTS = Path(__file__).resolve().parent / "results"
SETTINGS = ("seeds", "trained_seeds", "epochs")
TITLES = {
    "last": "split_last(1)",
    "time, warm": "split_time(0.2), warm",
    "time, cold": f"split_time(0.2), cold, {N_GIVEN} events folded in",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="search settings instead of testing")
    parser.add_argument("--budget", type=int, default=24, help="configurations of each model")
    parser.add_argument("--models", help=f"comma-separated, of {', '.join(MODELS)}")
    parser.add_argument("--tuned", type=Path, default=RESULTS / "quality_tuned.json")
    parser.add_argument("--kept", type=Path, default=RESULTS / "quality.json", help="older figures")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trained-seeds", type=int, default=3, help="of models by PyTorch")
    parser.add_argument("--epochs", type=int, help="of models by PyTorch; theirs when omitted")
    parser.add_argument("--folder", help="where ml-100k lies; fetched when omitted")
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - for stdout")
    options = parser.parse_args(arguments)
    for name, least in (("seeds", 2), ("trained_seeds", 2), ("budget", 1)):
        if (given := getattr(options, name)) < least:
            parser.error(f"--{name.replace('_', '-')} must be >= {least}, got {given}")
    options.models = list(MODELS) if options.models is None else options.models.split(",")
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"--models must be of {', '.join(MODELS)}, got {', '.join(sorted(unknown))}")
    return options


def search(options: argparse.Namespace, splits: dict[str, Any], console: Console) -> int:
    """Tune the models; write what was chosen, beside what the file says of other models."""
    names = [name for name in options.models if MODELS[name].space is not None]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("searching", total=len(names) * len(splits) * options.budget)
        for name in names:
            for split, (train, _) in splits.items():
                best = tune(name, train, options.budget, lambda: progress.advance(task))
                path = options.tuned
                found = json.loads(path.read_text()) if path.exists() else {}
                found.setdefault(split, {})[name] = best
                path.write_text(json.dumps(found, indent=1) + "\n")
                console.print(f"{name}, {split}: {best['ndcg']:.4f} {best['settings']}")
    return 0


def measure(
    options: argparse.Namespace, data: Any, splits: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Return scenario -> model -> (evaluations by seed, losses by seed)."""
    tuned = json.loads(options.tuned.read_text())
    vectors = content_vectors(data.items) if "content" in options.models else None
    given = {"vectors": vectors, "epochs": options.epochs}
    cold = cold_split(*splits["time"])
    found: dict[str, Any] = {name: {} for name in TITLES}
    seeds = {name: n_seeds(name, options) for name in options.models}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("fitting", total=2 * sum(seeds.values()))
        for name in options.models:
            for split, (train, test) in splits.items():
                settings = settings_of(name, split, tuned) | given
                if MODELS[name].space is not None:
                    settings = settings_of(name, split, tuned)
                for seed in range(seeds[name]):
                    model = MODELS[name].make(train, seed, settings)
                    warm = "last" if split == "last" else "time, warm"
                    note(found[warm], name, known_users(model, train, test), model.loss)
                    if split == "time" and (new := cold_users(model, cold)) is not None:
                        note(found["time, cold"], name, new, model.loss)
                    progress.advance(task)
    return found


def n_seeds(name: str, options: argparse.Namespace) -> int:
    """Return how many fits of a model are tested."""
    if name in TRAINED:
        return int(options.trained_seeds)
    return int(options.seeds) if MODELS[name].draws else 1


def settings_of(name: str, split: str, tuned: dict[str, Any]) -> dict[str, Any]:
    """Return what a model is made with: what was chosen for a split, and what is fixed."""
    kind = MODELS[name]
    return kind.settings({} if kind.space is None else tuned[split][name]["settings"])


def note(scenario: dict[str, Any], name: str, evaluation: Any, loss: Any) -> None:
    evaluations, losses = scenario.setdefault(name, ([], []))
    evaluations.append(evaluation)
    losses.append(loss)


def report(
    options: argparse.Namespace, data: Any, splits: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Return the figures of all models in all scenarios."""
    found = measure(options, data, splits, console)
    tuned = json.loads(options.tuned.read_text())
    rows = {scenario: figures(models) for scenario, models in found.items()}
    for scenario, kept in kept_rows(options.kept, set(TRAINED) - set(options.models)).items():
        rows[scenario] |= kept
    holds = verdict(rows["last"], parity(splits["last"], options.seeds))
    return {
        "benchmark": "quality",
        "options": {name: getattr(options, name) for name in SETTINGS},
        "budget": len(tuned["last"]["ALS"]["tried"]),
        "settings": {
            split: {name: settings_of(name, split, tuned) for name in options.models}
            for split in splits
        },
        "scenarios": rows,
        "beside_best_peer": {
            scenario: beside_best_peer(models, tuned["last" if scenario == "last" else "time"])
            for scenario, models in found.items()
        },
        "sgd": folds(data.interactions),
        "holds": holds,
        "machine": machine.describe(),
    }


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    console = Console(stderr=options.json == "-", width=None if sys.stdout.isatty() else 180)
    data = load_ml_100k(options.folder)
    events = data.interactions
    splits = {"last": events.split_last(1), "time": events.split_time(0.2)}
    if options.tune:
        return search(options, splits, console)
    found = report(options, data, splits, console)
    for scenario, title in TITLES.items():
        console.print(draw(title, found["scenarios"][scenario]))
        if best := found["beside_best_peer"][scenario]:
            console.print(
                "{ours} (chosen on validation) − {peer} (best peer here): {difference:+.4f} "
                "({low:+.4f} … {high:+.4f})".format_map(best)
            )
    held, ratings = found["holds"], found["sgd"]
    console.print(
        f"SGD, RMSE of {ratings['folds']} random folds: {ratings['rmse']:.4f} "
        f"({', '.join(f'{value:.4f}' for value in ratings['by_fold'])}); biases alone "
        f"{ratings['biases']:.4f}"
    )
    console.print(
        f"ALS − implicit, same settings: {held['difference_to_implicit']:+.5f}, two standard "
        f"errors {held['two_standard_errors']:.5f}; holds: equal {held['equals_implicit']}, "
        f"above popularity {held['above_popularity']}"
    )
    text = json.dumps(found, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    elif options.json:
        Path(options.json).write_text(text)
    return 0 if held["equals_implicit"] and held["above_popularity"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
