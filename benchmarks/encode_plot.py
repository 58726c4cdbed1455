"""The encode benchmark as a picture: texts a second, and what a query costs over the bare call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from encode_page import KINDS, chosen
from matplotlib.figure import Figure

COLOURS = ("#c0392b", "#2c3e50", "#2980b9", "#27ae60", "#f39c12")


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture to `path`; the same figures give the same bytes."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    bars, lines = figure.subplots(1, 2)
    cases = chosen(report, "throughput")
    names = list(cases[0]["results"])
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        rates = [case["results"][name]["texts_per_second"] for case in cases]
        bars.bar(np.arange(len(cases)) + 0.17 * number, rates, 0.16, color=colour, label=name)
    labels = [f"{KINDS[case['texts']]}\n{case['threads']} thread(s)" for case in cases]
    bars.set_xticks(np.arange(len(cases)) + 0.3, labels, fontsize=8)
    bars.set_yscale("log")
    bars.set_ylabel("texts a second")
    bars.legend(frameon=False, fontsize=8)
    cases = chosen(report, "latency")
    tokens = [case["n_tokens"] for case in cases]
    names = [name for name in cases[0]["over_bare"] if name != "bare call"]
    for name, colour in zip(names, COLOURS, strict=False):
        over = [case["over_bare"][name] for case in cases]
        lines.plot(tokens, over, "o-", ms=3, color=colour, label=name)
    lines.axhline(1.0, color="#999999", lw=1)
    lines.axhline(1.1, color="#999999", lw=1, ls=":")
    lines.set_xscale("log", base=2)
    lines.set_xlabel("tokens of one query")
    lines.set_ylabel("p50 over the bare call of a session")
    lines.legend(frameon=False, fontsize=8)
    for axis in (bars, lines):
        axis.grid(alpha=0.3, axis="y")
    machine = report["machine"]
    figure.suptitle(f"{report['model']}, {report['device']}, {machine['cpu']}", fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": f"matplotlib {mpl.__version__}"})
