"""Did a ratio fall? New figures against old ones, within the noise of both runs."""

from __future__ import annotations

import math
import sys
from typing import Any

from search_figures import AT_LEVEL

LEAST_NOISE = 0.03  # relative: what two quiet runs may differ by
HOW = ("vectors", "n_queries", "k", "metric", "filter", "threads", "seed")


def case_name(result: dict[str, Any]) -> str:
    """Return what was asked for, in one line: equal for results that may be compared."""
    options, shape = result["options"], result["vectors"]
    size = f"{shape['n_items']}x{shape['dim']}"
    return " ".join([size, *(f"{name}={options[name]}" for name in HOW)])


def noise(*rows: dict[str, Any]) -> float:
    """Return the relative noise of a ratio of ratios of these medians."""
    return max(LEAST_NOISE, math.hypot(*(row["spread"] for row in rows)))


def falls(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a line for each peer against which the ratio fell by more than the noise."""
    lines = _falls(old, new, "recengine", old["ratios"], new["ratios"])
    before, after = old.get("at_level"), new.get("at_level")
    if before and after and old["options"]["level"] == new["options"]["level"]:
        lines += _falls(old, new, AT_LEVEL, before["ratios"], after["ratios"])
    return lines


def _falls(
    old: dict[str, Any],
    new: dict[str, Any],
    mine: str,
    were: dict[str, float],
    are: dict[str, float],
) -> list[str]:
    lines = []
    for peer in were.keys() & are.keys():
        before, after = were[peer], are[peer]
        rows = [run["results"][name] for run in (old, new) for name in (mine, peer)]
        allowed = noise(*rows)
        if after < before * (1 - allowed):
            where = f" at {new['options']['level']}" if mine == AT_LEVEL else ""
            lines.append(
                f"{case_name(new)}{where}: ×{before:.2f} {peer} fell to ×{after:.2f} "
                f"({after / before - 1:+.0%}, noise {allowed:.0%})"
            )
    return sorted(lines)


def compare(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Print what fell; return 1 if anything did, 2 if the two have no case in common."""
    before = {case_name(case): case for case in old.get("cases", [old])}
    pairs = [
        (before[name], case)
        for case in new.get("cases", [new])
        if (name := case_name(case)) in before
    ]
    if not pairs:
        print("the old figures hold none of these cases", file=sys.stderr)
        return 2
    if len({case["machine"]["cpu"] for pair in pairs for case in pair}) > 1:
        print("the old figures are of another CPU", file=sys.stderr)
    lines = [line for pair in pairs for line in falls(*pair)]
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0
