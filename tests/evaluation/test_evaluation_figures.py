"""Evaluation as a mapping, its intervals, comparisons and parts."""

import numpy as np
import pytest

import recengine as rec
from recengine.evaluation import Comparison, Interval
from recengine.evaluation.bootstrap import bootstrap_mean


def evaluation(rng, n_users=200, *, quality=0.5, k=5, metrics=("ndcg", "mrr"), users=None):
    """Evaluate random lists in which the one relevant item turns up with a given probability."""
    users = np.arange(n_users) if users is None else users
    test = rec.Interactions.from_arrays(users, np.full(n_users, 1000) + users)
    ids = np.tile(np.arange(k), (n_users, 1))
    found = np.flatnonzero(rng.random(n_users) < quality)
    ids[found, rng.integers(0, k, len(found))] = 1000 + users[found]
    scores = np.tile(-np.arange(k, dtype=np.float32), (n_users, 1))
    return rec.evaluate(rec.TopK(ids, scores), test, users=users, k=k, metrics=metrics)


def test_evaluation_is_a_read_only_mapping(rng):
    found = evaluation(rng, metrics=("ndcg", "mrr", "coverage"))
    assert list(found) == ["ndcg", "mrr", "coverage"]
    assert len(found) == 3
    assert "mrr" in found
    assert "recall" not in found
    assert dict(found) == found.figures
    assert found["ndcg"] == found.per_user["ndcg"].mean()
    assert set(found.per_user) == {"ndcg", "mrr"}
    with pytest.raises(KeyError, match="recall"):
        found["recall"]
    with pytest.raises(ValueError, match="read-only"):
        found.per_user["ndcg"][0] = 1
    found.figures["ndcg"] = 7
    assert found["ndcg"] < 1
    assert repr(found).startswith(f"Evaluation(k=5, n_users=200, ndcg={found['ndcg']:.4f}, mrr=")


def test_interval_is_repeatable_and_holds_the_figure(rng):
    found = evaluation(rng)
    interval = found.interval("ndcg")
    assert isinstance(interval, Interval)
    assert interval.low < found["ndcg"] < interval.high
    assert found.interval("ndcg", random_state=0) == interval
    assert found.interval("ndcg", random_state=np.random.default_rng(0)) == interval
    assert found.interval("ndcg", random_state=1) != interval
    assert found.interval("ndcg", 0.5).low > interval.low


def test_interval_of_many_users_is_the_normal_one(rng):
    found = evaluation(rng, 4000)
    low, high = found.interval("ndcg", n_resamples=4000)
    half = 1.96 * found.standard_error("ndcg")
    assert low == pytest.approx(found["ndcg"] - half, abs=half / 8)
    assert high == pytest.approx(found["ndcg"] + half, abs=half / 8)


def test_interval_covers_the_truth_as_often_as_it_says(rng):
    """300 samples of 80 users: the share that covers is .95 within 4 standard errors."""
    covered = 0
    for seed in range(300):
        low, high = bootstrap_mean(
            rng.exponential(size=80), level=0.95, n_resamples=400, random_state=seed
        )
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_bootstrap_draws_users_with_replacement():
    """Of two users with values 0 and 1, a resample has mean 0, ½, 1 in ¼, ½, ¼ of all cases."""
    values = np.array([0.0, 1.0])
    ends = {
        level: bootstrap_mean(values, level=level, n_resamples=20_000, random_state=3)
        for level in (0.48, 0.52)
    }
    assert ends == {0.48: (0.5, 0.5), 0.52: (0.0, 1.0)}


def test_bootstrap_in_blocks_is_the_bootstrap_in_one(rng, monkeypatch):
    values = rng.random(50)
    options = {"level": 0.9, "n_resamples": 101, "random_state": 5}
    whole = bootstrap_mean(values, **options)
    monkeypatch.setattr("recengine.evaluation.bootstrap._BLOCK_ENTRIES", 130)
    assert bootstrap_mean(values, **options) == whole


def test_standard_error_by_hand():
    test = rec.Interactions.from_arrays([1, 2, 3], [1, 1, 1])
    lists = rec.TopK(np.array([[1], [2], [1]]), np.zeros((3, 1), np.float32))
    found = rec.evaluate(lists, test, users=[1, 2, 3], k=1, metrics=("hit_rate",))
    assert found.standard_error("hit_rate") == pytest.approx(1 / 3)  # √(⅓) / √3
    assert np.isnan(found.select([True, False, False]).standard_error("hit_rate"))


