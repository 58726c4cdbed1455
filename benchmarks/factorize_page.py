"""The factorization benchmark as tables: a case on screen, all of them in README."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

OURS = "recengine"


def draw(case: dict[str, Any], console: Console) -> None:
    """Print one case."""
    options = case["options"]
    table = Table(title=title(case), title_justify="left")
    table.add_column("")
    columns = ("threads", "s an epoch", "spread", "of one thread", "loss", "total s", "MB beyond")
    for header in columns:
        table.add_column(header, justify="right")
    for row in sorted(case["results"], key=lambda row: (-row["threads"], row["epoch_s"])):
        scaled, memory = row.get("faster_than_one_thread"), row.get("memory_bytes")
        table.add_row(
            f"{row['library']} {row['solver']}" + (f" ({row['blas']})" if row["blas"] else ""),
            str(row["threads"]),
            f"{row['epoch_s']:.3f}",
            f"{row['spread']:.0%}",
            "" if scaled is None else f"×{scaled:.2f}",
            f"{row['losses'][-1]:.7f}" if row["losses"] else "",
            f"{sum(row['seconds']):.2f}",
            "" if memory is None else f"{memory / 1e6:.0f} of {row['memory_bound'] / 1e6:.0f}",
            style="bold" if row["library"] == OURS else "",
        )
    console.print(table)
    races = Table(title=f"to a peer's loss after {options['epochs']} epochs", title_justify="left")
    for header in ("ours", "peer", "its epoch / ours", "our epochs", "ours, s", "its, s", "ratio"):
        races.add_column(header, justify="left" if header in ("ours", "peer") else "right")
    for row in case["results"]:
        for peer, found in row.get("beside", {}).items():
            reached = found["ratio"] is not None
            races.add_row(
                row["solver"],
                peer,
                f"×{found['epoch_ratio']:.2f}",
                str(found["our_epochs"]) if reached else "not reached",
                f"{found['our_seconds']:.2f}" if reached else "",
                f"{found['its_seconds']:.2f}",
                f"×{found['ratio']:.2f}" if reached else "",
            )
    console.print(races)
    console.print(", ".join(f"{name}: {value}" for name, value in case["holds"].items()))


def title(case: dict[str, Any]) -> str:
    """Return what a case is, in a line."""
    options, shape = case["options"], case["matrix"]
    return (
        f"{options['dataset'].partition(':')[0]} {shape['n_users']:,} × {shape['n_items']:,}, "
        f"{shape['entries']:,} entries, objective {options['objective']}, "
        f"{options['factors']} factors, {options['threads']} thread(s)"
    )


def section(report: dict[str, Any]) -> list[str]:
    """Return the rows of README: of each case the engines at their threads, ours in bold."""
    lines = [
        "| case | solver | s an epoch | spread | one thread | of one thread | loss after "
        "| total, s | MB beyond the matrix |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in report["cases"]:
        alone = {
            (row["library"], row["solver"]): row["epoch_s"]
            for row in case["results"]
            if row["threads"] == 1
        }
        full = [row for row in case["results"] if row["threads"] == case["options"]["threads"]]
        for row in sorted(full, key=lambda row: row["epoch_s"]):
            name = f"{row['library']} {row['solver']}"
            memory, scaled = row.get("memory_bytes"), row.get("faster_than_one_thread")
            cells = [
                short(case),
                f"**{name}**" if row["library"] == OURS else name,
                f"{row['epoch_s']:.3f}",
                f"{row['spread']:.0%}",
                f"{alone[row['library'], row['solver']]:.3f}",
                "" if scaled is None else f"×{scaled:.2f}",
                f"{row['losses'][-1]:.6f}",
                f"{sum(row['seconds']):.1f}",
                "" if memory is None else f"{memory / 1e6:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def races(report: dict[str, Any]) -> list[str]:
    """Return, for each case and peer, our solver that is the first at the peer's last loss."""
    lines = [
        "| case | peer | its seconds | our first there | our seconds | ratio |",
        "|---|---|--:|---|--:|--:|",
    ]
    for case in report["cases"]:
        mine = [row for row in case["results"] if row.get("beside")]
        for peer in mine[0]["beside"] if mine else ():
            found = [(row["solver"], row["beside"][peer]) for row in mine]
            there = [pair for pair in found if pair[1]["ratio"] is not None]
            its = f"{short(case)} | {peer} | {found[0][1]['its_seconds']:.1f}"
            if not there:
                lines.append(f"| {its} | none within its epochs | | |")
                continue
            solver, best = max(there, key=lambda pair: pair[1]["ratio"])
            lines.append(
                f"| {its} | {solver}, {best['our_epochs']} epochs | {best['our_seconds']:.1f} "
                f"| ×{best['ratio']:.2f} |"
            )
    return lines


def short(case: dict[str, Any]) -> str:
    """Return what a case is, in a few words."""
    options, entries = case["options"], case["matrix"]["entries"]
    size = f"{entries / 1e6:.1f} M" if entries >= 1e6 else f"{entries // 1000} k"
    return f"{options['objective']}, {size}, {options['factors']}"
