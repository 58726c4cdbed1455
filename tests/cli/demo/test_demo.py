"""The demo from its first screen to its last, with fewer vectors on the speed screen."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from recengine.cli.demo import command

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def result(run: Run, ml_100k_folder: Path, minilm_folder: Path) -> Result:
    return run("demo", "--n-items", 20_000)


@pytest.mark.slow
@pytest.mark.network
class TestDemo:
    def test_ends_well(self, result: Result) -> None:
        assert result.exit_code == 0, (result.output, result.exception)
        assert result.stderr == ""

    def test_fits_100_columns(self, result: Result) -> None:
        assert max(map(len, result.stdout.splitlines())) <= 100

    def test_has_ten_screens_in_order(self, result: Result) -> None:
        headings = re.findall(r"^(\d+)  \S.* ──", result.stdout, re.MULTILINE)
        assert headings == [str(number) for number in range(1, 11)]

    def test_names_the_licences(self, result: Result) -> None:
        assert "GroupLens Research" in result.stdout
        assert "Apache License" in result.stdout

    def test_tells_wins_and_losses(self, result: Result) -> None:
        text = result.stdout
        assert text.count("ALS − popularity") == 3
        assert text.count("content − popularity") == 3
        assert "ALS wins" in text
        assert "popularity wins" in text

    def test_finds_the_new_film_only_after_it_was_added(self, result: Result) -> None:
        rows = result.stdout.partition("“toys that come to life”, before")[2].splitlines()[2:7]
        before = [row[:30] for row in rows]
        after = [row[30:60] for row in rows]
        assert not any("Toy Story 2" in cell for cell in before)
        assert any("Toy Story 2" in cell for cell in after)

    def test_speed_screen_found_the_truth(self, result: Result) -> None:
        assert re.search(r"FlatIndex .* 320 of 320", result.stdout)
        assert re.search(r"onnxruntime .* 3[12]\d of 320", result.stdout)

    def test_shows_times_in_microseconds(self, result: Result) -> None:
        assert re.search(r"`?engine\.observe\(\d+, \d+, \d\)`? took [\d.]+ (µs|ms)", result.stdout)

    def test_leaves_the_log_as_it_was(self, result: Result) -> None:
        log = logging.getLogger("recengine")
        assert log.propagate
        assert not log.handlers


def test_missing_extras_are_named_before_anything_runs(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    line = refused("demo")
    assert "pip install 'recengine[text,onnx]'" in line


def test_too_few_vectors_are_refused(refused: Callable[..., str]) -> None:
    assert "--n-items" in refused("demo", "--n-items", 10, code=2)
