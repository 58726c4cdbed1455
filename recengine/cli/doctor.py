"""``recengine doctor``: what this machine has, and why it has not what it has not."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recengine.runtime import ProvidersReport

Rows = list[tuple[str, str]]

# What each extra of the package brings: distribution -> module.
EXTRAS = {
    "text": {"tokenizers": "tokenizers"},
    "image": {"pillow": "PIL"},
    "data": {"polars": "polars", "pyarrow": "pyarrow"},
    "onnx": {"onnx": "onnx"},
}
PARTS = ("numpy", "scipy", "numba", "narwhals", "typer", "rich")


def doctor() -> None:
    """Tell what this machine has: SIMD, cpus, onnxruntime and its real devices, cache, versions.

    Every device is tried, not believed: a wheel that lists CUDA may still not open it.
    """
    from recengine.cli.screen import console, waiting
    from recengine.runtime import providers_report

    with waiting("trying the devices"):
        report = providers_report()
    screen = console()
    for title, rows in (
        ("Processor", list(_processor())),
        ("Encoders", list(_devices(report))),
        ("Files", list(_files())),
        ("Versions", list(_versions())),
        ("Extras", list(_extras(report))),
    ):
        screen.print(f"[bold cyan]{title}[/bold cyan]")
        screen.print(_listed(rows))
        screen.print()


def _listed(rows: Rows) -> object:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=22)
    grid.add_column(overflow="fold")
    for name, value in rows:
        style = "green" if value.startswith("yes") else "yellow" if value.startswith("no") else ""
        grid.add_row(Text(f"  {name}"), Text(value, style))
    return grid


def _processor() -> Iterator[tuple[str, str]]:
    import os

    from recengine import _native

    forced = os.environ.get("RECENGINE_SIMD", "")
    how = f"forced by RECENGINE_SIMD={forced}" if forced else "the best there is"
    yield "SIMD level", f"{_native.simd_level()} ({how})"
    yield "levels here", ", ".join(_native.simd_levels())
    yield "cpus in the machine", str(os.cpu_count())
    if hasattr(os, "sched_getaffinity"):  # Linux
        yield "cpus of this process", f"{len(os.sched_getaffinity(0))} (affinity)"
    quota = _cpu_quota()
    yield "cgroup quota", "none" if quota is None else f"{quota:g} cpus"
    yield "threads at most", f"{_native.num_cpus()} (the least of these, a part of a cpu counts 1)"


def _cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cpus that the cgroup (v2, else v1) grants, or None where nothing limits them."""
    if (unified := root / "cpu.max").is_file():
        granted, period = unified.read_text().split()
    elif (legacy := root / "cpu" / "cpu.cfs_quota_us").is_file():
        granted = legacy.read_text().strip()
        period = legacy.with_name("cpu.cfs_period_us").read_text()
    else:
        return None
    return None if granted in ("max", "-1") else int(granted) / int(period)


def _devices(report: ProvidersReport) -> Iterator[tuple[str, str]]:
    wheels = ", ".join(f"{name} {version}" for name, version in report.wheels.items())
    yield "onnxruntime", wheels or "none installed"
    if report.problem:
        yield "problem", report.problem
    for status in report.providers:
        if status.opened:
            verdict = "yes"
        else:
            listed = "the wheel lists it, but " if status.listed else ""
            verdict = f"no: {listed}{status.reason}"
        yield status.name.removesuffix("ExecutionProvider"), verdict
    if report.auto:
        yield 'device="auto" gives', report.auto


def _files() -> Iterator[tuple[str, str]]:
    from recengine.cli.screen import size
    from recengine.data import sources

    home = sources.cache_dir()
    yield "cache", str(home)
    for source in sources.SOURCES.values():
        folder = home / source.folder
        if source.is_complete(folder):
            used = sum(member.size for member in source.members)
            yield source.name, f"yes, {size(used)}"
        else:
            yield source.name, f"not yet: recengine fetch {source.name}"


def _versions() -> Iterator[tuple[str, str]]:
    import platform

    from recengine import __version__

    yield "recengine", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    for name in PARTS:
        yield name, metadata.version(name)


def _extras(report: ProvidersReport) -> Iterator[tuple[str, str]]:
    for extra in ("cpu", "gpu"):
        wheel = "onnxruntime" if extra == "cpu" else "onnxruntime-gpu"
        if wheel in report.wheels:
            yield extra, f"yes: {wheel} {report.wheels[wheel]}"
        elif not report.wheels:
            yield extra, f"no: pip install 'recengine[{extra}]'"
        else:
            yield extra, f"not beside {next(iter(report.wheels))}: they overwrite each other"
    for extra, parts in EXTRAS.items():
        missing = [name for name, module in parts.items() if find_spec(module) is None]
        if missing:
            yield extra, f"no: {', '.join(missing)} missing; pip install 'recengine[{extra}]'"
        else:
            yield extra, "yes: " + ", ".join(f"{name} {metadata.version(name)}" for name in parts)
