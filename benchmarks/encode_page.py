"""The encode benchmark as Markdown."""

from __future__ import annotations

from typing import Any

FEW = 256  # texts, below which a sorted batch spans lengths that a catalogue would part
KINDS = {"mixed": "4 to 256 tokens", "short": "4 to 20 tokens"}


def chosen(report: dict[str, Any], case: str) -> list[dict[str, Any]]:
    """Return the cases of one kind."""
    return [each for each in report["cases"] if each["case"] == case]


def markdown(report: dict[str, Any]) -> str:
    """Return every case, in tables."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Encode benchmark",
        "",
        f"{report['model']} on {report['device']}; {machine['cpu']}, {machine['cpus']} CPUs; "
        f"{versions}; commit {machine['commit']}. A ratio above 1 means that recengine is faster. "
        "Written by `python benchmarks/encode.py --out benchmarks/results`.",
        "",
        *throughput(report),
        "",
        *latency(report),
        "",
        *sentences(report),
    ]
    return "\n".join(lines) + "\n"


def throughput(report: dict[str, Any]) -> list[str]:
    """Return texts a second of each catalogue, and the ratios to the peers."""
    cases = chosen(report, "throughput")
    peers = list(cases[0]["ratios"])
    lines = [
        "| texts | count | threads | recengine, texts/s | spread | "
        + " | ".join(f"{name} | ratio" for name in peers)
        + " |",
        "|---|--:|--:|--:|--:|" + "--:|--:|" * len(peers),
    ]
    for case in cases:
        mine = case["results"]["recengine"]
        cells = [
            KINDS[case["texts"]],
            f"{case['n_texts']:,}",
            str(case["threads"]),
            f"{mine['texts_per_second']:.0f}",
            f"{mine['spread']:.0%}",
        ]
        for name in peers:
            rate = case["results"][name]["texts_per_second"]
            cells += [f"{rate:.0f}", f"×{case['ratios'][name]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def latency(report: dict[str, Any]) -> list[str]:
    """Return what one query takes, in ms, and its share over the bare call."""
    cases = chosen(report, "latency")
    names = [name for name in cases[0]["results"] if name != "bare call"]
    lines = [
        "| tokens | bare call, p50 ms | "
        + " | ".join(f"{name} | over bare" for name in names)
        + " |",
        "|--:|--:|" + "--:|--:|" * len(names),
    ]
    for case in cases:
        cells = [str(case["n_tokens"]), f"{case['results']['bare call']['p50_ms']:.3f}"]
        for name in names:
            cells += [f"{case['results'][name]['p50_ms']:.3f}", f"×{case['over_bare'][name]:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sentences(report: dict[str, Any]) -> list[str]:
    """Return what requests and deadlines came to, in words."""
    lines = []
    for case in chosen(report, "requests"):
        lines.append(
            f"{case['n_requests']:,} requests of 3 to 256 tokens after `warm_up`, with a timeout: "
            f"p50 {case['p50_ms']:.2f} ms, p99 {case['p99_ms']:.2f}, p99.9 {case['p99.9_ms']:.2f} "
            f"(×{case['p99.9_over_p50']:.1f} of p50); memory grew by {case['grown_mb']:.1f} MB."
        )
    late = [
        f"{case['late_ms']['median']:.0f} ms late, {case['late_ms']['most']:.0f} at most, after "
        f"{case['timeout_ms']:g} ms"
        for case in chosen(report, "deadline")
    ]
    if late:
        lines.append(f"A deadline ends the encoding of 64 × 256 tokens: {'; '.join(late)}.")
    n_texts = min(case["n_texts"] for case in chosen(report, "throughput"))
    if n_texts < FEW:
        lines.append(
            f"{n_texts} texts are few: sorted batches of 32 then hold very unlike lengths, which "
            "flatters us beside `by-length-32`; a catalogue has more."
        )
    if left_out := report.get("left_out"):
        lines.append(f"{left_out}.")
    before, after = report["load"]
    lines.append(
        f"Load of the machine, with this program: {before:.1f} at first, {after:.1f} at last."
    )
    return [line for text in lines for line in (text, "")][:-1]
