"""Parts of the demo that can be wrong without the screen showing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recengine as rec
from recengine.cli.demo import data, live, program, quality
from recengine.cli.demo.movies import Movies, readable
from recengine.evaluation import Evaluation


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Full Monty, The", "The Full Monty"),
        ("Blob, The (1958)", "The Blob (1958)"),
        ("Avventura, L'", "L'Avventura"),
        ("Boot, Das", "Das Boot"),
        ("Sex, Lies, and Videotape", "Sex, Lies, and Videotape"),
        ("Aliens", "Aliens"),
    ],
)
def test_titles_are_readable(title: str, expected: str) -> None:
    assert readable(title) == expected


@pytest.fixture(scope="module")
def movies(ml_100k_folder: Path) -> Movies:
    return Movies.load()


def test_movies_have_titles_years_and_texts(movies: Movies) -> None:
    assert movies.title(1) == "Toy Story (1995)"
    assert movies.title(267) == "unkonwn"  # as MovieLens has it, without a year
    assert movies.texts[0].startswith("Toy Story. ")
    assert len(movies.texts) == movies.inter.n_items


def test_spoiled_copy_is_cleaned_back(movies: Movies) -> None:
    report = data.spoil(movies.inter).report
    assert report.n_kept == movies.inter.report.n_kept + data.BOT_CAP
    kinds = ("missing", "out_of_range", "not_finite", "negative_weight", "explicit_zero")
    assert {report.dropped[kind] for kind in (*kinds, "duplicate")} == {40}
    assert report.dropped["bot"] == movies.inter.n_items - data.BOT_CAP


def test_cold_users_are_told_from_warm_ones(movies: Movies) -> None:
    train, test = movies.inter.split_time(0.2)
    split = quality.Split(train, test, None, None, None)  # type: ignore[arg-type]
    first, truth = quality._first_events(split)
    for user in list(first)[:20]:
        assert not len(train.history(user))
        whole = test.history(user)
        np.testing.assert_array_equal(whole[:3], first[user].items)
        np.testing.assert_array_equal(whole[3:], truth.history(user))
        made = quality.Quality({}, {}, first, truth)
        np.testing.assert_array_equal(made.later_events(user).items, whole[3:])
        assert set(made.later_events(user).weights) <= {1, 2, 3, 4, 5}
    assert len(first) == 192  # as published for this split


def test_median_user_is_in_the_middle_of_the_busy_ones() -> None:
    made = Evaluation(
        k=2,
        users=np.array([10, 11, 12, 13, 14]),
        per_user={"ndcg": np.array([0.0, 0.9, 0.5, 0.5, 0.4])},
        n_relevant=np.array([1, 2, 3, 4, 2]),
        warm=None,
        catalogue=None,
    )
    assert quality.median_user(made) == 13  # of 14 (.4), 12 (.5), 13 (.5), 11 (.9)


def test_moves_are_told() -> None:
    def topk(*ids: int) -> rec.TopK:
        return rec.TopK(np.array(ids), np.arange(len(ids), 0, -1).astype(np.float32))

    before, after = topk(1, 2, 3, 4), topk(1, 9, 2, 3)
    assert [live._move(before, after, place).plain for place in range(4)] == [
        "=", "new", "▼ 1", "▼ 1",
    ]  # fmt: skip
    assert live._move(after, before, 2).plain == "▲ 1"


def test_program_has_ten_lines_of_100_columns() -> None:
    lines = program.PROGRAM.splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) <= 98


def test_program_runs(tmp_path: Path, ml_100k_folder: Path, minilm_folder: Path) -> None:
    check = (
        "titles = engine.item_attributes(ids)['title'].tolist()\n"
        "assert len(titles) == 10 and 'Star Wars' in titles, titles\n"
        "assert engine.similar_items(2000).ids[0] == 1\n"
        "print('ran')\n"
    )
    script = tmp_path / "ten_lines.py"
    script.write_text(program.PROGRAM + check)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran\n"
