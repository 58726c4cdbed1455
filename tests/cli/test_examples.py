"""Every program under examples/ runs to its end and prints what it promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import recengine as rec

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
    programs = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))
    assert programs == [
        "new_users.py",
        "quickstart.py",
        "rank_films.py",
        "search_audio.py",
        "search_images.py",
        "text_search.py",
        "train_autoencoder.py",
        "train_recurrent_tower.py",
        "train_sasrec.py",
    ]
    for path in EXAMPLES.glob("*.py"):
        assert path.read_text().count("\n") < 120


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


# --- programs that train with PyTorch -------------------------------------------------------------

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None, reason="needs PyTorch: pip install 'recengine[examples]'"
)


@needs_torch
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_train_recurrent_tower(tmp_path: Path, cell: str) -> None:
    arguments = ("--cell", cell, "--epochs", "1", "--folder")
    first, again = (
        run_example("train_recurrent_tower.py", *arguments, name, folder=tmp_path) for name in "ab"
    )
    assert f"{cell} Evaluation(k=10, n_users=943" in first
    assert "User 42 saw" in first
    assert first.partition(cell)[2] == again.partition(cell)[2], "one seed, one model"
    for name in ("user.onnx", "item.onnx"):
        graphs = [(tmp_path / folder / name).read_bytes() for folder in "ab"]
        assert graphs[0] == graphs[1]
        assert len(graphs[0]) < 1e6


@needs_torch
def test_train_autoencoder(tmp_path: Path) -> None:
    first, again = (
        run_example("train_autoencoder.py", "--epochs", "8", "--out", name, folder=tmp_path)
        for name in ("a.onnx", "b.onnx")
    )
    lines = first.splitlines()
    assert [line.split("  ")[1] for line in lines[1:4]] == [
        "autoencoder, 64 wide",
        "PCA, 64 wide",
        "all features, 970 wide",
    ]
    assert float(lines[1].split()[2]) > 0.15  # 50 films at random hit 0.03
    assert "Toy Story: " in first
    assert lines[1:] == again.splitlines()[1:], "one seed, one model"
    assert (tmp_path / "a.onnx").stat().st_size < 600_000
    whole, code = (
        rec.OnnxEncoder(tmp_path / "a.onnx", num_threads=1, output=name) for name in (None, "code")
    )
    features = np.eye(970, dtype=np.float32)[:5]
    found = whole.run({"features": features})
    assert list(found) == ["reconstruction", "code"]
    np.testing.assert_allclose(code.encode(features), found["code"], rtol=1e-5, atol=1e-6)
    assert code._session.placement != whole._session.placement


@needs_torch
def test_train_sasrec(tmp_path: Path) -> None:
    printed = run_example("train_sasrec.py", "--epochs", "1", folder=tmp_path)
    assert "SASRec NDCG@10 0.0" in printed
    assert "; the difference is -0.0" in printed, "one epoch is not enough"
    assert sum(path.stat().st_size for path in (tmp_path / "sasrec").iterdir()) < 2e6


@needs_torch
@pytest.mark.parametrize("kind", ["gru", "lstm", "sasrec"])
def test_exported_towers_give_what_torch_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import torch

    monkeypatch.syspath_prepend(EXAMPLES)
    training = import_module("_sequence_training")
    torch.manual_seed(0)
    if kind == "sasrec":
        model = import_module("train_sasrec").SASRec(30)
    else:
        model = import_module("train_recurrent_tower").Recurrent(30, kind)
    towers = training.export(model.eval(), tmp_path, rec.IdMap(range(100, 130)), 50)
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 30, size) for size in (1, 2, 7, 20, 30, 50, 80)]
    with torch.no_grad():
        alone = [model(torch.from_numpy(h[None, -50:] + 1))[0, -1].numpy() for h in histories]
        items = model.items.weight[1:].numpy()
    for batch_size in (1, 64):
        vectors = towers.user.encode([h + 100 for h in histories], batch_size=batch_size)
        np.testing.assert_allclose(vectors, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(towers.encode_items(np.arange(30)), items)
