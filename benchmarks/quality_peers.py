"""The models of other libraries in `quality.py`, with the face of those in `quality_models.py`."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import threadpoolctl
from quality_models import weighed
from scipy.sparse import csr_matrix

import recengine as rec


class Implicit:
    """implicit's ALS; `use_cg=False` solves exactly."""

    loss: float | None = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        settings = dict(settings)
        self._weights = settings.pop("weights", "rating")
        with threadpoolctl.threadpool_limits(1, "blas"):
            self.model = AlternatingLeastSquares(random_state=seed, **settings)
            self.model.fit(csr_matrix(weighed(train.to_csr(), self._weights)), show_progress=False)

    def known(self, rows: Any) -> Any:
        return self.model.user_factors[rows] @ self.model.item_factors.T

    def fold_in(self, given: Any) -> Any:
        given = csr_matrix(weighed(given, self._weights))
        with threadpoolctl.threadpool_limits(1, "blas"):
            users = self.model.recalculate_user(np.arange(given.shape[0]), given)
        return users @ self.model.item_factors.T


class ImplicitBPR:
    """implicit's BPR, which cannot tell anything of a new user; weights do not count."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        self.model = BayesianPersonalizedRanking(random_state=seed, **settings)
        self.model.fit(csr_matrix(train.to_csr()), show_progress=False)

    def known(self, rows: Any) -> Any:
        return self.model.user_factors[rows] @ self.model.item_factors.T

    def fold_in(self, given: Any) -> None:
        return None


class ImplicitNeighbours:
    """implicit's item neighbours: `kind` is cosine, tfidf or bm25."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        from implicit import nearest_neighbours as found

        settings = dict(settings)
        self._weights = settings.pop("weights")
        names = {"cosine": "Cosine", "tfidf": "TFIDF", "bm25": "BM25"}
        kind = getattr(found, f"{names[settings.pop('kind')]}Recommender")
        self._matrix = csr_matrix(weighed(train.to_csr(), self._weights)).astype(np.float64)
        self.model = kind(**settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a conversion that it makes itself
            self.model.fit(self._matrix, show_progress=False)

    def known(self, rows: Any) -> Any:
        return self._matrix[rows].dot(self.model.similarity).toarray()

    def fold_in(self, given: Any) -> Any:
        return csr_matrix(weighed(given, self._weights)).dot(self.model.similarity).toarray()


class Irspack:
    """A recommender of irspack: `kind` is the name of its class."""

    loss = None

    def __init__(self, train: rec.Interactions, seed: int, settings: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what it uses of pydantic
            from irspack import recommenders

        settings = dict(settings)
        self._weights, kind = settings.pop("weights"), settings.pop("kind")
        if kind == "IALSRecommender":
            settings |= {"random_seed": seed}
        matrix = csr_matrix(weighed(train.to_csr(), self._weights))
        self.model = getattr(recommenders, kind)(matrix, **settings)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # it draws a bar
            warnings.simplefilter("ignore")
            self.model.learn()

    def known(self, rows: Any) -> Any:
        return dense(self.model.get_score(rows))

    def fold_in(self, given: Any) -> Any:
        try:
            return dense(self.model.get_score_cold_user(csr_matrix(weighed(given, self._weights))))
        except NotImplementedError:
            return None


def dense(scores: Any) -> Any:
    """Return scores as an array."""
    return scores.toarray() if hasattr(scores, "toarray") else np.asarray(scores)
