"""Who counts, what is relevant, and what is refused."""

import numpy as np
import pytest

import recengine as rec

PAD = -np.inf


def topk(ids, scores=None):
    array = np.array(ids, dtype=object if isinstance(np.ravel(ids)[0], str) else np.int64)
    if scores is None:
        scores = np.broadcast_to(-np.arange(array.shape[-1], dtype=np.float32), array.shape)
        scores = np.where(array == (None if array.dtype == object else -1), PAD, scores)
    return rec.TopK(array, np.asarray(scores, np.float32))


def frame(users, items, scores):
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"user_id": users, "item_id": items, "score": scores})


@pytest.fixture
def test_split():
    """User 1 likes 10 and 11, user 2 likes 12, user 3 has an event of weight 0 only."""
    return rec.Interactions.from_arrays(
        [1, 1, 2, 3],
        [10, 11, 12, 13],
        weights=[1.0, 0.5, 2.0, 0.0],
        rules=rec.CleaningRules(explicit_zero=False),
    )


def test_users_without_a_relevant_item_are_left_out(test_split):
    lists = topk([[10, 12], [12, 10], [13, 10], [10, 11]])
    found = rec.evaluate(lists, test_split, users=[1, 2, 3, 99], k=2, metrics=("recall",))
    assert found.users.tolist() == [1, 2]
    assert found.n_users == 2
    assert found.n_relevant.tolist() == [2, 1]
    assert found.per_user["recall"].tolist() == [0.5, 1.0]
    assert found["recall"] == 0.75


def test_users_of_test_who_are_not_asked_about_do_not_count(test_split):
    found = rec.evaluate(topk([[10, 12]]), test_split, users=[1], k=2, metrics=("recall",))
    assert found.users.tolist() == [1]


def test_frame_without_users_asks_about_everybody_in_test(test_split):
    found = rec.evaluate(frame([1], [10], [0.5]), test_split, metrics=("recall",))
    assert found.users.tolist() == [1, 2]
    assert found.per_user["recall"].tolist() == [0.5, 0.0]


def test_frame_rows_of_users_not_asked_about_are_ignored(test_split):
    table = frame([1, 2, 2, 99], [10, 12, 12, 5], [1.0, 1.0, 0.5, 1.0])
    found = rec.evaluate(table, test_split, users=[1], metrics=("recall",))
    assert found.figures == {"recall": 0.5}


def test_frame_ranks_by_score_and_ties_keep_their_order(test_split):
    table = frame([1, 1, 1, 1], [12, 10, 13, 11], [0.1, 0.7, 0.7, 0.9])
    mrr = {}
    for k in (1, 2, 3, 4):
        found = rec.evaluate(table, test_split, users=[1], k=k, metrics=("precision", "mrr"))
        mrr[k] = found["precision"] * k
    assert mrr == {1: 1, 2: 2, 3: 2, 4: 2}  # 11, 10 before 13, 12
    table = frame([2, 2], [13, 12], [0.7, 0.7])
    assert rec.evaluate(table, test_split, users=[2], metrics=("mrr",))["mrr"] == 0.5


def test_frame_score_of_minus_infinity_is_padding(test_split):
    table = frame([1, 1, 2], [10, 11, 12], [1.0, PAD, PAD])
    found = rec.evaluate(table, test_split, metrics=("hit_rate", "recall"))
    assert found.per_user["hit_rate"].tolist() == [1.0, 0.0]
    assert found.per_user["recall"].tolist() == [0.5, 0.0]


def test_padding_and_strangers_are_misses(test_split):
    lists = topk([[777, 10, -1], [-1, -1, -1]])
    found = rec.evaluate(lists, test_split, users=[1, 2], k=3, metrics=("mrr", "precision"))
    assert found.per_user["mrr"].tolist() == [0.5, 0.0]
    assert found.per_user["precision"].tolist() == [1 / 3, 0.0]


def test_several_events_of_one_pair_are_one_relevant_item():
    test = rec.Interactions.from_arrays(
        [1, 1, 1], [10, 10, 11], rules=rec.CleaningRules(duplicate="keep")
    )
    assert len(test) == 3
    found = rec.evaluate(topk([[10]]), test, users=[1], k=1, metrics=("recall",))
    assert found["recall"] == 0.5


def test_one_list_is_a_topk_of_one_user(test_split):
    found = rec.evaluate(topk([10, 11]), test_split, users=[1], k=2)
    assert set(found.figures.values()) == {1.0}


