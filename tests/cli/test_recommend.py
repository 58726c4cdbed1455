"""``recengine recommend``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import recengine as rec

Run = Callable[..., Result]
Refused = Callable[..., str]


def test_table_shows_ids_scores_and_attributes(engine: Path, run: Run) -> None:
    result = run("recommend", engine, 4, "-k", 3)
    assert result.exit_code == 0, result.output
    assert "For user 4, who had 8 items" in result.stdout
    ids, scores = rec.Engine.load(engine).recommend(4, k=3)
    for place, (item, score) in enumerate(zip(ids, scores, strict=True), 1):
        title = f"Film [{item}]" if item < 39 else "—"
        assert any(
            row.split()[:3] == [str(place), str(item), f"{score:.4f}"] and title in row
            for row in result.stdout.splitlines()
        )


def test_table_fits_100_columns(folder: Path, tmp_path: Path, run: Run) -> None:
    items = tmp_path / "i.csv"
    items.write_text(
        "item_id,title,plot\n" + "".join(f"{i},{'T' * 90},{'p' * 90}\n" for i in range(40))
    )
    target = tmp_path / "x.rec"
    run("fit", folder / "events.csv", target, "--items", items, "--factors", 4)
    result = run("recommend", target, 4)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 13  # heading, header, rule, ten rows: none is broken in two
    assert "…" in result.stdout


def test_json_is_the_answer_with_all_attributes(engine: Path, run: Run) -> None:
    result = run("recommend", engine, 4, "--json", "-k", 40)
    document = json.loads(result.stdout)
    ids, scores = rec.Engine.load(engine).recommend(4, k=32)
    assert document["user_id"] == 4
    assert [entry["item_id"] for entry in document["items"]] == ids.tolist()
    assert [entry["score"] for entry in document["items"]] == scores.tolist()
    by_id = {entry["item_id"]: entry for entry in document["items"]}
    assert (by_id[38]["title"], by_id[38]["year"]) == ("Film [38]", 1988)
    assert (by_id[39]["title"], by_id[39]["year"]) == (None, None)


def test_history_of_somebody_new(engine: Path, run: Run) -> None:
    result = run("recommend", engine, "--history", "1, 2,3", "--json")
    expected = rec.Engine.load(engine).recommend_for([1, 2, 3])
    document = json.loads(result.stdout)
    assert "user_id" not in document
    assert [entry["item_id"] for entry in document["items"]] == expected.ids.tolist()
    assert "For somebody who had 1, 2, 3" in run("recommend", engine, "--history", "1,2,3").stdout


def test_seen_items_come_back_on_request(engine: Path, run: Run) -> None:
    seen = set(rec.Engine.load(engine).history(4)[0].tolist())
    line = ("recommend", engine, 4, "--json", "-k", 5)
    without = {entry["item_id"] for entry in json.loads(run(*line).stdout)["items"]}
    everything = json.loads(run(*line, "--include-seen").stdout)["items"]
    assert not without & seen
    assert {entry["item_id"] for entry in everything} & seen


def test_unknown_user_gets_what_is_popular_or_an_error(
    engine: Path, run: Run, refused: Refused
) -> None:
    result = run("recommend", engine, 4711)
    assert "User 4711 is unknown: what is popular" in result.stdout
    assert "user_id must have a history" in refused("recommend", engine, 4711, "--known-only")


def test_string_ids(named_engine: Path, run: Run) -> None:
    result = run("recommend", named_engine, "u4", "--json")
    document = json.loads(result.stdout)
    expected = rec.Engine.load(named_engine).recommend("u4")
    assert document["user_id"] == "u4"
    assert [entry["item_id"] for entry in document["items"]] == expected.ids.tolist()
    assert run("recommend", named_engine, "--history", "i1,i2").exit_code == 0


def test_nothing_left(engine: Path, run: Run) -> None:
    everything = ",".join(str(item) for item in range(40))
    result = run("recommend", engine, "--history", everything)
    assert result.exit_code == 0
    assert "Nothing is left to recommend" in result.stdout
    assert json.loads(run("recommend", engine, "--history", everything, "--json").stdout) == {
        "items": []
    }


def test_wrong_kind_of_id(engine: Path, refused: Refused) -> None:
    assert "USER must be a number" in refused("recommend", engine, "bob")
    assert "--history must be a number" in refused("recommend", engine, "--history", "1,x")


def test_unknown_item_in_history(engine: Path, refused: Refused) -> None:
    line = refused("recommend", engine, "--history", "1,4711")
    assert "must be in the catalogue, got 1 that are not: 4711" in line


def test_user_or_history_is_needed_and_not_both(engine: Path, refused: Refused) -> None:
    assert "give either USER or --history" in refused("recommend", engine, code=2)
    assert "give either" in refused("recommend", engine, 1, "--history", "2", code=2)
    line = refused("recommend", engine, "--history", "2", "--known-only", code=2)
    assert "--known-only is about USER" in line


@pytest.mark.parametrize("content", [b"", b"not an engine", b"\x00" * 4096])
def test_foreign_file(tmp_path: Path, refused: Refused, content: bytes) -> None:
    (tmp_path / "x.rec").write_bytes(content)
    assert "x.rec" in refused("recommend", tmp_path / "x.rec", 1)


def test_absent_file(tmp_path: Path, refused: Refused) -> None:
    assert "absent.rec" in refused("recommend", tmp_path / "absent.rec", 1)