def test_compare_by_hand():
    test = rec.Interactions.from_arrays([1, 2, 3, 4], [1, 1, 1, 1])

    def found(*hits):
        ids = np.array([[1 if hit else 2] for hit in hits])
        lists = rec.TopK(ids, np.zeros((4, 1), np.float32))
        return rec.evaluate(lists, test, users=[1, 2, 3, 4], k=1, metrics=("hit_rate",))

    comparison = found(1, 1, 0, 1).compare(found(1, 0, 1, 0), "hit_rate")
    assert isinstance(comparison, Comparison)
    assert comparison.metric == "hit_rate"
    assert (comparison.figure, comparison.baseline, comparison.difference) == (0.75, 0.5, 0.25)
    assert (comparison.n_better, comparison.n_worse, comparison.n_equal) == (2, 1, 1)
    assert comparison.relative == 0.5
    assert comparison.interval.low < 0.25 < comparison.interval.high
    assert not comparison.excludes_zero
    assert found(1, 1, 1, 1).compare(found(0, 0, 0, 0), "hit_rate").excludes_zero
    assert found(0, 0, 0, 0).compare(found(1, 1, 1, 1), "hit_rate").excludes_zero
    assert np.isnan(found(1, 0, 0, 0).compare(found(0, 0, 0, 0), "hit_rate").relative)


def test_compare_is_paired(rng):
    """A small gain for every user is certain, whatever the spread between the users."""
    ours, baseline = evaluation(rng, 300), evaluation(rng, 300)
    assert not ours.compare(baseline, "ndcg").excludes_zero
    same = ours.compare(ours, "ndcg")
    assert same.interval == (0.0, 0.0)
    assert (same.n_equal, same.difference) == (300, 0.0)
    assert not same.excludes_zero


def test_compare_sees_a_difference_that_is_there(rng):
    good, bad = evaluation(rng, 400, quality=0.6), evaluation(rng, 400, quality=0.4)
    forth, back = good.compare(bad, "mrr"), bad.compare(good, "mrr")
    assert forth.excludes_zero
    assert back.excludes_zero
    assert forth.difference == -back.difference > 0
    assert forth.difference == pytest.approx(good["mrr"] - bad["mrr"])


def test_compare_pairs_by_user_and_not_by_row(rng):
    first = evaluation(rng, 100)
    order = rng.permutation(100)
    shuffled = rec.Evaluation(
        k=first.k,
        users=first.users[order],
        per_user={name: values[order] for name, values in first.per_user.items()},
        n_relevant=first.n_relevant[order],
        warm=None,
        catalogue=None,
    )
    comparison = first.compare(shuffled, "ndcg")
    assert (comparison.n_equal, comparison.interval) == (100, (0.0, 0.0))


def test_compare_refuses_what_is_not_comparable(rng):
    found = evaluation(rng, 10)
    with pytest.raises(ValueError, match="baseline must be at k=5, got k=4"):
        found.compare(evaluation(rng, 10, k=4), "ndcg")
    with pytest.raises(ValueError, match="baseline must be about the same users"):
        found.compare(evaluation(rng, 9), "ndcg")
    with pytest.raises(ValueError, match="baseline must be about the same users"):
        found.compare(evaluation(rng, 10, users=np.arange(1, 11)), "ndcg")
    with pytest.raises(ValueError, match="metric must be one of 'mrr', got 'ndcg'"):
        found.compare(evaluation(rng, 10, metrics=("mrr",)), "ndcg")
    with pytest.raises(TypeError, match="baseline must be an Evaluation, got dict"):
        found.compare({"ndcg": 0.3}, "ndcg")


def test_select_is_the_evaluation_of_some_users(rng):
    found = evaluation(rng, 50)
    mask = rng.random(50) < 0.4
    part = found.select(mask)
    np.testing.assert_array_equal(part.users, found.users[mask])
    assert part["ndcg"] == found.per_user["ndcg"][mask].mean()
    assert part.k == found.k
    rest = found.select(~mask)
    total = part["mrr"] * part.n_users + rest["mrr"] * rest.n_users
    assert total / 50 == pytest.approx(found["mrr"])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda e: e.interval("coverage"), ValueError, "metric must be one of 'ndcg', 'mrr', got"),
        (lambda e: e.interval("recall"), ValueError, "metric must be one of 'ndcg', 'mrr', got"),
        (lambda e: e.interval("ndcg", 1.0), ValueError, "level must be < 1, got 1"),
        (lambda e: e.interval("ndcg", 0), ValueError, "level must be > 0, got 0"),
        (lambda e: e.interval("ndcg", n_resamples=0), ValueError, "n_resamples must be >= 1, got"),
        (lambda e: e.interval("ndcg", random_state="a"), TypeError, "random_state must be an int"),
        (lambda e: e.select([1] * 20), ValueError, r"mask must be bool \(20,\), got int64"),
        (lambda e: e.select([True]), ValueError, r"mask must be bool \(20,\), got bool of shape"),
        (lambda e: e.select(np.zeros(20, bool)), ValueError, "must select a user, got none of 20"),
    ],
)
def test_wrong_arguments_are_refused(rng, call, error, match):
    found = evaluation(rng, 20, metrics=("ndcg", "mrr", "coverage"))
    with pytest.raises(error, match=match):
        call(found)