def test_items_seen_in_train_neither_help_nor_get_out_of_the_way(test_split):
    train = rec.Interactions.from_arrays([1, 2, 2], [10, 12, 11])
    lists = topk([[10, 11], [12, 11]])
    found = rec.evaluate(lists, test_split, users=[1, 2], train=train, k=2)
    # 10 is no longer relevant to user 1, yet it keeps rank 1; user 2 has nothing new left.
    assert found.users.tolist() == [1]
    assert found.n_relevant.tolist() == [1]
    assert found["mrr"] == 0.5
    assert found["recall"] == 1.0


def test_warm_tells_who_has_an_event_in_train(test_split):
    train = rec.Interactions.from_arrays([2, 5], [10, 11])
    lists = topk([[10, 11], [12, 11]])
    assert rec.evaluate(lists, test_split, users=[1, 2], k=2).warm is None
    found = rec.evaluate(lists, test_split, users=[1, 2], train=train, k=2)
    assert found.warm.tolist() == [False, True]
    assert found.select(~found.warm).users.tolist() == [1]


def test_warm_asks_for_an_event_and_not_for_a_row_in_the_shared_map():
    whole = rec.Interactions.from_arrays([1, 1, 2], [10, 11, 11], timestamps=[1, 2, 3])
    train, test = whole.select([0]), whole.select([1, 2])
    assert train.users is test.users
    found = rec.evaluate(topk([[11], [11]]), test, users=[1, 2], train=train, k=1)
    assert found.warm.tolist() == [True, False]


def test_coverage_counts_items_of_the_catalogue_in_lists_that_count(test_split):
    lists = topk([[10, 777], [10, 11], [13, 12]])
    options = {"users": [1, 2, 3], "k": 2, "metrics": ("coverage",)}
    found = rec.evaluate(lists, test_split, **options)
    assert found.figures == {"coverage": 2 / 4}  # 10 and 11; user 3 does not count
    train = rec.Interactions.from_arrays(np.full(8, 77), np.arange(5, 13))
    found = rec.evaluate(lists, test_split, train=train, **options)
    assert found.figures == {"coverage": 2 / 8}
    assert found.select([True, False])["coverage"] == 1 / 8
    assert found.per_user == {}


def test_train_and_test_may_have_other_id_maps():
    test = rec.Interactions.from_arrays(["u", "v"], ["b", "c"])
    train = rec.Interactions.from_arrays(["v", "w", "v"], ["a", "b", "c"])
    assert train.items != test.items
    lists = topk([["b", "a"], ["c", "zz"]])
    found = rec.evaluate(lists, test, users=["u", "v"], train=train, k=2, metrics=("mrr",))
    assert found.users.tolist() == ["u"]
    assert found["mrr"] == 1.0


def test_k_below_the_width_takes_the_first_ranks(test_split):
    lists = topk([[12, 10, 11], [10, 11, 12]])
    narrow = topk([[12, 10], [10, 11]])
    assert (
        rec.evaluate(lists, test_split, users=[1, 2], k=2).figures
        == rec.evaluate(narrow, test_split, users=[1, 2], k=2).figures
    )


def test_arguments_are_left_as_they_are(test_split):
    ids, scores = np.array([[10, 11]]), np.array([[2.0, 1.0]], np.float32)
    for array in (ids, scores):
        array.flags.writeable = False
    rec.evaluate(rec.TopK(ids, scores), test_split, users=np.array([1]), k=2)


LIST = topk([[10, 11], [12, 10]])


