"""``recengine doctor`` and ``recengine fetch``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from recengine import __version__, _native
from recengine.cli import doctor
from recengine.data import sources
from recengine.runtime import ProvidersReport, ProviderStatus

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def report(run: Run) -> str:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 100
    return " ".join(result.stdout.split())


def test_doctor_tells_the_machine(report: str) -> None:
    assert f"SIMD level {_native.simd_level()} " in report
    assert ", ".join(_native.simd_levels()) in report
    assert f"threads at most {_native.num_cpus()} " in report


def test_doctor_tells_devices_cache_and_versions(report: str) -> None:
    assert 'device="auto" gives' in report
    assert "CUDA" in report
    assert f"cache {sources.cache_dir()}".replace(" ", "") in report.replace(" ", "")
    assert f"recengine {__version__}" in report
    assert "tokenizers" in report


def test_doctor_says_why_a_device_is_not_there() -> None:
    cuda = ProviderStatus("CUDAExecutionProvider", True, False, "libcublas is missing")
    cpu = ProviderStatus("CPUExecutionProvider", True, True, "")
    rows = dict(doctor._devices(ProvidersReport({"onnxruntime-gpu": "1.31"}, (cpu, cuda), "")))
    assert rows["CUDA"] == "no: the wheel lists it, but libcublas is missing"
    assert rows["CPU"] == "yes"
    assert rows['device="auto" gives'] == "cpu"


def test_doctor_without_onnxruntime() -> None:
    bare = ProvidersReport({}, (), "onnxruntime is not installed")
    rows = dict(doctor._devices(bare))
    assert rows == {"onnxruntime": "none installed", "problem": "onnxruntime is not installed"}
    assert dict(doctor._extras(bare))["cpu"] == "no: pip install 'recengine[cpu]'"


def test_doctor_with_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    rows = dict(doctor._extras(ProvidersReport({"onnxruntime": "1.31"}, (), "")))
    assert rows["data"] == "no: polars, pyarrow missing; pip install 'recengine[data]'"
    assert rows["cpu"] == "yes: onnxruntime 1.31"
    assert rows["gpu"] == "not beside onnxruntime: they overwrite each other"


def test_doctor_and_readme_name_one_way_to_add_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    rows = dict(doctor._extras(ProvidersReport({}, (), "")))
    readme = (ROOT / "README.md").read_text("utf-8")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    command = "pip install 'recengine[{}]'"
    assert command.format("text") in readme
    for extra, told in rows.items():
        assert told.endswith(command.format(extra))
        assert extra in declared["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
    ],
)
def test_cpu_quota_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert doctor._cpu_quota(tmp_path) == quota


def test_fetch_lists_names_and_licences(run: Run) -> None:
    result = run("fetch")
    assert result.exit_code == 0
    for source in sources.SOURCES.values():
        assert source.name in result.stdout
        assert source.licence in result.stdout


def test_fetch_tells_folder_and_notice(run: Run, ml_100k_folder: Path) -> None:
    result = run("fetch", "ml-100k")
    assert result.exit_code == 0, result.output
    told = "".join(result.stdout.split())
    assert str(ml_100k_folder) in told
    assert "".join(sources.SOURCES["ml-100k"].notice.split()) in told


def test_fetch_unknown_name(refused: Refused) -> None:
    assert "name must be one of 'ml-100k'" in refused("fetch", "ml-25m")


def test_fetch_without_network_names_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECENGINE_CACHE", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    result = run("fetch", "ml-100k")
    assert result.exit_code == 1
    assert result.stdout == ""
    steps, _, line = result.stderr.partition("error: ")
    assert "downloading 2.1 MB with pip" in steps
    assert "recbole-1.2.1-py3-none-any.whl" in line
    assert line.count("\n") == 1
