"""The online benchmark as tables of README."""

from __future__ import annotations

from typing import Any

TITLES = {
    "recengine": "recengine",
    "recengine, warm": "recengine, one more event of a user kept warm",
    "recengine, observe alone": "recengine, the event alone",
    "recengine, requests meanwhile": "recengine, requests beside a publication",
    "implicit": "implicit",
}


def section(report: dict[str, Any]) -> list[str]:
    """Return a row for each case and library: microseconds."""
    lines = ["| what | who | p50, µs | p99 | p99.9 |", "|---|---|--:|--:|--:|"]
    for case in report["cases"]:
        for name, row in case["us"].items():
            who = f"**{TITLES[name]}**" if name == "recengine" else TITLES[name]
            cells = [about(case), who, *(f"{row[each]:,.1f}" for each in ("p50", "p99", "p99.9"))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def about(case: dict[str, Any]) -> str:
    """Return what a case is, in a few words."""
    if case["case"] == "fold_in":
        return f"a user of {case['events']} events"
    if case["case"] == "next_list":
        return f"an event, then the best {case['k']}"
    return f"{case['items']:,} items published"


def sentences(report: dict[str, Any]) -> str:
    """Return what a publication takes, and how many answers were wrong."""
    case = next(case for case in report["cases"] if case["case"] == "publication")
    seconds, wrong = case["seconds"], sum(case["wrong"] for case in report["cases"])
    return (
        f"Solving {case['items']} items anew and publishing them takes {seconds['recengine']:.2f} "
        f"s, index, lists of their users and all; implicit's new factors alone "
        f"{seconds['implicit']:.2f} s. Answers that were wrong: {wrong}."
    )