@pytest.mark.parametrize(
    ("result", "options", "error", "match"),
    [
        (LIST, {}, ValueError, "users must be given with a TopK: one id per row, got None"),
        (LIST, {"users": [1]}, ValueError, r"one row per user \(1\), got 2"),
        (LIST, {"users": [1, 1]}, ValueError, "users must be unique, got 1 more than once"),
        (LIST, {"users": ["1", "2"]}, TypeError, "users must hold integer ids, as the inter"),
        (LIST, {"users": [1, -1]}, ValueError, "users must not contain -1"),
        (LIST, {"users": [8, 9]}, ValueError, "must have a relevant event in test, got none of 2"),
        (LIST, {"users": [1, 2], "k": 3}, ValueError, "k must be <= 2, the width of result, got 3"),
        (LIST, {"users": [1, 2], "k": 0}, ValueError, "k must be >= 1, got 0"),
        (LIST, {"users": [1, 2], "k": 2.0}, TypeError, "k must be an integer, got float"),
        (LIST, {"users": [1, 2], "metrics": "ndcg"}, TypeError, "metrics must be a sequence of n"),
        (LIST, {"users": [1, 2], "metrics": ["rmse"]}, ValueError, "metrics must be one of 'prec"),
        (topk([[10, 11], [12, 12]]), {"users": [1, 2]}, ValueError, "one twice for user 2"),
        (topk([[777, 777]]), {"users": [1]}, ValueError, "one twice for user 1"),
        (topk([["a", "b"]]), {"users": [1]}, TypeError, "result must hold integer ids, as the"),
        (topk([[10, 11]], [[1, 2]]), {"users": [1]}, ValueError, "result must be sorted, best fir"),
        (topk([[10, 11]], [[1, np.nan]]), {"users": [1]}, ValueError, "sorted, best first, with"),
        (topk([[10]], [[np.nan]]), {"users": [1], "k": 1}, ValueError, "sorted, best first, with"),
        (topk([[10, 11]], [[1]]), {"users": [1]}, ValueError, "ids and scores of one shape"),
        (
            rec.TopK(np.array([[1.5]]), np.zeros((1, 1), np.float32)),
            {"users": [1], "k": 1},
            TypeError,
            "result must hold integer or str ids, got dtype float64",
        ),
        ([[10, 11]], {"users": [1]}, TypeError, "result must be a TopK or a frame user_id, item_"),
    ],
)
def test_what_cannot_be_meant_is_refused(test_split, result, options, error, match):
    with pytest.raises(error, match=match):
        rec.evaluate(result, test_split, **{"k": 2, **options})


@pytest.mark.parametrize(
    ("columns", "error", "match"),
    [
        (([1, 1], [10, 10], [1.0, 0.5]), ValueError, "one twice for user 1"),
        (([1, 1], [777, 777], [1.0, 0.5]), ValueError, "one twice for user 1"),
        (([1, None], [10, 11], [1.0, 0.5]), ValueError, "no missing user_id, got 1"),
        (([1, 1], [10, None], [1.0, 0.5]), ValueError, "no missing item_id, got 1"),
        (([1, 1], [10, 11], [1.0, None]), ValueError, "no missing score, got 1"),
        (([1, 1], [10, 11], [1.0, float("nan")]), ValueError, "numbers without NaN as score"),
        (([1, 1], [10, 11], ["1", "2"]), ValueError, "numbers without NaN as score"),
        (([1, 1], ["a", "b"], [1.0, 0.5]), TypeError, "result must hold integer ids, as the int"),
        ((["1", "1"], [10, 11], [1.0, 0.5]), TypeError, "result must hold integer ids, as the i"),
        (([1.0, 1.0], [10, 11], [1.0, 0.5]), TypeError, "user_id of result must be integers or"),
        (([1, 1], [10, -1], [1.0, 0.5]), ValueError, "item_id of result must not contain -1"),
    ],
)
def test_frame_that_cannot_be_meant_is_refused(test_split, columns, error, match):
    with pytest.raises(error, match=match):
        rec.evaluate(frame(*columns), test_split)


def test_frame_without_its_columns_is_refused(test_split):
    table = frame([1], [10], [1.0]).rename({"score": "rating"})
    with pytest.raises(ValueError, match=r"columns user_id, item_id, score, got .*rating"):
        rec.evaluate(table, test_split)
    with pytest.raises(TypeError, match=r"must be a TopK or a frame .* got LazyFrame"):
        rec.evaluate(frame([1], [10], [1.0]).lazy(), test_split)


def test_frame_of_categories_is_read(test_split):
    polars = pytest.importorskip("polars")
    test = rec.Interactions.from_arrays(["u", "v"], ["b", "c"])
    table = frame(["u", "v"], ["b", "x"], [1, 2]).with_columns(
        polars.col("user_id", "item_id").cast(polars.Categorical)
    )
    assert rec.evaluate(table, test, metrics=("hit_rate",)).per_user["hit_rate"].tolist() == [1, 0]


def test_empty_frame_is_a_result_without_hits(test_split):
    table = frame([1], [10], [1.0]).clear()
    assert set(rec.evaluate(table, test_split).figures.values()) == {0.0}


def test_empty_test_is_refused():
    test = rec.Interactions.from_arrays([1], [1]).select(np.array([False]))
    with pytest.raises(ValueError, match="must have a relevant event in test, got none of 1"):
        rec.evaluate(topk([[1]]), test, users=[1], k=1)


@pytest.mark.parametrize(("name", "value"), [("test", None), ("test", [1]), ("train", 5)])
def test_events_of_another_type_are_refused_by_name(test_split, name, value):
    events = {"test": test_split, name: value}
    with pytest.raises(TypeError, match=f"{name} must be an Interactions, got"):
        rec.evaluate(topk([[1]]), events.pop("test"), users=[1], k=1, **events)
