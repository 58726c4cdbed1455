"""`Pairs`: two columns of texts, tokenized together as a cross-encoder reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine._types import Int64Array
from recengine.encoders.batches import batches_of_like_length
from recengine.encoders.ranker_columns import Column, Given, as_column
from recengine.encoders.running import MOST_TEXTS, usual_shapes
from recengine.encoders.tokens import MASK, Tokenizer, Tokens, checked_text, padded
from recengine.runtime import Buckets, Port


class Pairs:
    """Pairs of texts to the inputs of a graph.

    Parameters
    ----------
    tokenizer : Path
    pair : (str, str)
        The columns.
    max_length : int
        Tokens kept of a pair.
    ports : sequence of Port
        Those of the graph that take tokens.
    buckets : Buckets, optional

    Attributes
    ----------
    columns : (Column, Column)
    path, digest
        Of the tokenizer.
    """

    def __init__(
        self,
        tokenizer: Path,
        pair: Sequence[str],
        max_length: int,
        ports: Sequence[Port],
        buckets: Buckets | None,
    ) -> None:
        self._tokenizer = Tokenizer(tokenizer, max_length, pairs=True)
        self.path, self.digest = self._tokenizer.path, self._tokenizer.digest
        first, second = (as_column(f"pair[{i}]", name) for i, name in enumerate(pair))
        self.columns: tuple[Column, Column] = first, second
        self._max_length, self._buckets = max_length, buckets
        self._wanted = {port.name: port.dtype or np.dtype(np.int64) for port in ports}
        self._has_mask = MASK in self._wanted
        if buckets is not None and not self._has_mask:
            raise ValueError(f"buckets must go with a graph that takes {MASK}")

    def batches(
        self, given: Given, n_rows: int, fixed_rows: int
    ) -> Iterator[tuple[Int64Array, dict[str, NDArray[Any]]]]:
        """Yield (rows, feeds) of batches of like length; the feeds may have more rows at the end.

        `fixed_rows` are those that the graph takes alone; 0 where it takes any.
        """
        first, second = (self._texts(column, given, n_rows) for column in self.columns)
        tokens = [self._tokenizer.encode_pair(a, b) for a, b in zip(first, second, strict=True)]
        lengths = np.array([max(1, len(each.ids)) for each in tokens], np.int64)
        for batch in batches_of_like_length(
            lengths, fixed_rows or MOST_TEXTS, padding=self._has_mask, buckets=self._buckets
        ):
            yield batch, self._feeds([tokens[row] for row in batch], fixed_rows)

    def shapes(self) -> list[tuple[int, int]]:
        """Return (rows, length) of what to run before requests come."""
        return usual_shapes(self._max_length, self._buckets)

    def blank(self, n_rows: int, length: int) -> dict[str, NDArray[Any]]:
        """Return feeds of so many tokens that say nothing."""
        return self._feeds([Tokens([0] * length, [0] * length)] * n_rows, 0)

    def _texts(self, column: Column, given: Given, n_rows: int) -> list[str]:
        value = given.value(column)
        if column.role != "item":
            return [_as_text(str(column), value)] * n_rows
        return [_as_text(f"{column} [{row}]", each) for row, each in enumerate(value)]

    def _feeds(self, tokens: list[Tokens], n_rows: int) -> dict[str, NDArray[Any]]:
        length = 0
        if self._buckets is not None:
            longest = max(len(each.ids) for each in tokens)
            n_rows, length = self._buckets.fit(max(n_rows, len(tokens)), longest)
        filled = tokens + tokens[-1:] * (n_rows - len(tokens))
        return padded(filled, self._tokenizer.pad_id, length, self._wanted)[0]


def _as_text(name: str, value: Any) -> str:
    """Return a text; a missing one is empty."""
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "" if missing else checked_text(name, value)
