"""recengine: an embeddable ranking engine.

Encoders trained elsewhere (ONNX) and sparse factors (trained here) become item vectors; native
kernels find the exact best k of them for a request, under filters; one `Engine` owns the whole
and swaps it atomically.

Everything public is exported here and loaded on first use: ``import recengine`` needs only NumPy
and starts no thread. ``recengine.__init__.pyi`` tells type checkers the same list.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "recengine._types": ("TopK",),
    "recengine._errors": (
        "RecengineError",
        "BundleError",
        "DeviceError",
        "FetchError",
        "ImageError",
        "LogError",
        "LossError",
        "NotFittedError",
        "SoundError",
        "UnknownItemError",
        "UnknownUserError",
        "DeadlineError",
    ),
    "recengine.storage": ("EventLog",),
    "recengine.data": ("Interactions", "CleaningReport", "CleaningRules", "IdMap"),
    "recengine.encoders": (
        "AudioEncoder",
        "Catalogue",
        "Compression",
        "ConcatFusion",
        "ImageEncoder",
        "Interests",
        "OnnxEncoder",
        "OnnxFusion",
        "OnnxRanker",
        "SequenceEncoder",
        "SharedSpace",
        "TextEncoder",
        "TwoTower",
        "attention",
        "compress",
        "encode_catalogue",
        "fuse_weighted",
        "interests",
        "pool_history",
    ),
    "recengine.evaluation": ("evaluate", "Evaluation", "metrics"),
    "recengine.factorization": (
        "ALS",
        "BPR",
        "EASE",
        "FoldedUser",
        "ItemKNN",
        "SGD",
        "UserKNN",
        "bm25_weight",
        "tfidf_weight",
    ),
    "recengine.retrieval": (
        "FlatIndex",
        "Filter",
        "where",
        "cosine_similarity",
        "dot_similarity",
        "euclidean_distance",
        "topk",
        "merge_topk",
        "search_interests",
    ),
    "recengine.retrieval.device": ("DeviceIndex",),
    "recengine.engine": ("Engine",),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (the list is derived, so that it is written once)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'recengine' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
