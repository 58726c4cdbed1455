"""The factorization benchmark: its data, its rounds beside the peers, and what it refuses."""

from __future__ import annotations

import argparse
import copy
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("on_path")

TINY = "synthetic:90,70,1200"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Keep made-up data in a folder of the test, also for the processes that it starts."""
    import tempfile

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def peers():
    return "implicit,irspack" if find_spec("irspack") else "implicit"


@pytest.mark.parametrize(
    ("objective", "threads", "memory"), [("implicit", 1, "none"), ("ials", 2, "ours")]
)
def test_a_case_holds_beside_the_peers(objective, threads, memory, tmp_path, monkeypatch):
    import factorize
    import factorize_rounds

    few = {("implicit", "implicit"): ("cholesky",), ("implicit", "irspack"): ("cholesky", "cg")}
    monkeypatch.setattr(factorize_rounds, "SOLVERS", factorize_rounds.SOLVERS | few)

    path = tmp_path / "case.json"
    arguments = ["--dataset", TINY, "--factors", "8", "--epochs", "3"]
    arguments += ["--one-thread-epochs", "2", "--peers", peers(), "--objective", objective]
    arguments += ["--solver", "cholesky", "--memory", memory, "--threads", str(threads)]
    assert factorize.main([*arguments, "--json", str(path)]) == 0
    case = json.loads(path.read_text())
    assert case["matrix"] == {"n_users": 90, "n_items": 70, "entries": 1200}
    assert all(value for name, value in case["holds"].items() if name != "exact_losses_apart")
    full = [row for row in case["results"] if row["threads"] == threads]
    assert all(len(row["seconds"]) == len(row["losses"]) == 3 for row in full)
    assert all(row["losses"][2] < row["losses"][0] for row in full)
    mine = next(row for row in full if row["library"] == "recengine")
    assert ("faster_than_one_thread" in mine) is (threads == 2)
    if memory == "ours" and Path("/proc/self/status").exists():
        assert 0 <= mine["memory_bytes"] <= mine["memory_bound"]
    if objective == "implicit":
        found = mine["beside"]["implicit cholesky"]
        assert found["our_epochs"] == 3, "the exact solver's loss is reached when it is"
        assert 0 <= case["holds"]["exact_losses_apart"] <= 1e-5


def test_made_up_events_have_the_shape_of_real_ones():
    import factorize_data

    matrix = factorize_data.load("synthetic:3000,800,60000", seed=1)
    again = factorize_data.synthetic(3000, 800, 60000, seed=1)
    other = factorize_data.synthetic(3000, 800, 60000, seed=2)
    assert (matrix != again).nnz == 0
    assert (matrix != other).nnz > 0
    assert matrix.shape == (3000, 800)
    assert matrix.nnz == 60000
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    assert set(np.unique(matrix.data)) == {1.0, 2.0, 3.0, 4.0, 5.0}
    by_item = np.sort(np.bincount(matrix.indices, minlength=800))[::-1]
    assert by_item[:80].sum() > 0.2 * 60000, "a tenth of the items has more than a fifth of events"
    by_user = np.diff(matrix.indptr)
    assert np.quantile(by_user, 0.99) > 5 * np.median(by_user)


def test_made_up_events_can_be_learned():
    import factorize_data

    import recengine as rec

    matrix = factorize_data.synthetic(1000, 400, 20000, seed=0)
    shuffled = matrix.copy()
    np.random.default_rng(0).shuffle(shuffled.indices)
    shuffled.sum_duplicates()
    losses = [
        rec.ALS(16, regularization=1.0, iterations=4, random_state=0).fit(m).loss(m)
        for m in (matrix, shuffled)
    ]
    assert losses[0] < 0.97 * losses[1], losses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "other"], "--dataset must be ml-100k|synthetic"),
        (["--dataset", "synthetic:5,5"], "--dataset must be ml-100k|synthetic"),
        (["--dataset", "synthetic:50,50,2000"], "a quarter of all pairs"),
        (["--solver", "other"], "--solver must be of cg, cholesky, block"),
        (["--peers", "other"], "--peers must be of implicit, irspack"),
        (["--epochs", "1"], "--epochs must be >= 2, got 1"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    import factorize

    with pytest.raises(SystemExit, match="2"):
        factorize.parse(arguments)
    assert message in capsys.readouterr().err


def row(library, solver, losses, **others):
    """Return a made-up row of two threads."""
    made = {"library": library, "solver": solver, "threads": 2, "losses": losses, "epoch_s": 1.0}
    made["spread"] = 0.1
    return made | {"seconds": [1.0] * len(losses), "memory_bytes": 5, "memory_bound": 9} | others


def test_what_must_hold_can_fail():
    from factorize_rounds import holds

    good = [
        row("recengine", "cholesky", [3.0, 2.0]),
        row("recengine", "cholesky", [3.0], threads=1),
        row("implicit", "cholesky", [3.0, 2.00001]),
    ]
    assert all(value for name, value in holds(good).items() if name != "exact_losses_apart")
    for name, changed in {
        "exact_losses_equal": (2, {"losses": [3.0, 2.1]}),
        "losses_fall": (0, {"losses": [3.0, 3.1]}),
        "as_good_as_peers": (2, {"losses": [3.0, 1.9]}),
        "same_at_any_threads": (1, {"losses": [3.0000001]}),
        "memory_within_bound": (0, {"memory_bytes": 10}),
    }.items():
        bad = copy.deepcopy(good)
        bad[changed[0]] |= changed[1]
        assert holds(bad)[name] is False, name


def test_the_race_ends_where_the_peers_loss_is_reached():
    from factorize_rounds import beside

    mine = row("recengine", "cg", [3.0, 2.0, 1.9], epoch_s=0.5, seconds=[0.7, 0.5, 0.5])
    peer = row("irspack", "cg", [4.0, 3.0, 2.0], epoch_s=1.0, seconds=[1.2, 1.0, 1.0])
    found = beside(mine, peer)
    assert found["our_epochs"] == 2
    assert found["epoch_ratio"] == 2.0
    assert found["ratio"] == pytest.approx(3.2 / 1.2)
    assert beside(mine, peer | {"losses": [1.0]})["ratio"] is None


def made_case():
    """Return a made-up case of the table, two of our solvers beside one peer."""
    from factorize_rounds import add_ratios, holds

    rows = [
        row("recengine", "cholesky", [3.0, 2.0], epoch_s=0.8),
        row("recengine", "cg", [3.0, 2.2], epoch_s=0.4, seconds=[0.4, 0.4]),
        row("irspack", "cg", [3.0, 2.2]),
        row("recengine", "cholesky", [3.0], threads=1, epoch_s=1.6),
        row("recengine", "cg", [3.0], threads=1, epoch_s=0.8),
        row("irspack", "cg", [], threads=1, epoch_s=2.0),
    ]
    for one in rows:
        one["blas"] = None
    options = {"dataset": "ml-100k", "objective": "ials", "factors": 64, "threads": 2, "epochs": 2}
    add_ratios(rows, argparse.Namespace(**options))
    return {
        "command": "python benchmarks/factorize.py",
        "options": options,
        "matrix": {"n_users": 900, "n_items": 1600, "entries": 100_000},
        "machine": {
            "cpu": "a CPU",
            "cpus": 2,
            "simd": "avx2",
            "python": "3.11.7",
            "versions": {"numpy": "2.0"},
            "commit": "0123456789abcdef",
        },
        "results": rows,
        "holds": holds(rows),
    }


def test_readme_has_a_row_for_each_engine_and_race():
    import report

    case = made_case()
    lines = report.factorize({"cases": [case], "machine": case["machine"]})
    table = [line for line in lines if line.startswith("| ials, 100 k, 64 |")]
    assert table[0] == (
        "| ials, 100 k, 64 | **recengine cg** | 0.400 | 10% | 0.800 | ×2.00 | 2.200000 | 0.8 | 0 |"
    )
    assert len(table) == 4, "three engines and one race"
    assert table[-1] == "| ials, 100 k, 64 | irspack cg | 2.0 | cg, 2 epochs | 0.8 | ×2.50 |"
    worse = copy.deepcopy(case)
    for one in worse["results"][:2]:
        one["beside"]["irspack cg"]["ratio"] = None
    lines = report.factorize({"cases": [worse], "machine": case["machine"]})
    assert any("none within its epochs" in line for line in lines)


def test_the_screen_shows_a_case():
    from io import StringIO

    from factorize_page import draw
    from rich.console import Console

    console = Console(file=StringIO(), width=200)
    draw(made_case(), console)
    shown = console.file.getvalue()
    for text in (
        "recengine cg",
        "×2.00",
        "ml-100k 900 × 1,600",
        "not reached",
        "losses_fall: True",
    ):
        assert (text in shown) is (text != "not reached"), text


def test_the_plot_is_drawn_again_to_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib, of the extra bench")
    import factorize_plot

    report = {"machine": {"cpu": "a CPU"}, "cases": [made_case()] * 3}
    for name in ("a.png", "b.png"):
        factorize_plot.draw(report, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_every_case_of_the_table_is_a_command_line_that_factorize_accepts(capsys):
    import factorize
    import factorize_table

    for arguments in ([], ["--quick", "--out", "elsewhere"]):
        lines = factorize_table.lines(factorize_table.parse(arguments))
        assert len(set(lines)) == len(lines) == 7
        for line in lines:
            factorize.parse(line.split())
    with pytest.raises(SystemExit, match="2"):
        factorize_table.parse(["--quick"])
    assert "choose --out FOLDER" in capsys.readouterr().err


def test_one_case_of_the_table_can_be_made_anew(tmp_path, monkeypatch):
    import factorize_table

    asked = []

    def run(line):
        asked.append(line)
        return made_case() | {"command": f"python benchmarks/factorize.py {line}"}

    monkeypatch.setattr(factorize_table, "run", run)
    assert factorize_table.main(["--out", str(tmp_path), "--no-plot"]) == 0
    assert len(asked) == 7
    few = ["--out", str(tmp_path), "--no-plot", "--epochs", "2", "--only", "ml-100k"]
    assert factorize_table.main(few) == 0
    cases = json.loads((tmp_path / "factorize.json").read_text())["cases"]
    assert len(cases) == 7
    assert sum("--epochs 2" in case["command"] for case in cases) == len(asked) - 7 == 2
