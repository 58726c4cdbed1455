"""Which models `quality.py` knows, what of each is searched, and the search: one budget for all.

Every model gets as many configurations as any other, drawn from its space by the same seed; models
that share a space get the same ones. A configuration is fitted on train without each user's last
event, and judged by NDCG@10 on these events. Nothing of the test split is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from quality_models import HAS_TORCH, Content, Ours, OursByRow, Popularity, Sequence
from quality_peers import Implicit, ImplicitBPR, ImplicitNeighbours, Irspack
from quality_splits import known_users

import recengine as rec

WEIGHTS = ("choice", "rating", "one")
FACTORS = ("choice", 16, 32, 64, 128)
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "als": {
        "factors": FACTORS,
        "regularization": ("log", 0.1, 100.0),
        "alpha": ("log", 0.3, 10.0),
        "weights": WEIGHTS,
    },
    "ials": {
        "factors": FACTORS,
        "regularization": ("log", 1e-4, 1e-1),
        "unobserved_weight": ("log", 0.03, 3.0),
        "frequency_exponent": ("choice", 0.5, 1.0),
        "weights": WEIGHTS,
    },
    "bpr": {
        "factors": FACTORS,
        "learning_rate": ("log", 0.005, 0.2),
        "regularization": ("log", 1e-4, 1e-1),
        "iterations": ("choice", 30, 60, 120),
    },
    "ease": {"regularization": ("log", 10.0, 3000.0), "weights": WEIGHTS},
    "neighbours": {"k": ("int", 3, 300), "weights": WEIGHTS},
    "bm25": {
        "k": ("int", 3, 300),
        "k1": ("log", 0.1, 100.0),
        "b": ("uniform", 0.0, 1.0),
        "weights": WEIGHTS,
    },
    "knn": {"k": ("int", 3, 300), "shrinkage": ("log", 0.1, 300.0), "weights": WEIGHTS},
    "shrunk": {
        "top_k": ("int", 3, 300),
        "shrinkage": ("log", 0.1, 300.0),
        "feature_weighting": ("choice", "NONE", "TF_IDF", "BM_25"),
        "weights": WEIGHTS,
    },
    "p3alpha": {
        "top_k": ("int", 3, 300),
        "alpha": ("uniform", 0.2, 2.0),
        "normalize_weight": ("choice", True, False),
        "weights": WEIGHTS,
    },
    "rp3beta": {
        "top_k": ("int", 3, 300),
        "alpha": ("uniform", 0.2, 2.0),
        "beta": ("uniform", 0.0, 1.0),
        "normalize_weight": ("choice", True, False),
        "weights": WEIGHTS,
    },
}
SPACE_SEED = 2024


@dataclass(frozen=True)
class Kind:
    """A model of the table."""

    library: str
    make: Callable[..., Any]
    space: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)  # its word for a parameter of the space
    draws: bool = True  # whether a seed makes a difference

    def settings(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Return what the model is made with."""
        return self.fixed | {self.named.get(name, name): value for name, value in drawn.items()}


IRSPACK_IALS = {
    "factors": "n_components",
    "regularization": "reg",
    "unobserved_weight": "alpha0",
    "frequency_exponent": "nu",
}


def _neighbours(kind: str, similarity: str, space: str) -> Kind:
    fixed = {"kind": kind, "similarity": similarity}
    return Kind("recengine", OursByRow, space, fixed, {"k": "neighbours"}, draws=False)


def _irspack(kind: str, space: str, **named: str) -> Kind:
    return Kind("irspack", Irspack, space, {"kind": kind}, named, draws=False)


MODELS: dict[str, Kind] = {
    "ALS": Kind("recengine", Ours, "als"),
    "ALS ials": Kind("recengine", Ours, "ials", {"objective": "ials"}),
    "BPR": Kind("recengine", Ours, "bpr", {"kind": "BPR"}),
    "EASE": Kind("recengine", OursByRow, "ease", {"kind": "EASE"}, draws=False),
    "ItemKNN cosine": _neighbours("ItemKNN", "cosine", "knn"),
    "ItemKNN tfidf": _neighbours("ItemKNN", "tfidf", "knn"),
    "ItemKNN bm25": _neighbours("ItemKNN", "bm25", "bm25"),
    "UserKNN cosine": _neighbours("UserKNN", "cosine", "knn"),
    "UserKNN tfidf": _neighbours("UserKNN", "tfidf", "knn"),
    "UserKNN bm25": _neighbours("UserKNN", "bm25", "bm25"),
    "implicit ALS": Kind("implicit", Implicit, "als"),
    "implicit BPR": Kind("implicit", ImplicitBPR, "bpr"),
    "implicit cosine": Kind(
        "implicit", ImplicitNeighbours, "neighbours", {"kind": "cosine"}, {"k": "K"}, draws=False
    ),
    "implicit TF-IDF": Kind(
        "implicit", ImplicitNeighbours, "neighbours", {"kind": "tfidf"}, {"k": "K"}, draws=False
    ),
    "implicit BM25": Kind(
        "implicit",
        ImplicitNeighbours,
        "bm25",
        {"kind": "bm25"},
        {"k": "K", "k1": "K1", "b": "B"},
        draws=False,
    ),
    "irspack iALS": Kind(
        "irspack",
        Irspack,
        "ials",
        {"kind": "IALSRecommender", "train_epochs": 15},
        IRSPACK_IALS,
    ),
    "irspack DenseSLIM": _irspack("DenseSLIMRecommender", "ease", regularization="reg"),
    "irspack cosine": _irspack("CosineKNNRecommender", "shrunk"),
    "irspack user cosine": _irspack("CosineUserKNNRecommender", "shrunk"),
    "irspack P3alpha": _irspack("P3alphaRecommender", "p3alpha"),
    "irspack RP3beta": _irspack("RP3betaRecommender", "rp3beta"),
    "content": Kind("recengine", Content, draws=False),
    "popularity": Kind("recengine", Popularity, draws=False),
}
TRAINED = {"GRU": "gru", "LSTM": "lstm", "SASRec": "sasrec"}
if HAS_TORCH:
    MODELS |= {
        name: Kind("recengine", Sequence, fixed={"kind": kind}) for name, kind in TRAINED.items()
    }


def configurations(space: str, n: int) -> list[dict[str, Any]]:
    """Return the first `n` configurations of a space; more of them begin with the same."""
    rng = np.random.default_rng([SPACE_SEED, *space.encode()])
    return [{name: _draw(rng, how) for name, how in SPACES[space].items()} for _ in range(n)]


def _draw(rng: np.random.Generator, how: tuple[Any, ...]) -> Any:
    kind, *rest = how
    if kind == "choice":
        return rest[int(rng.integers(len(rest)))]
    low, high = rest
    if kind == "uniform":
        return round(float(rng.uniform(low, high)), 4)
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return round(value) if kind == "int" else float(f"{value:.3g}")


def tune(name: str, train: rec.Interactions, budget: int, advance: Callable[[], Any]) -> Any:
    """Return the best of `budget` configurations of a model, and what all of them came to."""
    kind, (rest, valid) = MODELS[name], train.split_last(1)
    assert kind.space is not None
    tried = []
    for drawn in configurations(kind.space, budget):
        model = kind.make(rest, 0, kind.settings(drawn))
        tried.append((known_users(model, rest, valid)["ndcg"], drawn))
        advance()
    best, drawn = max(tried, key=lambda pair: pair[0])
    return {"settings": drawn, "ndcg": best, "tried": [round(ndcg, 5) for ndcg, _ in tried]}
