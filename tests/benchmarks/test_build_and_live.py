"""benchmarks/build.py and live.py run, report what they promise, and notice what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("on_path")
LIVE = ["--n-items", "3000", "--dim", "8", "--seconds", "0.5", "--rate", "400", "--replayed", "40"]


def test_build_reports_every_storage(tmp_path):
    import build

    path = tmp_path / "build.json"
    sizes = ["--n-items", "4000", "--dim", "8", "--named", "500", "--repeats", "1"]
    assert build.main([*sizes, "--most-memory", "50", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [(case["storage"], case["given"]) for case in report["cases"]] == build.CASES
    assert report["cases"][0]["filter"]["prepare_ms"]["median"] > 0
    assert build.main([*sizes, "--most-seconds", "0"]) == 1, "a limit that is missed is told"


def test_build_refuses_a_filter_of_more_ids_than_there_are(capsys):
    import build

    with pytest.raises(SystemExit, match="2"):
        build.parse(["--n-items", "10", "--named", "11"])
    assert "--named must be at most --n-items, got 11" in capsys.readouterr().err


def test_live_checks_every_answer(tmp_path):
    import live

    path = tmp_path / "live.json"
    live.main([*LIVE, "--json", str(path)])
    report = json.loads(path.read_text())
    assert set(report["phases"]) == {"alone", "control", "writer"}
    assert report["updates"] == 200
    assert 0 < report["deletes"] < 200
    assert report["violations"]["violations"] == 0
    assert report["violations"]["entries"] >= 10 * report["phases"]["writer"]["searches"]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_live_notices_a_wrong_answer(metric):
    import live
    import live_check

    case = live.Case(live.parse([*LIVE, "--metric", metric]))
    answers = live.phase(case, 0.1, lambda number: live.update(case, number))["answers"]
    assert live_check.violations(case, answers)["violations"] == 0
    torn = [part | {"scores": part["scores"].copy()} for part in answers]
    torn[0]["scores"][-1, 3] *= np.float32(1.01)
    assert live_check.violations(case, torn)["violations"] >= 1
    late = [
        part | {name: np.zeros_like(part[name]) for name in ("before", "after")} for part in answers
    ]
    assert live_check.violations(case, late)["violations"] > 0, "answers of a state to come"
    other = [part | {"ids": part["ids"].copy()} for part in answers]
    other[0]["ids"][:, 0] = case.items[case.deletes[: case.done].nonzero()[0][-1]]
    assert live_check.violations(case, other)["violations"] > 0
