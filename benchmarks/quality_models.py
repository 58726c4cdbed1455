"""The models of `quality.py`: each knows its users, and tells new ones from their first events.

A model has `items` (n_items, dim), `metric`, `loss` (None where it has no such thing),
`known(rows)`, the vectors of users of the training split, and `fold_in(events, rows)`, those of
users whom only `events` describe.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import threadpoolctl
from implicit.cpu._als import calculate_loss
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

import recengine as rec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HAS_TORCH = find_spec("torch") is not None


class Factors:
    """What models of one vector a user, made in training, have in common."""

    items: Any
    users: Any
    metric = "dot"
    loss: float | None = None

    def known(self, rows: Any) -> Any:
        return self.users[rows]


class Ours(Factors):
    """recengine's ALS, whatever its objective."""

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        matrix = train.to_csr()
        self.model = rec.ALS(random_state=seed, **settings).fit(matrix)
        self.users, self.items = self.model.user_factors_, self.model.item_factors_
        self.loss = self.model.loss(matrix)

    def fold_in(self, events: rec.Interactions, rows: Any) -> Any:
        given = events.to_csr()[rows]
        bounds = zip(given.indptr[:-1], given.indptr[1:], strict=True)
        return np.array(
            [self.model.fold_in(given.indices[a:b], given.data[a:b]) for a, b in bounds]
        )


class Implicit(Factors):
    """implicit's exact solver, from the same initial factors."""

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        matrix = csr_matrix(train.to_csr())
        with threadpoolctl.threadpool_limits(1, "blas"):
            self.model = AlternatingLeastSquares(random_state=seed, use_cg=False, **settings)
            self.model.fit(matrix, show_progress=False)
        self.users, self.items = self.model.user_factors, self.model.item_factors
        self.loss = calculate_loss(
            matrix * settings["alpha"],
            self.users,
            self.items,
            settings["regularization"],
            num_threads=1,
        )

    def fold_in(self, events: rec.Interactions, rows: Any) -> Any:
        with threadpoolctl.threadpool_limits(1, "blas"):
            return self.model.recalculate_user(
                np.arange(len(rows)), csr_matrix(events.to_csr()[rows])
            )


class Popularity(Factors):
    """The number of a film's ratings in train, the same for everybody."""

    def __init__(self, train: rec.Interactions) -> None:
        matrix = train.to_csr()
        self.items = np.bincount(matrix.indices, minlength=matrix.shape[1])[:, None]
        self.users = np.ones((matrix.shape[0], 1))

    def fold_in(self, events: rec.Interactions, rows: Any) -> Any:
        return np.ones((len(rows), 1))


class Content(Factors):
    """The sum of a user's film vectors, weighted by rating, by cosine; nothing is trained."""

    metric = "cosine"

    def __init__(self, train: rec.Interactions, vectors: Any) -> None:
        self.items, self.users = vectors, train.to_csr() @ vectors

    def fold_in(self, events: rec.Interactions, rows: Any) -> Any:
        return events.to_csr()[rows] @ self.items


class Sequence:
    """A model of examples/, exported and run by recengine: it has no users, only histories."""

    metric = "dot"
    loss = None

    def __init__(self, train: rec.Interactions, seed: int, kind: str, epochs: int | None) -> None:
        import torch

        sys.path.append(str(EXAMPLES))
        import _sequence_training as training
        import train_recurrent_tower as recurrent
        import train_sasrec as sasrec

        torch.manual_seed(seed)
        if kind == "sasrec":
            model, module = sasrec.SASRec(train.n_items), sasrec
        else:
            model, module = recurrent.Recurrent(train.n_items, kind), recurrent
        settings = {"length": module.LENGTH, "epochs": epochs or module.EPOCHS}
        with redirect_stdout(sys.stderr):
            training.fit(model, train, rate=module.RATE, seed=seed, **settings)
        with TemporaryDirectory() as folder:
            towers = training.export(model, Path(folder), train.items, module.LENGTH)
        self._train, self._towers = train, towers
        self.items = towers.encode_items(np.arange(train.n_items))

    def known(self, rows: Any) -> Any:
        return self.fold_in(self._train, rows)

    def fold_in(self, events: rec.Interactions, rows: Any) -> Any:
        return self._towers.encode_users([events.history(u) for u in events.users.ids[rows]])


def content_vectors(films: Any) -> Any:
    """Return MiniLM's vector of each film's title and genres."""
    encoder = rec.TextEncoder.open("minilm-l6-int8", num_threads=1)
    texts = [f"{t}. {g}" for t, g in zip(films["title"], films["genres"], strict=True)]
    return encoder.encode(texts)
