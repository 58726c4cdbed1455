"""The tokenizer of a text model: ``tokenizer.json`` of the `tokenizers` library, presets undone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recengine._errors import BundleError
from recengine._types import Int64Array

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
PAD_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


class Tokens(NamedTuple):
    """The tokens of one text, special tokens included."""

    ids: list[int]
    type_ids: list[int]


class Tokenizer:
    """Text to token ids, cut at `max_length`; padding is left to `padded`.

    A ``tokenizer.json`` carries the padding and truncation it was last used with (MiniLM's pads
    every text to 128 tokens); both are reset.

    Parameters
    ----------
    path : Path
        A ``tokenizer.json``.
    max_length : int
        Tokens kept of a text, special tokens included.
    pairs : bool
        Whether pairs of texts are encoded, which have more special tokens.

    Notes
    -----
    Texts are tokenized one by one in the calling thread: the library's own parallelism takes every
    core, whatever `num_threads` says, and warns after each fork. It costs 17 us for a short text,
    against milliseconds for its encoding.
    """

    def __init__(self, path: Path, max_length: int, *, pairs: bool = False) -> None:
        content = path.read_bytes()
        self.path = path
        self.digest = hashlib.sha256(content).hexdigest()
        self._native = _load(path, content)
        preset = self._native.padding
        self.pad_id = _pad_id(self._native) if preset is None else int(preset["pad_id"])
        n_special = self._native.num_special_tokens_to_add(pairs)
        if max_length <= n_special:
            raise ValueError(
                f"max_length must be > {n_special}, the special tokens of {path.name}, "
                f"got {max_length}"
            )
        self._native.no_padding()
        self._native.no_truncation()
        self._native.enable_truncation(max_length)

    def encode(self, text: str) -> Tokens:
        """Return the tokens of `text`."""
        encoding = self._native.encode(text)
        return Tokens(encoding.ids, encoding.type_ids)

    def encode_pair(self, first: str, second: str) -> Tokens:
        """Return the tokens of two texts as one, the longer one cut first."""
        encoding = self._native.encode(first, second)
        return Tokens(encoding.ids, encoding.type_ids)

    def encode_all(
        self,
        texts: Iterable[str],
        prompt: str,
        skipped: dict[int, str] | None,
        check: Callable[[], object],
    ) -> list[Tokens]:
        """Return the tokens of each text after `prompt`, calling `check` before each.

        What cannot be encoded is put into `skipped`, and has no tokens; None raises instead.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(
                f"texts must be a sequence of str, got one {type(texts).__name__}: pass [text], "
                "or use encode_query"
            )
        found = []
        for number, text in enumerate(texts):
            check()
            try:
                found.append(self.encode(prompt + checked_text(f"texts[{number}]", text)))
            except ValueError as error:
                if skipped is None:
                    raise
                skipped[number] = str(error)
                found.append(Tokens([], []))
        return found


def checked_text(name: str, text: Any) -> str:
    """Return `text` if it is a str that has a UTF-8 form."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be valid Unicode: {error}") from None
    return text


def padded(
    texts: list[Tokens], pad_id: int, length: int, wanted: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], Int64Array]:
    """Return (what a graph takes for a batch, tokens of each text).

    Parameters
    ----------
    texts : list of Tokens
    pad_id : int
        What stands where no token is; the mask is 0 there.
    length : int
        Places of each row; as many as the longest text has tokens, if those are more.
    wanted : mapping of str to dtype
        The inputs to make, among `IDS`, `MASK` and `TYPES`.

    Returns
    -------
    feeds : dict of str to ndarray (n, places)
        Padded at the end.
    lengths : ndarray (n,), int64
    """
    if len(texts) == 1 and length <= len(texts[0].ids):  # a query: nothing to pad
        found = np.array(texts[0], np.int64)
        made = {IDS: found[:1], TYPES: found[1:]}
        feeds = {
            name: np.ones((1, found.shape[1]), dtype)
            if name == MASK
            else made[name].astype(dtype, copy=False)
            for name, dtype in wanted.items()
        }
        return feeds, np.array([found.shape[1]], np.int64)
    lengths = np.array([len(text.ids) for text in texts], np.int64)
    mask = np.arange(max(length, lengths.max())) < lengths[:, None]
    filled = {MASK: mask}
    for name, rows in ((IDS, [text.ids for text in texts]), (TYPES, [each[1] for each in texts])):
        filled[name] = np.full(mask.shape, pad_id if name == IDS else 0, np.int64)
        filled[name][mask] = np.concatenate(rows)
    return {name: filled[name].astype(dtype, copy=False) for name, dtype in wanted.items()}, lengths


def _load(path: Path, content: bytes) -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "TextEncoder needs the tokenizers library: pip install 'recengine[text]'"
        ) from None
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"{path} cannot be read as a tokenizer: {error}") from error


def _pad_id(native: Any) -> int:
    found = (native.token_to_id(token) for token in PAD_TOKENS)
    return next((number for number in found if number is not None), 0)
