"""Popularity on ml-100k has the figures that were measured before with other code."""

import numpy as np
import pytest

import recengine as rec
from recengine.data import load_ml_100k


def evaluate_popularity(inter, train, test):
    counts = np.bincount(train.item_indices, minlength=inter.n_items).astype(np.float32)
    scores = np.tile(counts, (inter.n_users, 1))
    scores[train.user_indices, train.item_indices] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    lists = rec.TopK(inter.items.ids[best], np.take_along_axis(scores, best, axis=1))
    return rec.evaluate(lists, test, users=inter.users.ids, train=train)


def test_popularity_on_ml_100k(ml_100k_folder):
    inter, *_ = load_ml_100k(ml_100k_folder)
    last = evaluate_popularity(inter, *inter.split_last(1))
    assert last.n_users == 943
    assert last.warm.all()
    assert last["ndcg"] == pytest.approx(0.045, abs=0.0005)
    assert last["recall"] == last["hit_rate"]  # one relevant item each
    late = evaluate_popularity(inter, *inter.split_time(0.2))
    assert (late.n_users, int(late.warm.sum())) == (301, 109)
    assert late.select(late.warm)["ndcg"] == pytest.approx(0.146, abs=0.0005)
