"""``recengine encode``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import Result

import recengine as rec

Run = Callable[..., Result]
Refused = Callable[..., str]
TEXTS = ["a quiet film about the sea", "space battles", "", "two lovers, one ship"]


@pytest.fixture(scope="module")
def expected(minilm_folder: Path) -> np.ndarray:
    return rec.TextEncoder.open(minilm_folder).encode(TEXTS)


def test_lines_of_a_text_file(
    tmp_path: Path, run: Run, minilm_folder: Path, expected: np.ndarray
) -> None:
    (tmp_path / "t.txt").write_text("\n".join(TEXTS) + "\n")
    result = run("encode", tmp_path / "t.txt", tmp_path / "v.npy", "--encoder", minilm_folder)
    assert result.exit_code == 0, result.output
    assert "4 texts x 384" in result.stdout
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_column_of_a_table(
    tmp_path: Path, run: Run, minilm_folder: Path, expected: np.ndarray, suffix: str
) -> None:
    separator = "," if suffix == ".csv" else "\t"
    rows = [f'{number}{separator}"{text}"' for number, text in enumerate(TEXTS)]
    source = tmp_path / f"t{suffix}"
    source.write_text("\n".join([f"id{separator}title", *rows]) + "\n", "utf-8-sig")
    line = ("--encoder", minilm_folder, "--column", "title", "--batch-size", 64)
    result = run("encode", source, tmp_path / "v.npy", *line)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


def test_no_texts_is_an_empty_matrix(tmp_path: Path, run: Run, minilm_folder: Path) -> None:
    (tmp_path / "t.txt").write_text("")
    result = run("encode", tmp_path / "t.txt", tmp_path / "v.npy", "--encoder", minilm_folder)
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "v.npy").shape == (0, 384)


def test_columns_are_asked_for_by_name(tmp_path: Path, refused: Refused) -> None:
    source, target = tmp_path / "t.csv", tmp_path / "v.npy"
    source.write_text("id,title\n1,A\n")
    assert "--column NAME, one of id, title" in refused("encode", source, target)
    line = refused("encode", source, target, "--column", "name")
    assert "--column must be one of id, title, got 'name'" in line
    (tmp_path / "t.txt").write_text("A\n")
    line = refused("encode", tmp_path / "t.txt", target, "--column", "title")
    assert "--column needs a .csv or .tsv file" in line


def test_short_row_is_named(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.csv").write_text("id,title\n1,A\n2\n")
    line = refused("encode", tmp_path / "t.csv", tmp_path / "v.npy", "--column", "title")
    assert "t.csv:3 must have 2 columns" in line


def test_files_and_folders_are_checked_first(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.txt").write_text("A\n")
    assert "absent.txt" in refused("encode", tmp_path / "absent.txt", tmp_path / "v.npy")
    assert "must end in .rec or .npy" in refused("encode", tmp_path / "t.txt", tmp_path / "v.csv")
    line = refused("encode", tmp_path / "t.txt", tmp_path / "nowhere" / "v.npy")
    assert "there is no folder" in line


def test_text_that_is_not_utf8(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.txt").write_bytes(b"caf\xe9\n")
    assert "utf-8" in refused("encode", tmp_path / "t.txt", tmp_path / "v.npy")


def test_unknown_encoder(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "t.txt").write_text("A\n")
    line = refused("encode", tmp_path / "t.txt", tmp_path / "v.npy", "--encoder", "nothing")
    assert "source must be a folder or one of" in line


def test_refused_device_leaves_nothing(
    tmp_path: Path, refused: Refused, minilm_folder: Path
) -> None:
    (tmp_path / "t.txt").write_text("A\n")
    line = ("encode", tmp_path / "t.txt", tmp_path / "v.npy", "--encoder", minilm_folder)
    assert "device" in refused(*line, "--device", "tpu")
    assert not (tmp_path / "v.npy").exists()


# --- catalogues -----------------------------------------------------------------------------------


def test_catalogue_of_a_parquet_file(
    tmp_path: Path, run: Run, refused: Refused, minilm_folder: Path, expected: np.ndarray
) -> None:
    source, out, cache = tmp_path / "t.parquet", tmp_path / "t.rec", tmp_path / "cache"
    ids = ["sea", "space", "empty", "ship", "none"]
    pl.DataFrame({"id": ids, "title": [*TEXTS, None]}).write_parquet(source)
    line = ("encode", source, out, "--column", "title", "--id-column", "id", "--cache", cache)
    line = (*line, "--encoder", minilm_folder)
    assert "row 4 (id 'none') must not be missing" in refused(*line)
    result = run(*line, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "4 texts x 384" in result.stdout
    assert "4 encoded, 0 repeated, 0 of an earlier run, 1 skipped" in result.stdout
    assert result.stderr == "row 4 (id 'none') must not be missing\n"
    found = rec.Catalogue.open(out)
    assert found.ids.tolist() == ids[:4]
    np.testing.assert_array_equal(found.vectors, expected)
    assert "0 encoded, 4 repeated" in run(*line, "--skip-bad").stdout


def test_catalogue_of_pictures(tmp_path: Path, run: Run, pictures_folder: Path) -> None:
    names = sorted(path.name for path in pictures_folder.glob("*.jpg"))[:2]
    paths = [str(pictures_folder / name) for name in names]
    pl.DataFrame({"path": [*paths, "gone.png"]}).write_csv(tmp_path / "p.csv")
    line = ("encode", tmp_path / "p.csv", tmp_path / "p.rec", "--column", "path", "--skip-bad")
    result = run(*line, "--kind", "image", "--encoder", "efficientnet-lite0")
    assert result.exit_code == 0, result.output
    found = rec.Catalogue.open(tmp_path / "p.rec")
    assert found.ids.tolist() == [0, 1]
    assert "gone.png" in result.stderr
    expected = rec.ImageEncoder.open("efficientnet-lite0").encode(paths)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [("--id-column", "id"), ("--skip-bad",), ("--cache", "c"), ("--restart",),
                ("--kind", "sound")],
)  # fmt: skip
def test_a_matrix_takes_no_options_of_catalogues(
    tmp_path: Path, refused: Refused, options: tuple[str, ...]
) -> None:
    (tmp_path / "t.txt").write_text("A\n")
    line = refused("encode", tmp_path / "t.txt", tmp_path / "v.npy", *options)
    assert f"{options[0]}" in line
    assert "needs an OUT that ends in .rec" in line


def test_kinds_are_named(tmp_path: Path, refused: Refused) -> None:
    line = refused("encode", tmp_path / "t.csv", tmp_path / "v.rec", "--kind", "video")
    assert "--kind must be one of text, image, sound, got 'video'" in line
