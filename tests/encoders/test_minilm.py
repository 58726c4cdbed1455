"""The real model: all-MiniLM-L6-v2 in int8, from the cache or by download."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from recengine import TextEncoder

SEA, OCEAN, STOCKS = "a quiet film about the sea", "a calm movie on the ocean", "share prices fell"


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> TextEncoder:
    return TextEncoder.open(minilm_folder)


@pytest.mark.network
def test_fetched_name_is_the_published_model() -> None:
    encoder = TextEncoder.open("minilm-l6-int8", num_threads=1)
    reference = encoder.reference()
    assert reference["source"] == "minilm-l6-int8"
    assert reference["model_digest"].startswith("8199be6f")
    assert reference["model_digest"].endswith("d2a6")
    assert encoder.dim == 384
    assert encoder.options.max_length == 256


def test_meaning_is_near(minilm: TextEncoder) -> None:
    vectors = minilm.encode([SEA, OCEAN, STOCKS])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.75
    assert abs(cosines[0, 2]) < 0.15


def test_cosines_are_the_published_ones(minilm: TextEncoder) -> None:
    """Of the unquantized model, in the quickstart of sentence-transformers."""
    vectors = minilm.encode(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, published, rtol=0, atol=0.01)


def test_encode_equals_the_graph_run_by_hand(minilm_folder: Path, minilm: TextEncoder) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    tokenizer.no_padding()
    ids = np.array([tokenizer.encode(SEA).ids])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    (hidden,) = minilm._graph.session.run(feeds)
    mean = hidden[0].astype(np.float64).mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(minilm.encode_query(SEA), expected, rtol=1e-5, atol=1e-6)


def test_batch_mates_change_no_more_than_rounding(minilm: TextEncoder) -> None:
    """Its weights are int8 but its arithmetic is float32, so no scale is shared by a batch."""
    texts = [SEA, STOCKS, "", "sea", f"{SEA} and {OCEAN}, " * 9, *(f"film {i}" for i in range(40))]
    together = minilm.encode(texts)
    alone = np.stack([minilm.encode_query(text) for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.99999


def test_long_text_is_cut_at_256_tokens(minilm: TextEncoder) -> None:
    long = "sea " * 254
    np.testing.assert_array_equal(minilm.encode_query(long + "stocks"), minilm.encode_query(long))
    assert not np.array_equal(minilm.encode_query(long[4:]), minilm.encode_query(long))


@pytest.mark.parametrize(("output", "share"), [("layer_norm_4", 0.5), ("last_hidden_state", 1.0)])
def test_lower_layer_is_an_encoder_of_its_own(
    minilm_folder: Path, minilm: TextEncoder, output: str, share: float
) -> None:
    """Cut after the second of six layers, and after the last, which is the model itself."""
    lower = TextEncoder.open(minilm_folder, num_threads=1, output=output)
    assert lower.dim == 384
    nodes = [
        sum(encoder._graph.session.placement["CPUExecutionProvider"].values())
        for encoder in (lower, minilm)
    ]
    assert nodes[0] <= share * nodes[1]
    vectors = pickle.loads(pickle.dumps(lower)).encode([SEA, OCEAN, STOCKS])
    np.testing.assert_array_equal(vectors, lower.encode([SEA, OCEAN, STOCKS]))
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > cosines[0, 2]
    same = (vectors * minilm.encode([SEA, OCEAN, STOCKS])).sum(axis=1)
    assert (same.min() > 0.99999) == (share == 1.0)
    assert lower.digest != minilm.digest
