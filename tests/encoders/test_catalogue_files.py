"""Catalogues of image and sound files: repeats, files that are gone, changed or damaged."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from graphs import port, save, save_tower
from onnx import TensorProto, helper
from PIL import Image

from recengine import AudioEncoder, ImageEncoder, encode_catalogue

RATE = 8000


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (shade, 7, 90)).save(stream, "PNG")
    return stream.getvalue()


def sound(pitch: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.sin(np.arange(400) * pitch * 0.01), RATE, format="WAV")
    return stream.getvalue()


def made(kind: str, folder: Path) -> ImageEncoder | AudioEncoder:
    if kind == "image":
        nodes = [helper.make_node("ReduceMean", ["x"], ["v"], axes=[1, 2], keepdims=0)]
        shapes: Any = (["n", 2, 2, 3], ["n", 3])
        ports = [port(n, TensorProto.FLOAT, s) for n, s in zip("xv", shapes, strict=True)]
        return ImageEncoder(save(folder / "i.onnx", nodes, ports[:1], ports[1:]), num_threads=1)
    weight = np.random.default_rng(2).standard_normal((100, 3)).astype(np.float32)
    path = save_tower(folder / "s.onnx", weight)
    return AudioEncoder(path, window=100, sample_rate=RATE, num_threads=1)


@pytest.fixture(params=["image", "sound"])
def case(request: Any, tmp_path: Path) -> tuple[Any, list[Path]]:
    """Return an encoder and nine files, of which 4 has the bytes of 1."""
    content = picture if request.param == "image" else sound
    suffix = "png" if request.param == "image" else "wav"
    paths = []
    for number in range(9):
        paths.append(tmp_path / f"{number}.{suffix}")
        paths[-1].write_bytes(content(20 + (1 if number == 4 else number)))
    return made(request.param, tmp_path), paths


def test_files_and_their_bytes_are_encoded_once(
    case: tuple[Any, list[Path]], tmp_path: Path
) -> None:
    encoder, paths = case
    out = tmp_path / "c.rec"
    found = encode_catalogue([(path.name, path) for path in paths], encoder, out, chunk_size=2)
    np.testing.assert_allclose(found.vectors, encoder.encode(paths), atol=1e-6)
    np.testing.assert_array_equal(found.vectors[4], found.vectors[1])
    assert (found.counts["encoded"], found.counts["repeated"]) == (8, 1)
    contents = [(path.name, path.read_bytes()) for path in paths]
    again = encode_catalogue(contents, encoder, out, chunk_size=2)
    np.testing.assert_array_equal(again.vectors, found.vectors)


def test_gone_and_damaged_files_are_skipped_by_name(
    case: tuple[Any, list[Path]], tmp_path: Path
) -> None:
    encoder, paths = case
    paths[2].unlink()
    paths[5].write_bytes(paths[5].read_bytes()[:30])
    rows = [(path.name, path) for path in paths]
    with pytest.raises(ValueError, match=rf"row 2 \(id '{paths[2].name}'\) cannot be read: .*No "):
        encode_catalogue(rows, encoder, tmp_path / "c.rec")
    found = encode_catalogue(rows, encoder, tmp_path / "c.rec", on_error="skip")
    assert found.rows.tolist() == [0, 1, 3, 4, 6, 7, 8]
    assert [one.row for one in found.skipped] == [2, 5]
    assert found.skipped[1].reason.startswith(f"row 5 (id '{paths[5].name}') (")
    assert str(paths[5]) in found.skipped[1].reason
    with pytest.raises(TypeError, match=r"row 0 \(id 1\) must be a path or the bytes of a file"):
        encode_catalogue([(1, 2.5)], encoder, tmp_path / "d.rec", on_error="skip")


def test_a_file_that_changed_since_is_encoded_anew(
    case: tuple[Any, list[Path]], tmp_path: Path
) -> None:
    encoder, paths = case
    rows = [(path.name, path) for path in paths]
    paths[8].unlink()
    with pytest.raises(ValueError, match="row 8"):
        encode_catalogue(rows, encoder, tmp_path / "c.rec", chunk_size=2)
    paths[8].write_bytes(paths[0].read_bytes())
    paths[3].write_bytes(paths[7].read_bytes())
    found = encode_catalogue(rows, encoder, tmp_path / "c.rec", chunk_size=2)
    assert found.counts["resumed"] == 6  # all of the first four chunks but that of 3
    np.testing.assert_array_equal(found.vectors[[8, 3]], found.vectors[[0, 7]])


def test_a_file_that_changes_meanwhile_does_not_get_into_the_cache(
    case: tuple[Any, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, paths = case
    kind, cache = type(encoder), tmp_path / "cache"
    encode, before = kind.encode, paths[6].read_bytes()

    def slow(self: Any, contents: Any, *args: Any, **options: Any) -> Any:
        paths[6].write_bytes(paths[0].read_bytes())
        os.utime(paths[6], ns=(1, 1))
        return encode(self, contents, *args, **options)

    rows = [(path.name, path) for path in paths]
    with monkeypatch.context() as patch:
        patch.setattr(kind, "encode", slow)
        found = encode_catalogue(rows, encoder, tmp_path / "c.rec", cache=cache, on_error="skip")
    assert [one.row for one in found.skipped] == [6]
    assert found.skipped[0].reason.endswith("changed while it was read")
    paths[6].write_bytes(before)
    again = encode_catalogue(rows, encoder, tmp_path / "c.rec", cache=cache)
    np.testing.assert_allclose(again.vectors, encoder.encode(paths), atol=1e-6)
