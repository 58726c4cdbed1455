"""``recengine fit``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import recengine as rec
from recengine._types import Float32Array
from recengine.factorization._checkpoint import Checkpoint

Run = Callable[..., Result]
Refused = Callable[..., str]


def model_of(path: Path) -> rec.ALS:
    """Return the model in an engine file."""
    model = rec.Engine.load(path)._state.model
    assert isinstance(model, rec.ALS)
    return model


def test_fit_saves_the_engine_that_python_would(folder: Path, engine: Path) -> None:
    inter = rec.Interactions.read(folder / "events.csv")
    direct = rec.Engine.build(inter, rec.ALS(factors=64, random_state=0).fit(inter))
    loaded = rec.Engine.load(engine)
    users = inter.users.ids
    np.testing.assert_array_equal(loaded.recommend(users).ids, direct.recommend(users).ids)
    np.testing.assert_array_equal(loaded.recommend(users).scores, direct.recommend(users).scores)


def test_fit_tells_cleaning_stages_and_what_next(folder: Path, tmp_path: Path, run: Run) -> None:
    dirty = tmp_path / "dirty.csv"
    dirty.write_text((folder / "events.csv").read_text() + "1,2,-3,1600000000\n,2,1,1600000000\n")
    result = run("fit", dirty, tmp_path / "x.rec", "--factors", "4", "--iterations", "2")
    assert result.exit_code == 0, result.output
    assert "482 rows read, 480 events kept" in result.stdout
    assert "negative_weight" in result.stdout
    assert "train ALS, 4 factors, 2 epochs" in result.stdout
    assert "60 users, 40 items" in result.stdout
    assert "Next: recengine recommend" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_fit_takes_every_option_of_als(folder: Path, tmp_path: Path, run: Run) -> None:
    options = {
        "factors": 4, "regularization": 0.1, "alpha": 2.0, "iterations": 3,
        "objective": "ials", "unobserved_weight": 0.2, "frequency_exponent": 0.5,
    }  # fmt: skip
    line = [part for name, v in options.items() for part in (f"--{name.replace('_', '-')}", v)]
    target = tmp_path / "x.rec"
    result = run("fit", folder / "events.csv", target, *line, "--seed", 5)
    assert result.exit_code == 0, result.output
    inter = rec.Interactions.read(folder / "events.csv")
    direct = rec.Engine.build(inter, rec.ALS(**options, random_state=5).fit(inter))
    users = inter.users.ids
    np.testing.assert_array_equal(
        rec.Engine.load(target).recommend(users).scores, direct.recommend(users).scores
    )


@pytest.mark.parametrize(
    "options",
    [{"solver": "cholesky"}, {"cg_steps": 2}, {"solver": "block", "block_size": 32}],
)
def test_fit_takes_the_solver_and_its_option(
    folder: Path, tmp_path: Path, run: Run, options: dict[str, str | int]
) -> None:
    line = [part for name, v in options.items() for part in (f"--{name.replace('_', '-')}", v)]
    target = tmp_path / "x.rec"
    result = run("fit", folder / "events.csv", target, *line, "--factors", 64, "--iterations", 2)
    assert result.exit_code == 0, result.output
    inter = rec.Interactions.read(folder / "events.csv")
    direct = rec.ALS(64, iterations=2, random_state=0, **options).fit(inter)
    fitted = model_of(target)
    for name in ("solver", "cg_steps", "block_size"):
        assert getattr(fitted, name) == getattr(direct, name)
    np.testing.assert_array_equal(fitted.user_factors_, direct.user_factors_)


def test_fit_goes_on_from_its_checkpoint(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = Checkpoint.save

    def told(self: Checkpoint, epochs: int, *factors: Float32Array) -> None:
        saved.append(epochs)
        save(self, epochs, *factors)

    monkeypatch.setattr(Checkpoint, "save", told)
    events, target = folder / "events.csv", tmp_path / "x.rec"
    line = ("fit", events, target, "--factors", 4, "--checkpoint", tmp_path / "als.ckpt")
    for iterations in (2, 4):
        result = run(*line, "--iterations", iterations)
        assert result.exit_code == 0, result.output
    assert saved == [1, 2, 3, 4]
    direct = rec.ALS(4, iterations=4, random_state=0).fit(rec.Interactions.read(events))
    np.testing.assert_array_equal(model_of(target).user_factors_, direct.user_factors_)
    np.testing.assert_array_equal(model_of(target).item_factors_, direct.item_factors_)


def test_fit_popularity(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("fit", folder / "events.csv", tmp_path / "x.rec", "--model", "popularity")
    assert result.exit_code == 0, result.output
    assert rec.Engine.load(tmp_path / "x.rec").weights == {"popularity": 1.0}


def test_fit_reads_renamed_columns(folder: Path, tmp_path: Path, run: Run) -> None:
    text = (folder / "events.csv").read_text().replace("user_id,item_id", "uid,sku")
    (tmp_path / "other.csv").write_text(text)
    target = tmp_path / "x.rec"
    line = ("-c", "user_id=uid", "-c", "item_id=sku", "-c", "weight=")
    result = run("fit", tmp_path / "other.csv", target, *line, "--factors", 4)
    assert result.exit_code == 0, result.output
    assert set(rec.Engine.load(target).history(3)[1].tolist()) == {1.0}


def test_fit_reads_recbole_files(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"{u}\t{i}\t3\t{u + i}\n" for u in range(5) for i in range(3))
    )
    (tmp_path / "x.item").write_text('item_id:token\ttitle:token_seq\n1\tA "quoted\n')
    target = tmp_path / "x.rec"
    result = run(
        "fit", tmp_path / "x.inter", target, "--items", tmp_path / "x.item", "--factors", 2
    )
    assert result.exit_code == 0, result.output
    titles = rec.Engine.load(target).item_attributes([0, 1, 2])["title"].tolist()
    assert titles == [None, 'A "quoted', None]


def test_fit_reads_parquet(folder: Path, tmp_path: Path, run: Run) -> None:
    import polars as pl

    pl.read_csv(folder / "events.csv").write_parquet(tmp_path / "e.parquet")
    pl.read_csv(folder / "items.csv").write_parquet(tmp_path / "i.parquet")
    target = tmp_path / "x.rec"
    line = ("--items", tmp_path / "i.parquet", "--factors", 4)
    assert run("fit", tmp_path / "e.parquet", target, *line).exit_code == 0
    assert rec.Engine.load(target).item_attributes([7])["title"].tolist() == ["Film [7]"]


def test_missing_file_is_named(tmp_path: Path, refused: Refused) -> None:
    assert "absent.csv" in refused("fit", tmp_path / "absent.csv", tmp_path / "x.rec")


def test_missing_folder_is_refused_before_training(
    folder: Path, tmp_path: Path, refused: Refused
) -> None:
    line = refused("fit", folder / "events.csv", tmp_path / "nowhere" / "x.rec")
    assert "there is no folder" in line
    line = refused("fit", folder / "events.csv", tmp_path)
    assert "ENGINE must be a file name" in line


def test_missing_column_names_the_fix(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "x.csv").write_text("uid,item_id\n1,2\n")
    line = ("fit", tmp_path / "x.csv", tmp_path / "x.rec")
    assert refused(*line) == (
        f"error: {tmp_path / 'x.csv'} must have a column 'user_id' for user_id, got uid, item_id; "
        "say -c user_id=NAME\n"
    )
    assert "must have a column 'who' for user_id" in refused(*line, "-c", "user_id=who")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("user_id", "--column must be ROLE=NAME, got 'user_id'"),
        ("stars=weight", "must be ROLE=NAME of user_id, item_id, weight, datetime, got 'stars="),
        ("item_id=", "--column must name a column for item_id, got 'item_id='"),
    ],
)
def test_a_column_option_is_checked(
    folder: Path, tmp_path: Path, refused: Refused, pair: str, message: str
) -> None:
    assert message in refused("fit", folder / "events.csv", tmp_path / "x.rec", "-c", pair)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", "", "e.csv must be a readable .csv file, got: empty CSV"),
        ("e.parquet", "x", "e.parquet must be a readable .parquet file, got: "),
        ("e.csv", "user_id,item_id,weight\n1,2,x\n", "e.csv: weight must be numbers, got str"),
        ("e.csv", "user_id,item_id,datetime\n1,2,soon\n", "e.csv: datetime must be ISO 8601 or"),
        ("e.txt", "", "EVENTS must end in .csv, .tsv, .inter, .parquet, got 'e.txt'"),
    ],
)
def test_a_file_of_events_is_checked(
    tmp_path: Path, refused: Refused, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in refused("fit", tmp_path / name, tmp_path / "x.rec")


def test_unusable_ids_are_the_files_fault(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "x.csv").write_text("user_id,item_id\n1.5,2\n")
    assert "user_id" in refused("fit", tmp_path / "x.csv", tmp_path / "x.rec")


def test_no_events_is_an_error(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "x.csv").write_text("user_id,item_id,weight\n1,2,0\n")
    assert "must hold events, got none of 1 rows" in refused(
        "fit", tmp_path / "x.csv", tmp_path / "x.rec"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title\nA\n", "i.csv must have a column 'item_id', got title"),
        ("item_id,title\n1,A\n1,B\n", "i.csv: column 'item_id' must not repeat an id"),
        ("item_id,title\n1.5,A\n", "i.csv: column 'item_id' must be integers or strings"),
        ("item_id,title\nx,A\n", "i.csv: column 'item_id' must be integers, as the engine's"),
        ("", "i.csv must be a readable .csv file, got: empty CSV"),
    ],
)
def test_items_are_checked(
    folder: Path, tmp_path: Path, refused: Refused, text: str, message: str
) -> None:
    (tmp_path / "i.csv").write_text(text)
    line = refused(
        "fit", folder / "events.csv", tmp_path / "x.rec", "--items", tmp_path / "i.csv",
        "--factors", 2,
    )  # fmt: skip
    assert message in line
    assert not (tmp_path / "x.rec").exists()


def test_items_of_unknown_kind(folder: Path, tmp_path: Path, refused: Refused) -> None:
    line = refused("fit", folder / "events.csv", tmp_path / "x.rec", "--items", "items.xlsx")
    assert "--items must end in .csv, .tsv, .item, .parquet" in line


def test_als_option_without_als_is_refused(folder: Path, tmp_path: Path, refused: Refused) -> None:
    line = ("fit", folder / "events.csv", tmp_path / "x.rec", "--model", "popularity")
    assert "--seed is about --model als" in refused(*line, "--seed", 1, code=2)
    assert "--unobserved-weight is about" in refused(*line, "--unobserved-weight", 1, code=2)


def test_als_refuses_values_by_name(folder: Path, tmp_path: Path, refused: Refused) -> None:
    line = ("fit", folder / "events.csv", tmp_path / "x.rec")
    assert refused(*line, "--factors", 0) == "error: --factors must be >= 1, got 0\n"
    assert refused(*line, "--seed", -1) == "error: --seed must be >= 0, got -1\n"
    told = "error: --unobserved-weight is about --objective ials, got 1\n"
    assert refused(*line, "--unobserved-weight", 1) == told
    ials = ("--objective", "ials", "--factors", 2, "--frequency-exponent", 1e4)
    assert "error: --frequency-exponent must keep" in refused(*line, *ials)
    assert not (tmp_path / "x.rec").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--cg-steps", 2, "--solver", "cholesky"), "--cg-steps is about --solver cg, got 2"),
        (("--block-size", 32), "--block-size is about --solver block, got 32"),
        (("--cg-steps", 0), "--cg-steps must be >= 1, got 0"),
        (
            ("--solver", "block", "--block-size", 20),
            "--block-size must be a multiple of 16, got 20",
        ),
    ],
)
def test_a_solver_refuses_what_it_cannot_use(
    folder: Path, tmp_path: Path, refused: Refused, options: tuple[object, ...], told: str
) -> None:
    line = ("fit", folder / "events.csv", tmp_path / "x.rec")
    assert refused(*line, *options) == f"error: {told}\n"
    assert not (tmp_path / "x.rec").exists()


def test_a_checkpoint_is_checked(folder: Path, tmp_path: Path, run: Run, refused: Refused) -> None:
    events, kept, target = folder / "events.csv", tmp_path / "als.ckpt", tmp_path / "x.rec"
    line = ("fit", events, target, "--factors", 4, "--iterations", 2)
    assert "--checkpoint must be another file than ENGINE" in refused(*line, "--checkpoint", target)
    assert "--checkpoint must be a file name" in refused(*line, "--checkpoint", tmp_path)
    absent = tmp_path / "nowhere" / "als.ckpt"
    assert "there is no folder" in refused(*line, "--checkpoint", absent)
    popular = (*line[:3], "--model", "popularity", "--checkpoint", kept)
    assert "--checkpoint is about --model als" in refused(*popular, code=2)
    assert not kept.exists()
    assert run(*line, "--checkpoint", kept).exit_code == 0
    target.unlink()
    told = refused(*line, "--checkpoint", kept, "--alpha", 2)
    assert told.startswith("error: --checkpoint must be of the same data, settings")
    told = refused(*line, "--checkpoint", kept, "--iterations", 1)
    assert told == "error: --iterations must be >= the 2 of the checkpoint, got 1\n"
    before = events.read_bytes()
    assert "events.csv" in refused(*line, "--checkpoint", events)
    assert events.read_bytes() == before
    assert not target.exists()
