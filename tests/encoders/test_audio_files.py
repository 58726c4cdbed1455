"""Folders, options and references of an audio encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import save_ear, save_front_end, save_sum, save_tower

from recengine import AudioEncoder, BundleError, TextEncoder

OPTIONS = {"window": 12, "hop": 4, "sample_rate": 1000, "feature_scale": 0.5}
SOUND = (np.sin(np.arange(90.0)), 1000)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "ear"
    folder.mkdir()
    save_ear(folder / "model.onnx", rng.standard_normal((15, 6)).astype(np.float32))
    kernel = rng.standard_normal((3, 4)).astype(np.float32)
    save_front_end(folder / "front_end.onnx", kernel)
    (folder / "audio.json").write_text(json.dumps(OPTIONS))
    return folder


@pytest.fixture
def encoder(folder: Path) -> AudioEncoder:
    return AudioEncoder.open(folder, num_threads=1)


def test_folder_says_how_it_hears(folder: Path, encoder: AudioEncoder) -> None:
    files = folder / "model.onnx", folder / "front_end.onnx"
    made = AudioEncoder(*files, num_threads=1, **OPTIONS)  # type: ignore[arg-type]
    assert made.digest == encoder.digest
    np.testing.assert_array_equal(made.encode_query(SOUND), encoder.encode_query(SOUND))
    assert (encoder.device, encoder.reason, encoder.dim) == ("cpu", "asked for", 6)
    assert repr(encoder) == f"AudioEncoder('{folder}/model.onnx', device='cpu', dim=6)"


def test_folder_without_a_file_is_named(folder: Path) -> None:
    (folder / "audio.json").rename(folder / "other.json")
    with pytest.raises(FileNotFoundError, match=r"must hold audio\.json"):
        AudioEncoder.open(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold model\.onnx or .*melspectrogram\.onnx"):
        AudioEncoder.open(folder)
    with pytest.raises(FileNotFoundError, match=r"a folder or one of .*speech-embedding.*, got"):
        AudioEncoder.open(folder / "nothing")
    with pytest.raises(FileNotFoundError, match=r"must hold model\.onnx"):
        TextEncoder.open(folder)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"window": 12, "hop": 13}', '{"window": 12, "hop": 4, "hops": 1}',
     '{"window": "12", "hop": 4}', '{"window": 12, "hop": 4, "amplitude": 0}'],
)  # fmt: skip
def test_damaged_configuration_is_named(folder: Path, content: str) -> None:
    (folder / "audio.json").write_text(content)
    with pytest.raises(BundleError, match=r"audio\.json is damaged"):
        AudioEncoder.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop": 13}, "hop must be <= window, 12, got 13"),
        ({"window": 0}, "window must be >= 1"),
        ({"amplitude": -1}, "amplitude must be > 0"),
        ({"feature_offset": float("nan")}, "feature_offset must be finite"),
        ({"hop": 1}, "hop must be worth 1 to 5 frames of front_end.onnx, got 1 samples"),
        ({"window": 14}, "cannot take shape"),
        ({"window": 3, "hop": 3}, "cannot run on"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    files = folder / "model.onnx", folder / "front_end.onnx"
    with pytest.raises(ValueError, match=message):
        AudioEncoder(*files, **{**OPTIONS, **change})


def test_graphs_that_do_not_fit_are_refused(tmp_path: Path, folder: Path) -> None:
    two = save_sum(tmp_path / "sum.onnx")
    with pytest.raises(ValueError, match=r"sum\.onnx must take one real input, it takes a float32"):
        AudioEncoder(two, window=3)
    with pytest.raises(ValueError, match=r"model\.onnx cannot|cannot take shape|must take windows"):
        AudioEncoder(folder / "model.onnx", window=12)
    tower = save_tower(tmp_path / "tower.onnx", np.ones((12, 2), np.float32))
    with pytest.raises(ValueError, match="feature_scale and feature_offset must go with"):
        AudioEncoder(tower, window=12, feature_scale=2.0)


def test_reference_finds_the_encoder_again(encoder: AudioEncoder) -> None:
    reference = json.loads(json.dumps(encoder.reference()))
    again = AudioEncoder.from_reference(reference, num_threads=1)
    assert again.reference() == encoder.reference()
    np.testing.assert_array_equal(again.encode_query(SOUND), encoder.encode_query(SOUND))


def test_digest_is_of_what_makes_the_vectors(folder: Path, encoder: AudioEncoder) -> None:
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert AudioEncoder.open(elsewhere, num_threads=1).digest == encoder.digest
    others = set()
    for name, value in {"hop": 2, "amplitude": 2.0, "normalize": False}.items():
        (elsewhere / "audio.json").write_text(json.dumps({**OPTIONS, name: value}))
        others.add(AudioEncoder.open(elsewhere, num_threads=1).digest)
    save_front_end(elsewhere / "front_end.onnx", np.ones((3, 4), np.float32))
    others.add(AudioEncoder.open(elsewhere, num_threads=1).digest)
    assert len({encoder.digest, *others}) == 5


@pytest.mark.parametrize("name", ["model.onnx", "front_end.onnx"])
def test_reference_refuses_another_file(folder: Path, encoder: AudioEncoder, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=f"{name} is not the file it was"):
        AudioEncoder.from_reference(encoder.reference())
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        AudioEncoder.from_reference(encoder.reference())


@pytest.mark.parametrize(
    "change", [{"kind": "text"}, {"model": None}, {"options": {"hop": 1}}, {"x": 1}]
)
def test_damaged_reference_is_refused(encoder: AudioEncoder, change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"kind must be 'audio'|no audio encoder's"):
        AudioEncoder.from_reference({**encoder.reference(), **change})


def test_output_inside_the_model_is_cut_out(folder: Path, encoder: AudioEncoder) -> None:
    """`y` is what `heard` is made of, without its frame axis."""
    inside = AudioEncoder.open(folder, num_threads=1, output="y")
    np.testing.assert_array_equal(inside.encode_query(SOUND), encoder.encode_query(SOUND))
    assert inside.digest != encoder.digest
    assert AudioEncoder.from_reference(inside.reference(), num_threads=1).digest == inside.digest
    (folder / "audio.json").write_text(json.dumps({**OPTIONS, "output": "y"}))
    assert AudioEncoder.open(folder, num_threads=1).digest == inside.digest
    with pytest.raises(ValueError, match=r"output must be a tensor that model\.onnx makes: heard"):
        AudioEncoder.open(folder, output="z")
