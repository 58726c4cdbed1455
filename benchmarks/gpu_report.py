"""Everything that needs an NVIDIA GPU: the tests marked `gpu` and the benchmarks, in one report.

    make gpu-report               # installs what it needs, then runs this
    python benchmarks/gpu_report.py --out FOLDER --quick

Writes gpu.json (outcome of each test, the reports of the benchmarks, the GPU, versions) and gpu.md,
the same on one page, into benchmarks/results or --out. Exit status: 0 if all passed; 1 if a test or
a benchmark failed, or a test that needs a GPU was skipped though there is one (the report is
written all the same); 2 where no NVIDIA driver answers: nothing is run and nothing written.
`--check` only tells whether there is one, with the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DRIVER = Path("/proc/driver/nvidia/version")
NO_GPU = (
    f"no NVIDIA driver answers here ({DRIVER} is missing): nothing was run; what needs a GPU stays "
    "untested"
)
# Name -> command line of each benchmark that has GPU cases, and what makes it tiny.
BENCHMARKS = {
    "encode": ("encode.py --device cuda --threads 1", "--quick"),
    "device": ("device.py --device cuda", "--n-items 2000"),
}


def tests(extra: list[str]) -> list[dict[str, Any]]:
    """Run the tests marked `gpu` and return name, outcome, seconds and message of each."""
    with tempfile.TemporaryDirectory(prefix="recengine-") as folder:
        path = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={path}", *extra]
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        if not path.exists():
            text = f"pytest ended with {done.returncode} and no report"
            return [{"name": "pytest", "outcome": "error", "seconds": 0.0, "message": text}]
        return [outcome(case) for case in ElementTree.parse(path).iter("testcase")]


def outcome(case: ElementTree.Element) -> dict[str, Any]:
    """Return what JUnit's XML says of one test."""
    found = [each for each in case if each.tag in ("failure", "error", "skipped")]
    kinds = {"failure": "failed", "error": "error", "skipped": "skipped"}
    return {
        "name": f"{case.get('classname')}::{case.get('name')}",
        "outcome": kinds[found[0].tag] if found else "passed",
        "seconds": float(case.get("time", 0)),
        "message": (found[0].get("message") or "") if found else "",
    }


def benchmark(line: str) -> dict[str, Any]:
    """Run one benchmark and return its report, or what it said when it failed."""
    script, *arguments = line.split()
    with tempfile.TemporaryDirectory(prefix="recengine-") as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, str(HERE / script), *arguments, "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            return {"failed": done.returncode, "said": (done.stderr or done.stdout)[-2000:]}
        report: dict[str, Any] = json.loads(path.read_text())
        return report


def gpu() -> str:
    """Return the name, memory and driver of the GPU, as nvidia-smi tells them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return DRIVER.read_text().splitlines()[0]
    return done.stdout.strip() or DRIVER.read_text().splitlines()[0]


def page(report: dict[str, Any]) -> str:
    """Return the report as one page of Markdown."""
    machine, done = report["machine"], report["tests"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    count = {name: sum(each["outcome"] == name for each in done) for name in OUTCOMES}
    lines = [
        "# What a GPU shows",
        "",
        f"{report['gpu']}; {machine['cpu']}; {versions}; commit {machine['commit']}.",
        "",
        "Tests: " + ", ".join(f"{number} {name}" for name, number in count.items()) + ".",
        "",
        "| test | outcome | s | message |",
        "|---|---|--:|---|",
    ]
    for each in done:
        message = each["message"].replace("|", "\\|").replace("\n", " ")[:200]
        lines.append(f"| {each['name']} | {each['outcome']} | {each['seconds']:.2f} | {message} |")
    for name, found in report["benchmarks"].items():
        if "failed" in found:
            lines += ["", f"Benchmark {name} ended with {found['failed']}:", "", found["said"]]
        else:
            lines += ["", PAGES[name](found)]
    return "\n".join(lines) + "\n"


def encode_page(found: dict[str, Any]) -> str:
    """Return what the encode benchmark gave."""
    from encode_page import markdown

    return markdown(found).replace("# ", "## ", 1).rstrip()


def device_page(found: dict[str, Any]) -> str:
    """Return memory and medians of each storage of a device index."""
    lines = ["## Device index", ""]
    for case in found["cases"]:
        times = [f"{name} {value:.3f}" for name, value in case.items() if name.startswith(TIMES)]
        says, holds = case["says"]["total"] / 2**20, case["holds"] / 2**20
        lines.append(
            f"- {case['storage']}: says {says:.0f} MiB, holds {holds:.0f}; {', '.join(times)}"
        )
    return "\n".join(lines)


PAGES = {"encode": encode_page, "device": device_page}
TIMES = ("device_ms_", "index_ms_")
OUTCOMES = ("passed", "failed", "error", "skipped")


def is_good(report: dict[str, Any]) -> bool:
    """Tell whether every test ran and passed, and every benchmark gave its report."""
    passed = all(each["outcome"] == "passed" for each in report["tests"])
    ran = not any("failed" in found for found in report["benchmarks"].values())
    return bool(report["tests"]) and passed and ran


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny sizes of the benchmarks")
    parser.add_argument("--check", action="store_true", help="only tell whether there is a GPU")
    options, extra = parser.parse_known_args(arguments)
    if not DRIVER.exists():
        print(NO_GPU, file=sys.stderr)
        return 2
    if options.check:
        return 0
    import machine

    report = {
        "benchmark": "gpu",
        "gpu": gpu(),
        "machine": machine.describe(),
        "tests": tests(extra),
        "benchmarks": {
            name: benchmark(f"{line} {small}" if options.quick else line)
            for name, (line, small) in BENCHMARKS.items()
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "gpu.md").write_text(page(report))
    print(page(report))
    return 0 if is_good(report) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
