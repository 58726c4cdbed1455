"""State dicts are read as data: the right tensors, or a named error, and nothing is ever run."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from recengine import BundleError
from recengine.encoders.state_dict import read_state_dict

HEAD = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
EMPTY = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def several(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def tensor(
    key: str, size: int, offset: int, shape: list[int], strides: list[int], kind: str = "Float"
) -> bytes:
    named = f"ctorch\n{kind}Storage\n".encode()
    storage = several(text("storage"), named, text(key), text("cpu"), number(size), b"N") + b"Q"
    sizes = several(*map(number, shape)), several(*map(number, strides))
    return REBUILD + several(storage, number(offset), *sizes, b"\x89", EMPTY) + b"R"


def dict_of(tensors: dict[str, bytes]) -> bytes:
    return EMPTY + b"(" + b"".join(text(name) + each for name, each in tensors.items()) + b"u"


def written(path: Path, body: bytes, storages: dict[str, np.ndarray]) -> Path:
    system = b"\x80\x02}" + text("little_endian") + b"\x88s."
    keys = b"\x80\x02](" + b"".join(map(text, storages)) + b"e."
    raw = b"".join(struct.pack("<q", len(v)) + v.tobytes() for v in storages.values())
    path.write_bytes(HEAD + system + b"\x80\x02" + body + b"." + keys + raw)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    values = np.arange(12, dtype=np.float32)
    tensors = {
        "kernel": tensor("7", 12, 0, [3, 4], [1, 3]),
        "row": tensor("7", 12, 4, [2], [1]),
        "steps": tensor("8", 1, 0, [], [], "Long"),
    }
    storages = {"7": values, "8": np.array([99], np.int64)}
    return written(tmp_path / "small.pth", dict_of(tensors), storages)


def test_tensors_are_views_of_their_storages(small: Path) -> None:
    found = read_state_dict(small)
    assert list(found) == ["kernel", "row", "steps"]
    np.testing.assert_array_equal(found["kernel"], np.arange(12).reshape(4, 3).T)
    np.testing.assert_array_equal(found["row"], [4, 5])
    assert (found["steps"].shape, int(found["steps"])) == ((), 99)
    assert found["kernel"].dtype == np.float32
    assert not any(value.flags.writeable for value in found.values())


@pytest.mark.parametrize(
    "hostile",
    [
        b"cposix\nsystem\n" + several(text("touch ran")) + b"R",
        b"cbuiltins\neval\n" + several(text("open('ran', 'w')")) + b"R",
        b"(" + text("touch ran") + b"iposix\nsystem\n",
        text("posix") + text("system") + b"\x93" + several(text("touch ran")) + b"R",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nFloatStorage\n" + several(number(1)) + b"R",
        b"ccollections\nOrderedDict\n" + several(text("a")) + b"R",
        b"ccollections\nOrderedDict\n)\x81",
    ],
)
def test_hostile_pickle_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "x.pth", hostile, {})
    with pytest.raises(BundleError, match=r"x\.pth cannot be read as a state dict: it "):
        read_state_dict(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [([3, 4], [4, 2], 0), ([12], [1], 1), ([13], [1], 0), ([2**30], [0], 0), ([-1], [1], 0)],
)
def test_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, shape: list[int], strides: list[int], offset: int
) -> None:
    body = dict_of({"a": tensor("7", 12, offset, shape, strides)})
    path = written(tmp_path / "x.pth", body, {"7": np.zeros(12, np.float32)})
    with pytest.raises(BundleError, match=r"beyond its storage|must be an integer >= 0"):
        read_state_dict(path)


def test_other_formats_are_refused(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(99))
    with pytest.raises(BundleError, match=r"is a zip; only PyTorch's format from before 1\.6"):
        read_state_dict(path)
    path.write_bytes(small.read_bytes().replace(b"M\xe9\x03", b"M\xea\x03"))
    with pytest.raises(BundleError, match="has not the marks of a state dict"):
        read_state_dict(path)


def test_cut_file_is_damaged_at_every_length(tmp_path: Path, small: Path) -> None:
    content, path = small.read_bytes(), tmp_path / "x.pth"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BundleError, match=r"x\.pth (is damaged|cannot be read)"):
            read_state_dict(path)


def test_changed_byte_gives_tensors_or_a_named_error(tmp_path: Path, small: Path) -> None:
    content, path = small.read_bytes(), tmp_path / "x.pth"
    refused = 0
    for place in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
            )
            try:
                found = read_state_dict(path)
            except BundleError:
                refused += 1
            else:
                assert all(value.size <= 12 for value in found.values())
    assert refused > len(content)
