"""What the evaluations of `quality.py` come to: rows, differences, verdicts, the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from quality_models import Ours
from quality_peers import Implicit
from quality_search import MODELS
from quality_splits import K, known_users, mean_over_seeds
from rich.table import Table

MIN_ABOVE_POPULARITY = 0.40
SAME = {"factors": 64, "regularization": 10.0, "alpha": 1.0, "iterations": 15}


def figures(scenario: dict[str, Any]) -> dict[str, Any]:
    """Return model -> what is reported of it, each beside popularity and ALS."""
    means = {name: mean_over_seeds(evaluations) for name, (evaluations, _) in scenario.items()}
    rows = {}
    for name, (evaluations, losses) in scenario.items():
        by_seed = [evaluation["ndcg"] for evaluation in evaluations]
        error = np.std(by_seed, ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else 0.0
        rows[name] = {
            "library": MODELS[name].library,
            **means[name].figures,
            "ndcg_interval": means[name].interval("ndcg"),
            "ndcg_by_seed": by_seed,
            "ndcg_seed_error": float(error),
            "n_users": means[name].n_users,
            "loss": None if losses[0] is None else float(np.mean(losses)),
        }
        beside = means[name].compare(means["popularity"], "ndcg")
        rows[name] |= {
            "difference": beside.difference,
            "difference_interval": beside.interval,
            "relative": beside.relative,
        }
        if "ALS" in means:
            beside = means[name].compare(means["ALS"], "ndcg")
            rows[name] |= {
                "beside_als": beside.difference,
                "beside_als_interval": beside.interval,
            }
    return rows


def beside_best_peer(scenario: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any] | None:
    """Return our model of the best validation beside the peer that is the best *here*.

    Ours is chosen before the test, the peer after it: that cannot favour us.
    """
    means = {name: mean_over_seeds(evaluations) for name, (evaluations, _) in scenario.items()}
    known = [name for name in means if name in tuned]
    ours = [name for name in known if MODELS[name].library == "recengine"]
    peers = [name for name in known if MODELS[name].library != "recengine"]
    if not ours or not peers:
        return None
    best = max(ours, key=lambda name: tuned[name]["ndcg"])
    peer = max(peers, key=lambda name: means[name]["ndcg"])
    found = means[best].compare(means[peer], "ndcg")
    low, high = found.interval
    return {
        "ours": best,
        "peer": peer,
        "difference": found.difference,
        "relative": found.relative,
        "low": low,
        "high": high,
    }


def kept_rows(path: Path, names: set[str]) -> dict[str, Any]:
    """Return scenario -> rows of `names` from older figures, each with the commit it is of."""
    if not names or not path.exists():
        return {}
    old = json.loads(path.read_text())
    commit, torch = old["machine"]["commit"], old["machine"]["versions"].get("torch")
    source = {"commit": commit, "torch": torch, "n_seeds": old["options"]["trained_seeds"]}
    return {
        scenario: {
            name: {"library": "recengine", "kept_from": source} | row
            for name, row in rows.items()
            if name in names
        }
        for scenario, rows in old["scenarios"].items()
    }


def parity(split: tuple[Any, Any], n_seeds: int) -> dict[str, list[float]]:
    """Return NDCG by seed of ALS and implicit, same settings, same initial factors, exact."""
    makers = {
        "ours": lambda seed: Ours(split[0], seed, SAME),
        "peer": lambda seed: Implicit(split[0], seed, SAME | {"use_cg": False}),
    }
    return {
        name: [known_users(make(seed), *split)["ndcg"] for seed in range(n_seeds)]
        for name, make in makers.items()
    }


def verdict(last: dict[str, Any], found: dict[str, list[float]]) -> dict[str, Any]:
    """Return what must hold on `split_last(1)`, and whether it does."""
    n, values = len(found["ours"]), (found["ours"], found["peer"])
    error = float(np.hypot(*(np.std(one, ddof=1) for one in values)) / np.sqrt(n))
    apart = float(np.mean(values[0]) - np.mean(values[1]))
    return {
        "same_settings": SAME,
        "difference_to_implicit": apart,
        "two_standard_errors": 2 * error,
        "equals_implicit": abs(apart) <= 2 * error,
        "above_popularity": last["ALS"]["relative"] >= MIN_ABOVE_POPULARITY
        and last["ALS"]["difference_interval"][0] > 0,
    }


def draw(title: str, rows: dict[str, Any]) -> Table:
    """Return a scenario as a table, the best first."""
    n_users = rows["popularity"]["n_users"]
    table = Table(title=f"{title}, {n_users} users", title_justify="left")
    for header in ("", f"NDCG@{K}", "95 %", "± seeds", f"recall@{K}", f"hit@{K}"):
        table.add_column(header, justify="right" if header else "left")
    for header in ("− popularity", "95 %", "relative", "− ALS", "95 %", "training loss"):
        table.add_column(header, justify="right")
    for name, row in sorted(rows.items(), key=lambda pair: -pair[1]["ndcg"]):
        cells = [
            name + (" (kept)" if "kept_from" in row else ""),
            f"{row['ndcg']:.4f}",
            "{:.4f} … {:.4f}".format(*row["ndcg_interval"]),
            f"{row['ndcg_seed_error']:.4f}",
            f"{row['recall']:.4f}",
            f"{row['hit_rate']:.4f}",
        ]
        if name != "popularity":
            style = "[red]" if row["difference"] < 0 else ""
            cells += [
                f"{style}{row['difference']:+.4f}",
                "{:+.4f} … {:+.4f}".format(*row["difference_interval"]),
                f"{row['relative']:+.0%}",
                f"{row['beside_als']:+.4f}",
                "{:+.4f} … {:+.4f}".format(*row["beside_als_interval"]),
                "" if row["loss"] is None else f"{row['loss']:.6f}",
            ]
        table.add_row(*cells, style="bold" if row["library"] == "recengine" else "")
    return table
