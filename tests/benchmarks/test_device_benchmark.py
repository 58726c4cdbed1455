"""benchmarks/device.py runs, and reports what it promises."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("on_path")
SIZES = ["--n-items", "30000", "--dim", "32"]


def report(tmp_path, *options):
    import device

    path = tmp_path / "device.json"
    assert device.main([*SIZES, *options, "--json", str(path)]) == 0
    return device, json.loads(path.read_text())["cases"]


def test_device_benchmark_reports_memory_and_time(tmp_path, capsys):
    device, cases = report(tmp_path)
    assert [case["storage"] for case in cases] == ["float32", "float16"]
    for case in cases:
        assert 0 < case["holds"] < case["says"]["total"]
        assert all(case[f"device_ms_{n}"] > 0 for n in device.BATCHES)
        assert case["stats"]["by_index"] == 0
    assert "float16: says {'items': '1.8'" in capsys.readouterr().out


@pytest.mark.gpu
def test_device_benchmark_runs_on_cuda(tmp_path):
    _, cases = report(tmp_path, "--device", "cuda")
    assert all(case["stats"]["by_index"] == 0 for case in cases)
