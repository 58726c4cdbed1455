"""README's figures are what benchmarks/report.py writes from the committed JSON."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import report

    return report


def test_readme_equals_what_the_committed_json_gives(report):
    readme = report.README.read_text()
    assert report.written(readme, report.block()) == readme, "run python benchmarks/report.py"


def test_writing_twice_changes_nothing(report, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{report.BEGIN} (x) -->\nstale figures\n{report.END}\nb\n")
    monkeypatch.setattr(report, "README", readme)
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    once = readme.read_text()
    assert once.startswith(f"a\n{report.BEGIN} (x) -->\n\n### ")
    assert once.endswith(f"\n{report.END}\nb\n")
    assert "stale figures" not in once
    report.main([])
    assert readme.read_text() == once
    assert report.main(["--check"]) == 0
    readme.write_text(once.replace("NDCG@10", "NDCG@11"))
    assert report.main(["--check"]) == 1


def test_a_readme_without_marks_is_refused(report):
    with pytest.raises(ValueError, match="README must hold <!-- measured:begin"):
        report.written("nothing here", "text")
    with pytest.raises(ValueError, match="README must hold <!-- measured:begin"):
        report.written(f"{report.BEGIN} -->\n", "text")


def test_losses_are_told(report):
    figures = json.loads((report.RESULTS / "quality.json").read_text())
    for scenario, difference in (("last", -0.02), ("time, warm", 0.1), ("time, cold", 0.01)):
        row = figures["scenarios"][scenario]["ALS"]
        row |= {"difference": difference, "difference_interval": [difference - 0.02, 0.2]}
    told = "\n".join(report.quality(figures))
    assert "Popularity beats ALS on: last event of each user." in told
    assert "holds 0 on: last event of each user; last fifth in time, new users" in told
    won = copy.deepcopy(figures)
    for scenario in won["scenarios"].values():
        scenario["ALS"] |= {"difference": 0.1, "difference_interval": [0.05, 0.2]}
    assert "Popularity beats" not in "\n".join(report.quality(won))
