"""The quality benchmark in README: every model in every scenario, ours beside the peers."""

from __future__ import annotations

from typing import Any

SCENARIOS = {
    "last": "last event of each user",
    "time, warm": "last fifth in time, users with a history",
    "time, cold": "last fifth in time, new users (3 events folded in)",
}


def section(report: dict[str, Any]) -> list[str]:
    """Return the section without where its figures come from, losses included."""
    options, scenarios = report["options"], report["scenarios"]
    models = sorted(scenarios["last"], key=lambda name: -scenarios["last"][name]["ndcg"])
    lines = [
        "### Recommendations on MovieLens 100k",
        "",
        "NDCG@10 over all films, none sampled, seen ones left out; mean over "
        f"{options['seeds']} seeds where a model draws, in brackets the 95 % bootstrap interval "
        "over users; ours have bold names. Settings: of every model, ours or a peer's, the best of "
        f"{report['budget']} random ones on the last events of the training part, for each split "
        "by itself; tested once. *content* is MiniLM over titles and genres, untrained; GRU, LSTM "
        "and SASRec are those of examples/, exported and run by `rec.TwoTower`, with settings of "
        "their own.",
        "",
        "| | "
        + " | ".join(f"{SCENARIOS[name]}, {n_users(scenarios[name])} users" for name in SCENARIOS)
        + " |",
        "|---" * (1 + len(SCENARIOS)) + "|",
    ]
    for model in models:
        cells = [_ndcg(scenarios[name], model) for name in SCENARIOS]
        lines.append(f"| {_owned(model, scenarios['last'])} | {' | '.join(cells)} |")
    cells = [_difference(scenarios[name]["ALS"], "difference") for name in SCENARIOS]
    lines.append(f"| ALS over popularity | {' | '.join(cells)} |")
    cells = [_beside_peer(report["beside_best_peer"][name]) for name in SCENARIOS]
    lines.append(f"| our best over the best peer | {' | '.join(cells)} |")
    return [*lines, "", *verdicts(report)]


def command(options: dict[str, Any]) -> str:
    """Return the command line that makes the figures, from the settings that were chosen."""
    return f"quality.py --seeds {options['seeds']} --trained-seeds {options['trained_seeds']}"


def n_users(rows: dict[str, Any]) -> int:
    """Return how many users a scenario has."""
    return int(rows["popularity"]["n_users"])


def _owned(model: str, rows: dict[str, Any]) -> str:
    return model if rows[model]["library"] != "recengine" else f"**{model}**"


def _ndcg(rows: dict[str, Any], model: str) -> str:
    if model not in rows:
        return "cannot"
    best = max(row["ndcg"] for row in rows.values())
    low, high = rows[model]["ndcg_interval"]
    figure = f"{rows[model]['ndcg']:.4f}"
    bold = f"**{figure}**" if rows[model]["ndcg"] == best else figure
    return f"{bold} ({low:.3f} … {high:.3f})"


def _difference(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:+.4f} ({low:+.3f} … {high:+.3f})"


def _beside_peer(found: dict[str, Any]) -> str:
    names = f"{found['ours']}, {found['peer']}"
    return f"{found['difference']:+.4f} ({found['low']:+.3f} … {found['high']:+.3f}): {names}"


def verdicts(report: dict[str, Any]) -> list[str]:
    """Say in words where popularity wins, where nothing can be told, and what was kept."""
    behind, open_ = [], []
    for name, title in SCENARIOS.items():
        row = report["scenarios"][name]["ALS"]
        low, high = row["difference_interval"]
        if row["difference"] < 0:
            behind.append(title)
        if low < 0 < high:
            open_.append(title)
    lines = [
        "Our best is chosen on validation, the best peer on the test itself, which cannot favour "
        "us. *cannot*: the model has no answer for a new user."
    ]
    if behind:
        lines.append(f"Popularity beats ALS on: {'; '.join(behind)}.")
    if open_:
        lines.append(f"The interval of ALS over popularity holds 0 on: {'; '.join(open_)}.")
    kept = {
        name: row["kept_from"]
        for name, row in report["scenarios"]["last"].items()
        if "kept_from" in row
    }
    if kept:
        about = next(iter(kept.values()))
        lines.append(
            f"{', '.join(kept)}: figures of commit {about['commit'][:10]} with torch "
            f"{about['torch']}, {about['n_seeds']} seeds, not run anew. SASRec's rate was chosen "
            "on the second last event of each user, after one look at the test events; the "
            "recurrent nets were not tuned."
        )
    if "sgd" in report:
        found = report["sgd"]
        lines.append(
            f"`rec.SGD` on ratings: RMSE {found['rmse']:.4f} over {len(found['by_fold'])} random "
            f"folds ({min(found['by_fold']):.4f} … {max(found['by_fold']):.4f}); biases alone "
            f"{found['biases']:.4f}."
        )
    return lines
