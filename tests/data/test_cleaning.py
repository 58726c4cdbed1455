"""Cleaning against a plain loop: what stays, with which weight, and who is counted where."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import CleaningReport, CleaningRules, Interactions
from recengine.data.cleaning import RULES

KEEP_ALL = CleaningRules(negative_weight=False, explicit_zero=False, duplicate="keep")

good_ids = st.integers(0, 1)
good_weights = st.sampled_from([1.0, -1.0, 2.5])
good_rows = st.tuples(good_ids, good_ids, good_weights, st.integers(0, 3))
ids = st.none() | good_ids | st.sampled_from([-1, 2**63, -(2**63) - 1])
weights = good_weights | st.sampled_from([None, 0.0, -0.0, math.nan, math.inf])
times = st.none() | st.integers(0, 3) | st.just(math.inf)
# Mostly good rows, so that many meet in one (user, item).
rows_of_events = st.lists(
    good_rows | good_rows | good_rows | st.tuples(ids, ids, weights, times), max_size=25
)
all_rules = st.builds(
    CleaningRules,
    negative_weight=st.booleans(),
    explicit_zero=st.booleans(),
    duplicate=st.sampled_from(["sum", "last", "first", "keep"]),
    max_events_per_user=st.none() | st.integers(1, 3),
)


def first_broken(row, rules: CleaningRules) -> str | None:
    user, item, weight, time = row
    if None in row:
        return "missing"
    if any(entry == -1 or not -(2**63) <= entry < 2**63 for entry in (user, item)):
        return "out_of_range"
    if not math.isfinite(weight) or not math.isfinite(time):
        return "not_finite"
    if rules.negative_weight and weight < 0:
        return "negative_weight"
    if rules.explicit_zero and weight == 0:
        return "explicit_zero"
    return None


def clean_by_loop(rows, rules: CleaningRules):
    """Return (events (user, item, weight, time) in input order, dropped), by dictionaries."""
    dropped = dict.fromkeys(RULES, 0)
    alive = {}
    for number, row in enumerate(rows):
        broken = first_broken(row, rules)
        if broken:
            dropped[broken] += 1
        else:
            alive[number] = row
    pairs: dict = {}
    for number in sorted(alive, key=lambda number: (alive[number][3], number)):
        pairs.setdefault(alive[number][:2], []).append(number)
    if rules.duplicate != "keep":
        for numbers in pairs.values():
            chosen = numbers[0] if rules.duplicate == "first" else numbers[-1]
            if rules.duplicate == "sum":
                total = sum(alive[number][2] for number in numbers)
                alive[chosen] = (*alive[chosen][:2], total, alive[chosen][3])
            dropped["duplicate"] += len(numbers) - 1
            for number in set(numbers) - {chosen}:
                del alive[number]
            if rules.explicit_zero and alive[chosen][2] == 0:
                del alive[chosen]
                dropped["explicit_zero"] += 1
    if rules.max_events_per_user is not None:
        for user in {row[0] for row in alive.values()}:
            mine = sorted(
                (number for number in alive if alive[number][0] == user),
                key=lambda number: (alive[number][3], number),
            )
            for number in mine[: -rules.max_events_per_user]:
                del alive[number]
                dropped["bot"] += 1
    return [alive[number] for number in sorted(alive)], dropped


def assert_equals_the_loop(rows, rules: CleaningRules) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    inter = Interactions.from_arrays(*columns, rules=rules)
    expected, dropped = clean_by_loop(rows, rules)
    events = list(
        zip(
            inter.users.ids[inter.user_indices].tolist(),
            inter.items.ids[inter.item_indices].tolist(),
            inter.weights.tolist(),
            inter.timestamps.tolist(),
            strict=True,
        )
    )
    assert events == expected
    report = inter.report
    assert report.dropped == dropped
    assert report.n_kept == len(inter)
    assert report.n_read == len(rows) == report.n_kept + sum(report.dropped.values())
    assert set(inter.user_indices) == set(range(inter.n_users))
    assert set(inter.item_indices) == set(range(inter.n_items))


@settings(max_examples=300)
@given(rows_of_events, all_rules)
def test_cleaning_equals_the_loop_and_counts_add_up(rows, rules):
    assert_equals_the_loop(rows, rules)


@given(st.lists(good_rows, min_size=4, max_size=12), st.none() | st.integers(1, 3))
def test_merging_and_capping_equal_the_loop_where_weights_cancel(rows, cap):
    rules = CleaningRules(negative_weight=False, max_events_per_user=cap)
    assert_equals_the_loop(rows, rules)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 2)), max_size=20))
def test_summing_keeps_the_matrix(rows):
    users, items, weights = ([row[i] for row in rows] for i in range(3))
    kept = Interactions.from_arrays(users, items, weights, rules=KEEP_ALL)
    summed = Interactions.from_arrays(
        users, items, weights, rules=replace(KEEP_ALL, duplicate="sum")
    )
    assert kept.to_csr().toarray().tolist() == summed.to_csr().toarray().tolist()


@pytest.mark.parametrize(
    ("rule", "arrays", "message"),
    [
        ("missing", ([1, None], [1, 1]), r"missing is switched off.*; 1 are not.* at row 1"),
        ("out_of_range", ([1, 1, 1], [1, -1, 2**64]), r"out_of_range .*; 2 are not.* at row 1"),
        ("not_finite", ([1, 1], [1, 2], [math.nan, 1]), r"not_finite .*; 1 are not.* at row 0"),
        ("not_finite", ([1], [1], [1e39]), r"not_finite is switched off"),
    ],
)
def test_rows_that_cannot_be_stored_are_an_error_when_their_rule_is_off(rule, arrays, message):
    assert len(Interactions.from_arrays(*arrays)) < len(arrays[0])
    with pytest.raises(ValueError, match=message):
        Interactions.from_arrays(*arrays, rules=CleaningRules(**{rule: False}))


def test_rules_that_are_off_keep_their_rows():
    inter = Interactions.from_arrays([1, 1, 1], [1, 2, 2], [-1.0, 0.0, 3.0], rules=KEEP_ALL)
    assert inter.weights.tolist() == [-1.0, 0.0, 3.0]
    assert inter.report.switched_off == ("negative_weight", "explicit_zero", "duplicate", "bot")
    assert inter.to_csr().toarray().tolist() == [[-1.0, 3.0]]


def test_sum_stands_at_the_last_time_and_place():
    inter = Interactions.from_arrays([7, 7, 7], [1, 2, 1], [1.0, 1.0, 4.0], [50, 20, 30])
    assert inter.items.ids[inter.item_indices].tolist() == [1, 2]
    assert inter.timestamps.tolist() == [50, 20]
    assert inter.weights.tolist() == [5.0, 1.0]


def test_first_and_last_stand_as_they_came():
    events = ([7, 7, 7], [1, 1, 1], [1.0, 2.0, 4.0], [50, 20, 30])
    first = Interactions.from_arrays(*events, rules=CleaningRules(duplicate="first"))
    last = Interactions.from_arrays(*events, rules=CleaningRules(duplicate="last"))
    assert (first.weights.tolist(), first.timestamps.tolist()) == ([2.0], [20])
    assert (last.weights.tolist(), last.timestamps.tolist()) == ([1.0], [50])


def test_weights_that_cancel_are_explicit_zeros():
    rules = CleaningRules(negative_weight=False)
    inter = Interactions.from_arrays([1, 1, 1], [2, 2, 3], [1.5, -1.5, 1.0], rules=rules)
    assert inter.items.ids.tolist() == [3]
    assert (inter.report.dropped["duplicate"], inter.report.dropped["explicit_zero"]) == (1, 1)


def test_sum_saturates_at_the_largest_float32():
    largest = float(np.finfo(np.float32).max)
    inter = Interactions.from_arrays([1, 1], [1, 1], [3e38, 3e38])
    assert inter.weights.tolist() == [largest]
    kept = Interactions.from_arrays([1, 1], [1, 1], [3e38, 3e38], rules=KEEP_ALL)
    assert kept.to_csr().toarray().tolist() == [[largest]]


def test_cap_keeps_the_latest_events():
    rules = CleaningRules(max_events_per_user=2)
    by_time = Interactions.from_arrays([1, 1, 1, 2], [1, 2, 3, 9], None, [30, 10, 20, 0], rules)
    assert by_time.history(1).tolist() == [3, 1]
    assert by_time.history(2).tolist() == [9]
    assert by_time.report.dropped["bot"] == 1
    by_order = Interactions.from_arrays([1, 1, 1, 2], [1, 2, 3, 9], rules=rules)
    assert by_order.history(1).tolist() == [2, 3]


def test_report_reads_well():
    inter = Interactions.from_arrays([1, 1, 1, None], [1, 1, 2, 3], [1, 2, 0, 1])
    assert str(inter.report).splitlines() == [
        "4 rows read, 1 events kept",
        "  missing                    1  no user, item, weight or time",
        "  explicit_zero              1  a weight of 0: seen, but no sign of liking",
        "  duplicate                  1  merged into another event of the same user and item",
        "  bot                        0  off",
    ]
    table = inter.report.table()
    assert [rule for rule, _, _ in table] == list(RULES)
    assert sum(count for _, count, _ in table) == 3
    assert CleaningReport(2, 2, {}).table() == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"duplicate": "mean"}, ValueError, "duplicate must be one of 'sum', 'last'"),
        ({"missing": 1}, TypeError, "missing must be a bool, got int"),
        ({"max_events_per_user": 0}, ValueError, "max_events_per_user must be >= 1, got 0"),
        ({"max_events_per_user": 2.5}, TypeError, "max_events_per_user must be an integer"),
    ],
)
def test_bad_rules_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        CleaningRules(**options)
