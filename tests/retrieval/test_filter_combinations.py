"""Every combination of filters and boosts, on an index that lives: equal to brute force."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_calls import LEVELS

import recengine as rec
from recengine import _native

DIM = 5
GENRES = ("Drama", "War", "")
WHERE = {
    rec.where(genre="Drama"): lambda row: row["genre"] == "Drama",
    rec.where(year__lt=1995): lambda row: row["year"] is not None and row["year"] < 1995,
    rec.where(genre__ne="War") & rec.where(year__ge=1991): lambda row: (
        row["genre"] not in (None, "War") and row["year"] is not None and row["year"] >= 1991
    ),
    ~rec.where(genre__in=["War", ""], year=1990): lambda row: (
        row["genre"] == "Drama" or row["year"] not in (None, 1990)
    ),
}


@contextmanager
def simd(level):
    with mock.patch.object(_native, "api", return_value=_native.api(level)):
        yield


class Shelf:
    """What an index should hold: one record per ordinal."""

    def __init__(self, rng, n, metric, *, boosted):
        self.rng, self.metric, self.boosted = rng, metric, boosted
        self.rows = [self.made(f"item-{i}") for i in range(n)]
        self.index = rec.FlatIndex(
            self.vectors,
            ids=self.names,
            metric=metric,
            columns=self.columns(self.rows),
            bias=self.biases(self.rows) if boosted else None,
        )

    def made(self, name):
        return {
            "id": name,
            "vector": self.rng.integers(-2, 3, DIM).astype(np.float32),
            "genre": [*GENRES, None][self.rng.integers(4)],
            "year": [1990, 1995, 2000, None][self.rng.integers(4)],
            "bias": self.rng.choice([0, 0.5, -3, 1e-3, 7]) if self.boosted else 0.0,
            "alive": True,
        }

    @property
    def names(self):
        return np.array([row["id"] for row in self.rows], object)

    @property
    def vectors(self):
        return np.array([row["vector"] for row in self.rows])

    @property
    def alive(self):
        return np.array([row["alive"] for row in self.rows])

    def columns(self, rows):
        years = [np.nan if row["year"] is None else row["year"] for row in rows]
        return {"genre": [row["genre"] for row in rows], "year": np.array(years, np.float64)}

    def biases(self, rows):
        return np.array([row["bias"] for row in rows], np.float32)

    def delete(self, n):
        chosen = self.rng.permutation(np.flatnonzero(self.alive))[:n]
        self.index.delete(self.names[chosen])
        for i in chosen:
            self.rows[i]["alive"] = False

    def upsert(self, n, *, columns, bias):
        first = int(self.rng.integers(0, max(1, len(self.rows) - n // 2)))
        given = [self.made(f"item-{i}") for i in range(first, first + n)]
        for record in given:
            place = int(record["id"].removeprefix("item-"))
            old = self.rows[place] if place < len(self.rows) else None
            kept = old if old is not None and old["alive"] else {}
            if not columns:
                record |= {"genre": kept.get("genre"), "year": kept.get("year")}
            if not bias:
                record["bias"] = kept.get("bias", 0.0)
            if old is None:
                assert place == len(self.rows)
                self.rows.append(record)
            else:
                self.rows[place] = record
        self.index.upsert(
            [record["id"] for record in given],
            np.array([record["vector"] for record in given]),
            columns=self.columns(given) if columns else None,
            bias=self.biases(given) if bias else None,
        )

    def some(self, share):
        """Return ordinals, of items that may come later too."""
        n = len(self.rows) + 20
        return np.flatnonzero(self.rng.random(n) < share)


steps = st.lists(
    st.tuples(st.just("delete"), st.integers(1, 40))
    | st.tuples(st.just("upsert"), st.integers(1, 30), st.booleans(), st.booleans())
    | st.tuples(st.just("compact")),
    max_size=4,
)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    metric=st.sampled_from(oracles.METRICS),
    steps=steps,
    boosted=st.booleans(),
    boost=st.sampled_from([None, "array", "mapping"]),
    kept=st.sampled_from([0.0, 0.05, 0.5, 0.95]),
    flags=st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in ("exclude", "allow", "deny", "where", "filter", "low", "late")
        }
    ),
    prepared=st.sampled_from(["allow", "deny", "where", "all"]),
    n_queries=st.sampled_from([1, 4, 13]),
    k=st.sampled_from([1, 7, 400]),
)
def test_every_combination_equals_the_oracle(
    level, seed, metric, steps, boosted, boost, kept, flags, prepared, n_queries, k
):
    with simd(level):
        rng = np.random.default_rng(seed)
        able = metric != "l2"
        shelf = Shelf(rng, 150, metric, boosted=boosted and able)
        predicates = list(WHERE)
        chosen = {name: shelf.some(share) for name, share in (("allow", kept), ("deny", 1 - kept))}
        named = {
            name: [f"item-{i}" for i in rows]
            for name, rows in chosen.items()
            if prepared in (name, "all")
        }
        test = predicates[rng.integers(len(predicates))] if prepared in ("where", "all") else None
        ready = shelf.index.filter(**named, where=test)
        for step in steps:
            update(shelf, step, able=able)
            if rng.random() < 0.5:  # looked at in between, or not
                shelf.index.search(np.ones(DIM), 1, filter=ready)

        n = len(shelf.rows)
        allowed = np.broadcast_to(shelf.alive, (n_queries, n)).copy()
        options = {}
        if flags["filter"]:
            options["filter"] = ready
            allowed &= passes(shelf, chosen, test, prepared)
        if flags["allow"]:
            rows = shelf.some(kept)
            options["allow"] = [f"item-{i}" for i in rows]
            allowed &= np.isin(np.arange(n), rows)
        if flags["deny"]:
            rows = shelf.some(1 - kept)
            options["deny"] = [f"item-{i}" for i in rows]
            allowed &= ~np.isin(np.arange(n), rows)
        if flags["where"]:
            predicate = predicates[rng.integers(len(predicates))]
            options["where"] = predicate
            allowed &= np.array([bool(WHERE[predicate](row)) for row in shelf.rows])
        if flags["exclude"]:
            lists = [shelf.some(0.3) for _ in range(n_queries)]
            options["exclude"] = [[f"item-{i}" for i in rows] for rows in lists]
            for line, rows in zip(allowed, lists, strict=True):
                line[rows[rows < n]] = False
        bias = shelf.biases(shelf.rows)
        if boost is not None and able:
            extra = rng.integers(-4, 5, n).astype(np.float32) / np.float32(3)
            bias = (bias.astype(np.float64) + extra).astype(np.float32)
            alive = shelf.alive
            options["bias"] = (
                extra[alive]
                if boost == "array"
                else {"nobody": 9.0} | dict(zip(shelf.names, extra.tolist(), strict=True))
            )
        low = {"dot": 1.5, "cosine": 0.25, "l2": -2.5}[metric] if flags["low"] else -np.inf
        queries = rng.integers(-2, 3, (n_queries, DIM)).astype(np.float32)
        got = shelf.index.search(queries, k, min_score=low if flags["low"] else None, **options)
        want = oracles.search(
            metric,
            queries,
            shelf.vectors,
            k,
            allowed=allowed,
            bias=bias if able else None,
            min_score=low,
        )
        np.testing.assert_array_equal(got.ordinals, want[0])
        oracles.assert_same_bits(got.scores, want[1])
        for line, may in zip(got.ids, allowed, strict=True):
            forbidden = set(shelf.names[~may].tolist())
            assert not forbidden & {name for name in line if name is not None}


def update(shelf, step, *, able):
    if step[0] == "delete":
        shelf.delete(step[1])
    elif step[0] == "compact":
        shelf.index.compact()
    else:
        shelf.boosted |= able and step[3]
        shelf.upsert(step[1], columns=step[2], bias=able and step[3])


def passes(shelf, chosen, predicate, prepared):
    """Return which ordinals the prepared filter lets through."""
    n = len(shelf.rows)
    keep = np.ones(n, bool)
    if prepared in ("allow", "all"):
        keep &= np.isin(np.arange(n), chosen["allow"])
    if prepared in ("deny", "all"):
        keep &= ~np.isin(np.arange(n), chosen["deny"])
    if predicate is not None:
        keep &= np.array([bool(WHERE[predicate](row)) for row in shelf.rows])
    return keep
