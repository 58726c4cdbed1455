"""An engine in dictionaries and loops: the oracle, and the small worlds it is asked about.

Scores come from ``tests/oracles.py`` (float64); who is known to what, what is excluded and how
sources add up is written here anew, without any of the engine's data structures. `ALS.fold_in`
has its own oracle and is taken as it is.
"""

from __future__ import annotations

import numpy as np
import oracles

import recengine as rec

MODEL, CONTENT, POPULARITY = "model", "content", "popularity"
MIXTURES = [
    {MODEL: 1.0},
    {CONTENT: 1.0},
    {POPULARITY: 1.0},
    {MODEL: 1.0, CONTENT: 0.5},
    {MODEL: 0.7, CONTENT: 2.0, POPULARITY: 0.01},
]


class BruteForce:
    """What an engine should answer, slowly."""

    def __init__(self, inter, model=None, content=None, weights=None):
        self.model, self.n_modelled = model, 0 if model is None else len(inter.items)
        names = [MODEL] * (model is not None) + [CONTENT] * (content is not None) + [POPULARITY]
        self.weights = {name: (weights or {names[0]: 1.0}).get(name, 0.0) for name in names}
        self.items = inter.items.ids.tolist()
        self.alive = set(self.items)
        self.content = None if content is None else [row.astype(np.float32) for row in content]
        self.users, self.factors = {}, {}
        for user, item, weight in zip(
            inter.users.ids[inter.user_indices].tolist(),
            inter.items.ids[inter.item_indices].tolist(),
            inter.weights.tolist(),
            strict=True,
        ):
            history = self.users.setdefault(user, {})
            history[item] = history.get(item, 0.0) + weight
        if model is not None:
            for user in self.users:
                self.factors[user] = known(model.user_factors_[inter.users.index(user)])

    # --- changes

    def observe(self, user, item, weight=1.0):
        history = self.users.setdefault(user, {})
        history[item] = history.get(item, 0.0) + weight
        if self.items.index(item) < self.n_modelled:
            self.factors[user] = self._folded(history)

    def add(self, ids, vectors):
        for item, vector in zip(ids, vectors, strict=True):
            if item not in self.items:
                self.items.append(item)
                if self.content is not None:
                    self.content.append(vector)
            if self.content is not None:
                self.content[self.items.index(item)] = np.asarray(vector, np.float32)
            self.alive.add(item)

    def remove(self, ids):
        self.alive -= set(ids)

    # --- answers

    def recommend(self, user, k, *, exclude_seen=True, allow=None, deny=None):
        history = self.users.get(user)
        vectors = {} if history is None else self._vectors(history, self.factors.get(user))
        seen = set(history or ()) if exclude_seen else set()
        return self._best(self._scores(vectors), k, seen, allow, deny)

    def recommend_for(self, history, k, *, weights=None, exclude_seen=True, allow=None, deny=None):
        total = {}
        for item, weight in zip(history, weights or [1.0] * len(history), strict=True):
            total[item] = total.get(item, 0.0) + weight
        vectors = self._vectors(total, self._folded(total))
        return self._best(self._scores(vectors), k, total if exclude_seen else (), allow, deny)

    def rank(self, user, candidates):
        history = self.users.get(user)
        vectors = {} if history is None else self._vectors(history, self.factors.get(user))
        return self._best(self._scores(vectors), len(candidates), (), candidates, None)

    def similar(self, item, k, source):
        number = self.items.index(item)
        table = self.model.item_factors_ if source == MODEL else np.stack(self.content)
        scores = oracles.scores("cosine", table[number][None], table)[0]
        held = dict(zip(self.items, scores, strict=False))
        if source == MODEL:
            held = {other: score for other, score in held.items() if self.has_factors(other)}
        return self._best(held, k, [item], None, None)

    def knows(self, user):
        history = self.users.get(user)
        return history is not None and bool(self._vectors(history, self.factors.get(user)))

    def has_factors(self, item):
        number = self.items.index(item)
        return number < self.n_modelled and self.model.item_factors_[number].any()

    # --- how

    def _folded(self, history):
        if self.model is None:
            return None
        rows = sorted(self.items.index(item) for item in history)
        rows = [row for row in rows if row < self.n_modelled]
        if not rows:
            return None
        weights = np.array([history[self.items[row]] for row in rows], np.float32)
        return known(self.model.fold_in(np.array(rows), weights))

    def _vectors(self, history, factors):
        """Return source -> vector of a user, for the weighted sources that know the user."""
        vectors = {}
        if self.weights.get(MODEL) and factors is not None:
            vectors[MODEL] = factors
        if self.weights.get(CONTENT) and history:
            vectors[CONTENT] = self._mean(history)
        if self.weights[POPULARITY]:
            vectors[POPULARITY] = np.ones(1, np.float32)
        return vectors if history else {}

    def _mean(self, history):
        rows = sorted(self.items.index(item) for item in history)
        weights = [np.float32(history[self.items[row]]) for row in rows]
        whole = np.array(weights).sum(dtype=np.float64)
        total = np.zeros(len(self.content[0]))
        for row, weight in zip(rows, weights, strict=True):
            vector = self.content[row].astype(np.float64)
            norm = np.sqrt(np.square(vector).sum()) or 1.0
            total = total + vector * (weight / whole / norm)
        return total.astype(np.float32)

    def _counts(self):
        return [sum(item in history for history in self.users.values()) for item in self.items]

    def _scores(self, vectors):
        """Return item -> score, for the items that a source of the user holds."""
        if not vectors:
            return dict(zip(self.items, np.array(self._counts(), np.float32), strict=True))
        totals = {}
        several = sum(weight > 0 for weight in self.weights.values()) > 1
        for name in (name for name in self.weights if name in vectors):
            if name == MODEL:
                part = oracles.scores("dot", vectors[name][None], self.model.item_factors_)[0]
            elif name == CONTENT:
                part = oracles.scores("cosine", vectors[name][None], np.stack(self.content))[0]
            else:
                part = np.array(self._counts(), np.float32)
            weight = self.weights[name] if several else 1.0
            for item, score in zip(self.items, part.astype(np.float64), strict=False):
                if name == MODEL and not self.has_factors(item):
                    continue
                totals[item] = totals.get(item, 0.0) + weight * score
        return {item: oracles.round_score(np.float64(total)) for item, total in totals.items()}

    def _best(self, scores, k, seen, allow, deny):
        may = self.alive - set(seen) - set(deny if deny is not None else ())
        may &= set(allow) if allow is not None else may
        rows = [
            (-float(score), number, item)
            for number, item in enumerate(self.items)
            if item in may and (score := scores.get(item)) is not None
        ]
        rows = sorted(rows)[:k]
        short = k - len(rows)
        pad = None if any(isinstance(item, str) for item in self.items) else -1
        ids = [item for _, _, item in rows] + [pad] * short
        values = np.array([-score for score, _, _ in rows] + [-np.inf] * short, np.float32)
        return ids, values + np.float32(0)


