"""benchmarks/online.py runs, reports what it promises, and notices what is wrong."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("on_path")
SIZES = ["--n-items", "300", "--n-users", "60", "--per-user", "12", "--factors", "8"]
SIZES += ["--events", "3", "20", "--repeats", "15"]


def test_online_checks_and_reports_every_case(tmp_path):
    pytest.importorskip("implicit", reason="needs the peer, of the extra bench")
    import online

    path = tmp_path / "online.json"
    assert online.main([*SIZES, "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    cases = report["cases"]
    assert [(one["case"], one.get("events")) for one in cases] == [
        ("fold_in", 3),
        ("fold_in", 20),
        ("next_list", None),
        ("publication", None),
    ]
    assert [one["wrong"] for one in cases] == [0] * 4
    for one in cases:
        for row in one["us"].values():
            assert 0 < row["p50"] <= row["p99"] <= row["p99.9"]
    assert set(cases[0]["us"]) == {"recengine", "recengine, warm", "implicit"}
    assert 0 < cases[3]["items"] <= 15


def test_online_notices_wrong_answers(monkeypatch):
    pytest.importorskip("implicit", reason="needs the peer, of the extra bench")
    import online

    import recengine as rec

    def deaf(self, user_id, item_id, weight=1.0):
        """Learn nothing."""

    case, right = online.Case(online.parse(SIZES)), rec.ALS.fold_in
    monkeypatch.setattr(rec.ALS, "fold_in", lambda *arguments: 1.01 * right(*arguments))
    assert online.fold_in(case, 20)["wrong"] == 15
    monkeypatch.setattr(rec.Engine, "observe", deaf)
    assert online.next_list(case)["wrong"] == 15


def test_online_refuses_no_items(capsys):
    import online

    with pytest.raises(SystemExit, match="2"):
        online.parse(["--n-items", "0"])
    assert "--n-items must be > 0, got 0" in capsys.readouterr().err
