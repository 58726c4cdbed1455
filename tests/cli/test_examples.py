"""Every program under examples/ runs to its end and prints what it promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.usefixtures("ml_100k_folder")


def run_example(name: str, *arguments: str, folder: Path) -> str:
    """Run a program in `folder`, warnings as errors, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        check=False, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_and_short() -> None:
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert programs == [
        "new_users.py",
        "quickstart.py",
        "rank_films.py",
        "search_audio.py",
        "search_images.py",
        "text_search.py",
    ]
    for name in programs:
        assert (EXAMPLES / name).read_text().count("\n") < 120


def test_quickstart(tmp_path: Path) -> None:
    printed = run_example("quickstart.py", folder=tmp_path)
    assert len(printed.splitlines()) == 6
    assert "ndcg=0.07" in printed
    assert (tmp_path / "films.rec").is_file()


def test_rank_films(tmp_path: Path) -> None:
    alone, ranked = run_example("rank_films.py", folder=tmp_path).splitlines()[:2]
    figures = [float(line.partition("ndcg=")[2].partition(",")[0]) for line in (alone, ranked)]
    assert figures[0] == pytest.approx(0.0765, abs=0.002)
    assert figures[1] > figures[0], "what it learned from other films holds for these"
    assert (tmp_path / "ranked.rec").is_file()


def test_new_users(tmp_path: Path) -> None:
    printed = run_example("new_users.py", folder=tmp_path)
    assert "Nothing is known of user" in printed
    assert printed.count("watched ") == 3
    assert "µs each" in printed


def test_text_search(tmp_path: Path, minilm_folder: Path) -> None:
    printed = run_example("text_search.py", "vampires", folder=tmp_path)
    assert "“vampires”" in printed
    assert "Interview with the Vampire" in printed
    new, _, saved = printed.partition("From the saved file")
    assert "Toy Story\n" in new.partition("is new; it is like")[2]
    assert "Toy Story 2" in saved
    assert list(tmp_path.iterdir()) == []


def test_search_images(tmp_path: Path, lite0_folder: Path, pictures_folder: Path) -> None:
    printed = run_example("search_images.py", folder=tmp_path)
    blocks = printed.split("\n\n")
    assert blocks[0].startswith("7 pictures in ")
    assert len(blocks) == 8
    for block in blocks[1:]:
        title, best, *_ = block.splitlines()
        assert best.split()[1] == title.removeprefix("a mirrored, dark part of ")
    cat = pictures_folder / "cat.jpg"
    shutil.copy(cat, tmp_path / "one.jpg")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    printed = run_example("search_images.py", str(tmp_path), str(cat), folder=tmp_path)
    assert printed.startswith("1 pictures in ")
    assert "1.000 one.jpg" in printed


def test_search_audio(tmp_path: Path, speech_folder: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    printed = run_example("search_audio.py", str(broken), folder=tmp_path)
    assert "14 of 14 sounds are found again 20 dB softer" in printed
    assert "14 of 14 sounds are found again 3 % higher and faster" in printed
    assert "9 of 9 sounds are found again spoken by a higher voice" in printed
    assert "12 of 14 sounds are found again with noise" in printed
    assert "like word ai: word ei" in printed
