"""What is searched: vectors of each kind, queries that suit them, and filters over the items."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MADE = ("gaussian", "clustered", "cone")  # of any size
GIVEN = ("ml-100k-als", "minilm")  # of the size they have
FILTERS = ("seen", "allow", "deny")
SIZES = {"n_items": 1_000_000, "dim": 64}
CATALOGUE_SIZES = {"n_items": 200_000, "dim": 64}


class Vectors(NamedTuple):
    queries: Any  # (n_queries, dim) float32
    items: Any  # (n_items, dim) float32, read-only


def is_made(name: str) -> bool:
    """Tell whether the caller chooses the size of these vectors."""
    return name in MADE or name == "catalogue"


def make(name: str, n_items: int | None, dim: int | None, n_queries: int, seed: int) -> Vectors:
    """Return the vectors called `name`, or those of a .npy file; all random numbers from `seed`.

    Gaussian: independent components. Clustered: √n centres, items and queries around them. Cone:
    a common direction twenty times as long as what differs. Catalogue and ml-100k-als: item
    factors, and users as queries. minilm: titles, and some of them as queries; so with a file.
    """
    rng = np.random.default_rng(seed)
    if name == "catalogue":
        import catalogue

        sizes = CATALOGUE_SIZES
        users, items = catalogue.factors(n_items or sizes["n_items"], dim or sizes["dim"])
    elif name in MADE:
        shape = (n_items or SIZES["n_items"], dim or SIZES["dim"])
        users, items = _drawn(name, shape, n_queries, rng)
    elif name == "ml-100k-als":
        users, items = _film_factors(seed)
    else:
        users = items = _titles() if name == "minilm" else _read(name)
    if len(users) != n_queries or users is items:
        users = users[rng.choice(len(users), n_queries, replace=n_queries > len(users))]
    items = np.ascontiguousarray(items, np.float32)
    items.flags.writeable = False
    return Vectors(np.ascontiguousarray(users, np.float32), items)


def _drawn(name: str, shape: tuple[int, int], n_queries: int, rng: Any) -> tuple[Any, Any]:
    items = rng.standard_normal(shape, dtype=np.float32)
    queries = rng.standard_normal((n_queries, shape[1]), dtype=np.float32)
    if name == "cone":
        axis = rng.standard_normal(shape[1], dtype=np.float32)
        items += 20 * axis
        queries += 20 * axis
    elif name == "clustered":
        centres = rng.standard_normal((int(np.sqrt(shape[0])) + 1, shape[1]), dtype=np.float32)
        for made in (items, queries):
            np.multiply(made, np.float32(0.3), out=made)
            np.add(made, centres[rng.integers(len(centres), size=len(made))], out=made)
    return queries, items


def _film_factors(seed: int) -> tuple[Any, Any]:
    import recengine as rec
    from recengine.data import load_ml_100k

    model = rec.ALS(factors=64, regularization=10.0, random_state=seed)
    model.fit(load_ml_100k().interactions)
    return model.user_factors_, model.item_factors_


def _titles() -> Any:
    import recengine as rec
    from recengine.data import load_ml_100k

    return rec.TextEncoder.open("minilm-l6-int8").encode(load_ml_100k().items["title"])


def _read(name: str) -> Any:
    table = np.load(Path(name))
    if table.ndim != 2:
        raise SystemExit(f"{name} must hold a matrix, got shape {table.shape}")
    return table


class Filter(NamedTuple):
    """What a case lets through: `rows`, less what each query has seen."""

    kind: str  # "none", "seen", "allow" or "deny"
    given: Any  # the ids that the caller names: those allowed or denied
    rows: Any  # rows that are left, ascending; None: all
    seen: Any  # (n_queries, n_seen) rows, ascending; None: nothing


def parse_filter(text: str) -> tuple[str, float]:
    """Return (kind, amount) of `none`, `seen:COUNT`, `allow:SHARE` or `deny:SHARE`."""
    kind, _, amount = text.partition(":")
    if text == "none":
        return "none", 0
    try:
        value = float(amount)
    except ValueError:
        value = -1.0
    good = value >= 1 and value == int(value) if kind == "seen" else 0 < value < 1
    if kind not in FILTERS or not good:
        raise ValueError(
            f"--filter must be none, seen:COUNT, allow:SHARE or deny:SHARE, got {text}"
        )
    return kind, value


def make_filter(text: str, vectors: Vectors, seed: int) -> Filter:
    """Draw a filter. Half of what a query has seen is from its own best, the rest is random."""
    kind, amount = parse_filter(text)
    rng = np.random.default_rng([seed, 1])
    n_items = len(vectors.items)
    if kind == "none":
        return Filter(kind, None, None, None)
    if kind == "seen":
        return Filter(kind, None, None, _seen(vectors, int(amount), rng))
    count = max(1, round(amount * n_items))
    given = np.sort(rng.choice(n_items, count, replace=False))
    rows = given if kind == "allow" else np.setdiff1d(np.arange(n_items), given, True)
    return Filter(kind, given, rows, None)


def _seen(vectors: Vectors, count: int, rng: Any) -> Any:
    queries, items = vectors
    found = np.empty((len(queries), count), np.int64)
    near = min(len(items), 2 * count)
    for i, query in enumerate(queries):
        top = np.argpartition(items @ query, len(items) - near)[len(items) - near :]
        own = rng.choice(top, count // 2, replace=False)
        others = rng.choice(len(items), min(len(items), 2 * count + 8), replace=False)
        others = others[~np.isin(others, own)][: count - len(own)]
        found[i] = np.sort(np.concatenate([own, others]))
    return found
