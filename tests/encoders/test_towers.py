"""Two towers: a pair that was trained together is taken, any other refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import port, save, save_tower
from onnx import TensorProto, helper
from sequence_graphs import DIM, TOLD, gru_oracle, save_gru

from recengine import BundleError, FlatIndex, OnnxEncoder, SequenceEncoder, TwoTower

WEIGHT = np.random.default_rng(3).standard_normal((3, DIM)).astype(np.float32)


def say(path: Path, told: Any) -> None:
    """Write what a graph says of itself under recengine.tower; a str as it is."""
    model = onnx.load(path)
    text = told if isinstance(told, str) else json.dumps(told)
    helper.set_model_props(model, {"recengine.tower": text})
    onnx.save(model, path)


def opened(folder: Path, user: Any = None, item: Any = None, **options: Any) -> TwoTower:
    """Return the pair of a folder, made anew where it says something."""
    paths = folder / "user.onnx", folder / "item.onnx"
    save_gru(paths[0])
    save_tower(paths[1], WEIGHT)
    for path, told in zip(paths, (user, item), strict=True):
        if told is not None:
            say(path, told)
    return TwoTower(
        SequenceEncoder(paths[0], num_threads=1, **TOLD),
        OnnxEncoder(paths[1], output="vector", num_threads=1),
        **options,
    )


def test_pair_encodes_users_and_items(tmp_path: Path, rng: np.random.Generator) -> None:
    towers = opened(tmp_path, {"role": "user", "pair": "7"}, {"role": "item", "pair": "7"})
    features = rng.standard_normal((9, 3)).astype(np.float32)
    items, users = np.maximum(features @ WEIGHT, 0), gru_oracle([2, 3])[None]
    np.testing.assert_allclose(towers.encode_items(features), items, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(towers.encode_users([[1, 2]]), users, rtol=1e-5, atol=1e-6)
    assert towers.dim == DIM
    index = FlatIndex(towers.encode_items(features), metric="dot")
    ids, _ = index.search(towers.encode_users([[1, 2]]), k=1)
    assert ids[0, 0] == np.argmax(users @ items.T)


def test_pair_travels_by_pickle(tmp_path: Path) -> None:
    towers = opened(tmp_path, {"pair": "7"}, {"pair": "7"})
    copy = pickle.loads(pickle.dumps(towers))
    assert (copy.digest, copy.digests) == (towers.digest, towers.digests)
    history = [[1, 2]]
    np.testing.assert_array_equal(copy.encode_users(history), towers.encode_users(history))


def test_pair_is_known_by_a_partner(tmp_path: Path) -> None:
    digests = opened(tmp_path, {"pair": "7"}, {"pair": "7"}).digests
    say(tmp_path / "user.onnx", {})
    user, item = (tmp_path / name for name in ("user.onnx", "item.onnx"))
    say(item, {})
    partner = OnnxEncoder(item).digest
    say(user, {"partner": partner})
    made = SequenceEncoder(user, **TOLD), OnnxEncoder(item, output="vector")
    assert TwoTower(*made).digests[1] == partner != digests[1]
    say(user, {"partner": digests[1]})
    with pytest.raises(BundleError, match=r"user\.onnx belongs to the tower of SHA-256"):
        TwoTower(SequenceEncoder(user, **TOLD), made[1])


def test_pair_is_known_by_digests(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing says that .* belong together: export them"):
        opened(tmp_path)
    digests = opened(tmp_path, {"pair": "7"}, {"pair": "7"}).digests
    assert opened(tmp_path, {"pair": "7"}, {"pair": "7"}, digests=digests).digests == digests
    with pytest.raises(BundleError, match=r"item\.onnx is not the file it was"):
        opened(tmp_path, {"pair": "7"}, {"pair": "7"}, digests=(digests[0], "0" * 64))
    plain = [OnnxEncoder(tmp_path / "item.onnx", output="vector") for _ in range(2)]
    say(tmp_path / "item.onnx", {})
    with pytest.raises(BundleError, match=r"item\.onnx is not the file it was"):
        TwoTower(plain[0], OnnxEncoder(tmp_path / "item.onnx"), digests=(digests[1], digests[1]))
    assert TwoTower(plain[0], plain[1], digests=(digests[1], digests[1])).dim == DIM


@pytest.mark.parametrize(
    ("user", "item", "message"),
    [
        ({"pair": "7"}, {"pair": "8"}, r"must be of one pair, got '7' and '8'"),
        ({"pair": "7"}, {}, r"must be of one pair, got '7' and None"),
        ({"pair": "7"}, None, r"must be of one pair, got '7' and None"),
        ({"pair": "7", "role": "item"}, {"pair": "7"}, "user must be a user tower: .* says 'item'"),
        ({"partner": "f" * 64}, {}, "belongs to the tower of SHA-256 fff"),
        ({}, {"partner": "f" * 64}, "belongs to the tower of SHA-256 fff"),
        ({"pairs": "7"}, {}, "says pairs under recengine.tower; known are role, pair, partner"),
        ({"pair": 7}, {"pair": 7}, "as a JSON object of str"),
        ("[]", {}, "as a JSON object of str"),
        ("{", {}, "in no JSON"),
    ],
)
def test_other_pair_is_refused(tmp_path: Path, user: Any, item: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        opened(tmp_path, user, item)


def test_vectors_must_have_one_dim(tmp_path: Path) -> None:
    user = opened(tmp_path, {"pair": "7"}, {"pair": "7"}).user
    path = save_tower(tmp_path / "item.onnx", WEIGHT[:, :2])
    say(path, {"pair": "7"})
    with pytest.raises(ValueError, match="item must have user's dim, 4, got 2"):
        TwoTower(user, OnnxEncoder(path))
    ports = [port(name, TensorProto.FLOAT, ["n", "d"]) for name in "xy"]
    save(path, [helper.make_node("Neg", ["x"], ["y"])], ports[:1], ports[1:])
    say(path, {"pair": "7"})
    with pytest.raises(ValueError, match="item must tell its dim: its graph hides the output's"):
        TwoTower(user, OnnxEncoder(path))


def test_what_is_no_tower_is_refused(tmp_path: Path) -> None:
    towers = opened(tmp_path, {"pair": "7"}, {"pair": "7"})
    with pytest.raises(TypeError, match="user must be a SequenceEncoder, OnnxEncoder or TextEn"):
        TwoTower("user.onnx", towers.item)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="digests must be two, of user and item, got 'abc'"):
        TwoTower(towers.user, towers.item, digests="abc")  # type: ignore[arg-type]
