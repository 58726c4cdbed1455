"""One vector of several modalities, against the weighted mean of cosines in plain float64."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import port, save
from onnx import TensorProto, helper

from recengine import ConcatFusion, FlatIndex, OnnxFusion, fuse_weighted

WEIGHTS = {"text": 2.0, "image": 1.0, "sound": 0.5}
DIMS = {"text": 5, "image": 3, "sound": 4}
N = 60


@pytest.fixture
def parts(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.standard_normal((N, dim)).astype(np.float32) for name, dim in DIMS.items()}


@pytest.fixture
def present(rng: np.random.Generator) -> dict[str, np.ndarray]:
    masks = {name: rng.random(N) < 0.6 for name in DIMS}
    for mask in masks.values():
        mask[:2] = [False, True]  # item 0 has nothing, item 1 has all
    return masks


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def mean_of_cosines(query: Any, item: Any, has: dict[str, bool]) -> float:
    """Σ w cos over what both have, over Σ w of what the item has."""
    total = sum(WEIGHTS[name] for name in DIMS if has[name])
    shared = [name for name in query if has[name]]
    return sum(WEIGHTS[n] * cosine(query[n], item[n]) for n in shared) / total if total else 0.0


@pytest.mark.parametrize("asked", [("text", "image", "sound"), ("image", "text"), ("sound",)])
def test_one_inner_product_is_the_weighted_mean_of_cosines(
    parts: Any, present: Any, rng: np.random.Generator, asked: tuple[str, ...]
) -> None:
    fusion = ConcatFusion(DIMS, WEIGHTS)
    hidden = {name: np.where(present[name][:, None], part, np.nan) for name, part in parts.items()}
    items = fusion.items(hidden, present)
    query = {name: rng.standard_normal(DIMS[name]).astype(np.float32) for name in asked}
    (fused,) = fusion.queries({name: vector[None] for name, vector in query.items()})
    index = FlatIndex(items, metric="dot")
    ids, scores = index.search(fused, k=N)
    for item, score in zip(ids, scores, strict=True):
        row = {name: part[item] for name, part in parts.items()}
        has = {name: bool(present[name][item]) for name in DIMS}
        assert score == pytest.approx(mean_of_cosines(query, row, has), abs=1e-6)
    assert not items[0].any()
    assert sum(fusion.weights.values()) == pytest.approx(1.0)


def test_an_item_that_lacks_a_modality_is_not_punished(parts: Any) -> None:
    fusion = ConcatFusion(DIMS, WEIGHTS)
    query = fusion.queries({name: part[:1] for name, part in parts.items()})[0]
    only_text = fusion.items({"text": parts["text"]})
    assert float(only_text[0] @ query) == pytest.approx(1.0, abs=1e-6)


def test_weighted_mean_in_one_space(rng: np.random.Generator, present: Any) -> None:
    parts = {name: rng.standard_normal((N, 4)).astype(np.float32) for name in DIMS}
    query = rng.standard_normal(4)
    query /= np.linalg.norm(query)
    hidden = {name: np.where(present[name][:, None], part, np.inf) for name, part in parts.items()}
    fused = fuse_weighted(hidden, WEIGHTS, present)
    for item in range(N):
        has = {name: bool(present[name][item]) for name in DIMS}
        row = {name: part[item] for name, part in parts.items()}
        expected = mean_of_cosines(dict.fromkeys(DIMS, query), row, has)
        assert float(fused[item] @ query) == pytest.approx(expected, abs=1e-6)
    assert not fused[0].any()


def test_huge_and_tiny_vectors_are_unit_vectors_too() -> None:
    huge = fuse_weighted({"a": [[3e38, 3e38]], "b": [[1e-38, 1e-38]]}, {"a": 1, "b": 1})
    np.testing.assert_allclose(huge, [[np.sqrt(0.5)] * 2], rtol=1e-6)


def test_no_items_are_no_rows() -> None:
    fusion = ConcatFusion(DIMS, WEIGHTS)
    assert fusion.items({"text": np.empty((0, 5))}).shape == (0, fusion.dim)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parts": {}}, TypeError, "parts must be a mapping of modalities"),
        ({"parts": {"text": np.ones(3)}}, ValueError, r"parts\['text'\] must be \(n, dim\)"),
        ({"parts": {"video": np.ones((2, 3))}}, ValueError, "parts must name .*, got 'video'"),
        ({"parts": {"text": np.ones((2, 3))}}, ValueError, "must have dim 5, got 3"),
        ({"parts": {"text": np.ones((2, 5)), "image": np.ones((3, 3))}}, ValueError,
         "must have the same number of rows"),
        ({"parts": {"text": np.full((2, 5), np.nan)}}, ValueError, "must be finite, got nan"),
        ({"present": {"text": [1, 0]}}, ValueError, r"present\['text'\] must be bool of shape"),
        ({"present": {"sound": [True]}}, ValueError, "present must name modalities of parts"),
    ],
)  # fmt: skip
def test_parts_are_checked(change: Any, error: type[Exception], message: str) -> None:
    fusion = ConcatFusion(DIMS, WEIGHTS)
    arguments = {"parts": {"text": np.ones((2, 5))}} | change
    for function in (fusion.items, fusion.queries):
        with pytest.raises(error, match=message):
            function(**arguments)


def test_weights_and_dims_are_checked() -> None:
    with pytest.raises(ValueError, match="weights must name text, got image"):
        ConcatFusion({"text": 3}, {"image": 1})
    with pytest.raises(ValueError, match=r"weights\['text'\] must be > 0, got 0"):
        ConcatFusion({"text": 3}, {"text": 0})
    with pytest.raises(ValueError, match="dims must name at least one modality"):
        ConcatFusion({}, {})
    with pytest.raises(ValueError, match="parts must have one dim, got a 2, b 3"):
        fuse_weighted({"a": np.ones((1, 2)), "b": np.ones((1, 3))}, {"a": 1, "b": 1})


# --- a trained head -------------------------------------------------------------------------------


def save_head(path: Path, masked: bool, kind: int = TensorProto.FLOAT) -> Path:
    """tanh(text @ A + image @ B (+ 10 × mask of image)): the head can tell a gap from zeros."""
    rng = np.random.default_rng(4)
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    weights = {"a": rng.standard_normal((5, 2)).astype(dtype),
               "b": rng.standard_normal((3, 2)).astype(dtype),
               "m": np.array([[0, 0], [10, 10]], dtype)}  # fmt: skip
    inputs = [port("text", kind, ["n", 5]), port("image", kind, ["n", 3])]
    nodes = [helper.make_node("MatMul", ["text", "a"], ["ta"]),
             helper.make_node("MatMul", ["image", "b"], ["ib"]),
             helper.make_node("Add", ["ta", "ib"], ["sum"])]  # fmt: skip
    last = "sum"
    if masked:
        inputs.append(port("mask", kind, ["n", 2]))
        nodes += [helper.make_node("MatMul", ["mask", "m"], ["mm"]),
                  helper.make_node("Add", ["sum", "mm"], ["all"])]  # fmt: skip
        last = "all"
    else:
        del weights["m"]
    nodes.append(helper.make_node("Tanh", [last], ["fused"]))
    return save(path, nodes, inputs, [port("fused", kind, ["n", 2])], weights)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_head_gets_zeros_and_the_mask_of_gaps(
    tmp_path: Path, parts: Any, present: Any, kind: int
) -> None:
    head = OnnxFusion(save_head(tmp_path / "h.onnx", True, kind), normalize=False, num_threads=1)
    assert (head.modalities, head.dim) == (("text", "image"), 2)
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 2), (3, 2)))
    two = {name: parts[name] for name in head.modalities}
    masks = {name: present[name] for name in head.modalities}
    text = two["text"] * masks["text"][:, None]
    image = two["image"] * masks["image"][:, None]
    expected = np.tanh(text @ a + image @ b + 10.0 * masks["image"][:, None])
    expected[~(masks["text"] | masks["image"])] = 0.0
    hidden = {n: np.where(masks[n][:, None], part, np.nan) for n, part in two.items()}
    found = head.fuse(hidden, masks, batch_size=7)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found[0].any()
    alone = head.fuse({"text": two["text"]})
    np.testing.assert_allclose(alone, np.tanh(two["text"] @ a), atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(head)).fuse(two), head.fuse(two))


def test_head_without_a_mask_refuses_gaps(tmp_path: Path, parts: Any, present: Any) -> None:
    head = OnnxFusion(save_head(tmp_path / "h.onnx", False), num_threads=1)
    two = {name: parts[name] for name in head.modalities}
    found = head.fuse(two)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="takes no mask: 'text' is missing in row 0"):
        head.fuse(two, {"text": present["text"]})
    with pytest.raises(ValueError, match="'image' is missing in row 0"):
        head.fuse({"text": two["text"]})
    with pytest.raises(ValueError, match="parts must name text, image, got 'sound'"):
        head.fuse(parts)
    nothing = {name: np.zeros(N, np.bool_) for name in two}
    masked = OnnxFusion(save_head(tmp_path / "m.onnx", True), num_threads=1)
    assert not masked.fuse(two, nothing).any()
