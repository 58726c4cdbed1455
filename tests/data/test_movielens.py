"""MovieLens 100K as it really is, and the figures that its splits are known by."""

from __future__ import annotations

import numpy as np
import pytest

from recengine import Interactions
from recengine.data import MovieLens, fetch, load_ml_100k

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def movielens() -> MovieLens:
    return load_ml_100k()


def test_sizes_and_kinds(movielens):
    inter, items, users = movielens
    assert (len(inter), inter.n_users, inter.n_items) == (100_000, 943, 1_682)
    assert inter.report.n_kept == inter.report.n_read == 100_000
    assert inter.users.ids.dtype == inter.items.ids.dtype == np.int64
    assert set(inter.weights.tolist()) == {1, 2, 3, 4, 5}
    assert np.array_equal(items["item_id"], inter.items.ids)
    assert np.array_equal(users["user_id"], inter.users.ids)
    assert list(items) == ["item_id", "title", "year", "genres"]
    assert list(users) == ["user_id", "age", "gender", "occupation", "zip_code"]


def test_attributes_are_the_films(movielens):
    items, users = movielens.items, movielens.users
    assert (items["title"][0], items["year"][0]) == ("Toy Story", 1995)
    assert items["genres"][0] == "Animation Children's Comedy"
    assert items["title"][542] == "Misérables, Les"
    assert items["title"][1411] == "Land Before Time III: The Time of the Great Giving"
    assert items["year"][1411] == 1995
    assert np.flatnonzero(items["year"] == 0).tolist() == [266]  # the film nobody knows
    assert [column[0] for column in users.values()] == [1, 24, "M", "technician", "85711"]


def test_loader_and_reader_agree(movielens):
    read = Interactions.read(fetch("ml-100k") / "ml-100k.inter")
    assert read.users == movielens.interactions.users
    for name in ("user_indices", "item_indices", "weights", "timestamps"):
        assert np.array_equal(getattr(read, name), getattr(movielens.interactions, name))


def test_split_last_holds_out_one_event_of_everybody(movielens):
    inter = movielens.interactions
    train, test = inter.split_last()
    assert (len(train), len(test)) == (99_057, 943)
    assert len(np.unique(test.user_indices)) == 943
    last_of_train = np.zeros(inter.n_users, np.int64)
    np.maximum.at(last_of_train, train.user_indices, train.timestamps)
    tied = last_of_train[test.user_indices] == test.timestamps
    assert tied.mean() == pytest.approx(0.44, abs=0.005)  # why ties must keep input order


def test_split_time_meets_mostly_new_users(movielens):
    train, test = movielens.interactions.split_time(0.2)
    assert (len(train), len(test)) == (79_999, 20_001)
    tested = np.unique(test.user_indices)
    assert len(tested) == 301
    assert np.isin(tested, train.user_indices).sum() == 109
    assert train.timestamps.max() < test.timestamps.min()


def test_data_from_a_folder_is_the_same(movielens):
    again = load_ml_100k(fetch("ml-100k"))
    assert np.array_equal(again.items["title"], movielens.items["title"])
