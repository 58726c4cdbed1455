"""recengine's models for `quality.py`, and what needs no training.

A model is made of (train, seed, settings). `known(rows)` are the scores (n, n_items) of users of
the training split, `fold_in(given)` those of users whom only the rows of `given` (CSR) describe,
None where it cannot; `loss` is its training loss, None where it has none.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import recengine as rec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HAS_TORCH = find_spec("torch") is not None


def weighed(matrix: Any, weights: str) -> Any:
    """Return `matrix` with its ratings as weights ("rating"), or with 1 for each ("one")."""
    if weights == "rating":
        return matrix
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data)
    return ones


class Ours:
    """A model of recengine that has factors: `kind` is the name of its class, ALS or BPR."""

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        settings = dict(settings)
        kind, self._weights = settings.pop("kind", "ALS"), settings.pop("weights", "rating")
        matrix = weighed(train.to_csr(), self._weights)
        self.model = getattr(rec, kind)(random_state=seed, **settings).fit(matrix)
        self.loss = self.model.loss(matrix) if kind == "ALS" else None

    def known(self, rows: Any) -> Any:
        return self.model.user_factors_[rows] @ self.model.item_factors_.T

    def fold_in(self, given: Any) -> Any:
        given = weighed(given, self._weights)
        bounds = zip(given.indptr[:-1], given.indptr[1:], strict=True)
        users = [self.model.fold_in(given.indices[a:b], given.data[a:b]) for a, b in bounds]
        return np.array(users) @ self.model.item_factors_.T


class OursByRow:
    """A model of recengine that answers to rows: `kind` is EASE, ItemKNN or UserKNN."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        settings = dict(settings)
        kind, self._weights = settings.pop("kind"), settings.pop("weights")
        self._matrix = weighed(train.to_csr(), self._weights)
        self.model = getattr(rec, kind)(**settings).fit(self._matrix)

    def known(self, rows: Any) -> Any:
        n_users, n_items = len(rows), self._matrix.shape[1]
        found = [self.model.recommend(int(row), k=n_items) for row in rows]
        return _by_column(found, (n_users, n_items))

    def fold_in(self, given: Any) -> Any:
        given = weighed(given, self._weights)
        rows = [given[[row]] for row in range(given.shape[0])]
        found = [self.model.recommend_for(r, k=r.shape[1], exclude_seen=False) for r in rows]
        return _by_column(found, given.shape)


def _by_column(found: list[rec.TopK], shape: tuple[int, int]) -> Any:
    """Return what is ranked as scores (n, n_items)."""
    scores = np.empty(shape, np.float32)
    for row, one in zip(scores, found, strict=True):
        row[one.ids] = one.scores
    return scores


class Popularity:
    """The number of a film's ratings in train, the same for everybody."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        self._counts = np.bincount(train.item_indices, minlength=train.n_items)

    def known(self, rows: Any) -> Any:
        return np.tile(self._counts, (len(rows), 1))

    def fold_in(self, given: Any) -> Any:
        return np.tile(self._counts, (given.shape[0], 1))


class Content:
    """The sum of a user's film vectors, weighted by rating, by cosine; nothing is trained."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        self._matrix, self._items = train.to_csr(), settings["vectors"]

    def known(self, rows: Any) -> Any:
        return self.fold_in(self._matrix[rows])

    def fold_in(self, given: Any) -> Any:
        return rec.cosine_similarity(given @ self._items, self._items)


class Sequence:
    """A model of examples/, exported and run by recengine: it has no users, only histories."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        import torch

        sys.path.append(str(EXAMPLES))
        import _sequence_training as training
        import train_recurrent_tower as recurrent
        import train_sasrec as sasrec

        torch.manual_seed(seed)
        if settings["kind"] == "sasrec":
            model, module = sasrec.SASRec(train.n_items), sasrec
        else:
            model, module = recurrent.Recurrent(train.n_items, settings["kind"]), recurrent
        sizes = {"length": module.LENGTH, "epochs": settings["epochs"] or module.EPOCHS}
        with redirect_stdout(sys.stderr):
            training.fit(model, train, rate=module.RATE, seed=seed, **sizes)
        with TemporaryDirectory() as folder:
            towers = training.export(model, Path(folder), train.items, module.LENGTH)
        self._train, self._towers = train, towers
        self._items = towers.encode_items(np.arange(train.n_items))

    def known(self, rows: Any) -> Any:
        return self.histories(self._train, rows)

    def histories(self, events: rec.Interactions, rows: Any) -> Any:
        """Return the scores of the users `rows` of `events`, whose order counts."""
        users = self._towers.encode_users([events.history(u) for u in events.users.ids[rows]])
        return users @ self._items.T


def content_vectors(films: Any) -> Any:
    """Return MiniLM's vector of each film's title and genres."""
    encoder = rec.TextEncoder.open("minilm-l6-int8", num_threads=1)
    texts = [f"{t}. {g}" for t, g in zip(films["title"], films["genres"], strict=True)]
    return encoder.encode(texts)