def known(factors):
    """Return factors, None where they are all 0: the model knows nothing then."""
    return factors if factors.any() else None


def make_inter(rng, n_users=12, n_items=17, n_events=60, *, strings=False):
    """Return random events; ids are spread int64 or str."""
    users, items = rng.integers(0, n_users, n_events), rng.integers(0, n_items, n_events)
    weights = rng.integers(1, 6, n_events).astype(np.float32)
    if strings:
        return rec.Interactions.from_arrays(
            [f"u{user:03}" for user in users], [f"i{item:03}" for item in items], weights
        )
    return rec.Interactions.from_arrays(users * 7 + 100, items * 3 - 20, weights)


def make_model(rng, inter, factors=5, *, tied=False):
    """Return ALS fitted on the events; with `tied`, one whose scores often tie and are negative."""
    model = rec.ALS(factors=factors, iterations=2, random_state=int(rng.integers(2**31)))
    model.fit(inter)
    if not tied:
        return model
    grids = [
        rng.integers(-2, 3, table.shape) for table in (model.user_factors_, model.item_factors_)
    ]
    return with_factors(model, *grids)


def with_factors(model, user_factors, item_factors):
    """Return a model like a fitted one, but of these factors."""
    users, items = np.float32(user_factors), np.float32(item_factors)
    wide = items.astype(np.float64)
    arrays = {"user_factors": users, "item_factors": items, "item_gram": wide.T @ wide}
    return rec.ALS.from_state(arrays, model.state()[1])


def make_pair(rng, weights, *, strings=False, tied=False, **sizes):
    """Return (engine, its brute-force twin)."""
    inter = make_inter(rng, strings=strings, **sizes)
    model = make_model(rng, inter, tied=tied) if weights.get(MODEL) else None
    content = None
    if weights.get(CONTENT):
        content = rng.standard_normal((len(inter.items), 6)).astype(np.float32)
        content = np.round(content) if tied else content
    parts = {"model": model, "content": content, "weights": weights}
    return rec.Engine.build(inter, **parts), BruteForce(inter, **parts)


def assert_same(got, want):
    """Assert the ids and the bits of the scores of one ranking."""
    assert got.ids.tolist() == want[0]
    oracles.assert_same_bits(got.scores, want[1])


def assert_agree(engine, twin, k=7):
    """Assert that engine and twin give everybody the same list."""
    for user in [*twin.users, *(["nobody"] if isinstance(twin.items[0], str) else [10**9])]:
        assert_same(engine.recommend(user, k), twin.recommend(user, k))
