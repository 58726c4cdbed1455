"""The table of the search benchmark: its cases, its Markdown, its comparison with old figures."""

from __future__ import annotations

import copy
import json

import pytest

pytestmark = pytest.mark.usefixtures("on_path")


def test_every_case_is_a_command_line_that_search_accepts():
    import search
    import search_table

    lines = [line for _, line in search_table.cases()]
    for line in [*lines, *map(search_table.quick, lines)]:
        search.parse(line.split())
    assert {group for group, _ in search_table.cases()} == {"table", "size", "filter"}
    assert len(set(lines)) == len(lines)


def test_the_main_cases_run_at_avx2_too_where_it_is_not_the_best(monkeypatch):
    import search_table

    monkeypatch.setattr(search_table._native, "simd_levels", lambda: ["scalar", "avx2", "better"])
    chosen = [line for _, line in search_table.cases() if "--level avx2" in line]
    plain = [line.partition(" --level")[0] for line in chosen]
    main = "--n-items 1000000 --dim 128 ", "--n-items 200000 --dim 384 ", "--vectors catalogue "
    assert {line for _, line in search_table.cases() if line.startswith(main)} == set(chosen)
    for levels in (["scalar", "avx2"], ["scalar", "neon"]):
        monkeypatch.setattr(search_table._native, "simd_levels", lambda levels=levels: levels)
        lines = [line for _, line in search_table.cases()]
        assert set(plain) < set(lines)
        assert not any("--level" in line for line in lines)


def test_the_tables_show_avx2_where_it_was_measured(case, monkeypatch):
    import report
    import search_table

    without = copy.deepcopy(case) | {"at_level": None, "time_over_bytes": 1.5}
    table = {"machine": case["machine"], "cases": [case, without]}
    written = search_table.markdown(table).splitlines()
    head = next(line for line in written if line.startswith("| vectors"))
    rows = [line for line in written if line.startswith("| gaussian")]
    assert {line.count("|") for line in (head, *rows)} == {19}
    assert rows[0].endswith("| 1.60 | ×1.25 | 50% | – | – |")
    assert rows[1].endswith("| – | – | 50% | – | ×1.50 |")
    readme = report.search(table)
    cells = [line.strip("| ").split("|")[9:] for line in readme if line.startswith("| gaussian")]
    assert cells == [[" ×2.0 ", " 1.60 ", " ×1.2"], [" ×2.0"]]
    assert any("RECENGINE_SIMD=avx2" in line for line in readme)
    plain = "\n".join(report.search({"machine": case["machine"], "cases": [without]}))
    assert "AVX2" not in plain


def test_it_writes_json_and_markdown(tmp_path, capsys):
    import search_table

    search = ["--quick", "--only", "--n-queries 32 --filter seen", "--no-plot"]
    assert search_table.main([*search, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "search.json").read_text())
    (case,) = report["cases"]
    assert case["command"].startswith("python benchmarks/search.py --n-items 4000 --dim 64")
    assert search_table.markdown(report) == (tmp_path / "search.md").read_text()


def test_part_of_the_table_does_not_replace_the_committed_one(capsys):
    import search_table

    with pytest.raises(SystemExit, match="2"):
        search_table.parse(["--quick"])
    assert "choose --out FOLDER" in capsys.readouterr().err


def test_the_plot_is_drawn_again_to_the_same_bytes(case, tmp_path):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib, of the extra bench")
    import search_plot

    sizes = [copy.deepcopy(case) | {"group": "size"} for _ in range(2)]
    sizes[1]["vectors"]["n_items"] = 9000
    filters = [copy.deepcopy(case) | {"group": "filter"} for _ in range(3)]
    for one, text in zip(filters, ("none", "allow:0.1", "seen:5"), strict=True):
        one["options"]["filter"] = text
    report = {"machine": case["machine"], "cases": [*sizes, *filters]}
    for name in ("a.png", "b.png"):
        search_plot.draw(report, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert search_plot.share_left("deny:0.25") == 0.75
    assert search_plot.share_left("seen:5") is None


def test_comparison_sees_a_fall_beyond_the_noise(case, capsys):
    from search_compare import compare

    slower = copy.deepcopy(case)
    slower["ratios"]["faiss"] = 1.9
    assert compare(case, case) == 0
    assert compare(case, slower) == 1
    assert "×2.00 faiss fell to ×1.90 (-5%, noise 3%)" in capsys.readouterr().err
    assert compare(slower, case) == 0, "a rise is no fall"
    narrow = copy.deepcopy(case)
    narrow["at_level"]["ratios"]["faiss"] = 1.0
    assert compare(case, narrow) == 1
    assert "at avx2: ×1.25 faiss fell to ×1.00" in capsys.readouterr().err
    assert compare(case | {"at_level": None}, narrow) == 0
    assert compare(case | {"options": case["options"] | {"level": "scalar"}}, narrow) == 0
    noisy = copy.deepcopy(slower)
    noisy["results"]["recengine"]["spread"] = 0.06
    assert compare(case, noisy) == 0


def test_comparison_needs_a_common_case(case, capsys):
    from search_compare import compare

    other = copy.deepcopy(case)
    other["vectors"]["n_items"] = 7
    assert compare(case, other) == 2
    table = {"cases": [other, case]}
    assert compare(table, case) == 0
    assert compare(case, {"cases": [other]}) == 2
    moved = copy.deepcopy(case)
    moved["machine"]["cpu"] = "another"
    assert compare(case, moved) == 0
    assert "the old figures are of another CPU" in capsys.readouterr().err
