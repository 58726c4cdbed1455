"""The factorization benchmark as a picture: the loss against seconds, a panel for each case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from factorize_page import OURS, title
from matplotlib.figure import Figure

COLOURS = {OURS: "#c0392b", "implicit": "#2980b9", "irspack": "#27ae60"}
STYLES = {"cholesky": "-", "cg": "--", "ialspp": ":", "block": ":", "auto": "-."}


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture to `path`; the same figures give the same bytes."""
    cases = report["cases"]
    n_rows = -(-len(cases) // 2)
    figure = Figure(figsize=(11, 3.4 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
    for axis, case in zip(axes, cases, strict=False):
        panel(axis, case)
    for axis in axes[len(cases) :]:
        axis.set_axis_off()
    machine = report["machine"]
    figure.suptitle(f"training loss against seconds, {machine['cpu']}", fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": f"matplotlib {mpl.__version__}"})


def panel(axis: Any, case: dict[str, Any]) -> None:
    """Draw one case: what the loss is above the least of all, relative to it."""
    rows = [row for row in case["results"] if row["threads"] == case["options"]["threads"]]
    least = min(min(row["losses"]) for row in rows)
    for row in rows:
        above = np.array(row["losses"]) / least - 1
        axis.plot(
            np.cumsum(row["seconds"]),
            np.maximum(above, 1e-5),
            STYLES[row["solver"]],
            marker="o",
            ms=2.5,
            color=COLOURS[row["library"]],
            label=f"{row['library']} {row['solver']}",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(title(case), fontsize=7)
    axis.set_xlabel("seconds, preparations included", fontsize=8)
    axis.set_ylabel("loss above the least, relative", fontsize=8)
    axis.legend(frameon=False, fontsize=7)
    axis.grid(alpha=0.3)
