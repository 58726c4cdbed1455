"""Tables say what the evaluations say, to the digits shown, and print nothing."""

import numpy as np
import pytest

import recengine as rec
from recengine.evaluation import Table, differences_table, figures_table

TEST = rec.Interactions.from_arrays([1, 2, 3, 4], [1, 1, 1, 1])


def found(*hits, k=1):
    ids = np.array([[1 if hit else 2, *range(3, 2 + k)] for hit in hits])
    scores = np.tile(-np.arange(k, dtype=np.float32), (4, 1))
    return rec.evaluate(
        rec.TopK(ids, scores), TEST, users=[1, 2, 3, 4], k=k, metrics=("hit_rate", "coverage")
    )


GOOD, BAD = found(1, 1, 1, 1), found(1, 0, 1, 0)


def test_figures_table_by_hand(capsys):
    table = figures_table({"ALS": GOOD, "popular": BAD})
    low, high = BAD.interval("hit_rate")
    assert table.header == ("", "users", "hit_rate@1", "coverage")
    assert table.rows == (
        ("ALS", "4", "1.0000 [1.0000, 1.0000]", "1.0000"),
        ("popular", "4", f"0.5000 [{low:.4f}, {high:.4f}]", "1.0000"),
    )
    assert capsys.readouterr().out == ""


def test_figures_table_takes_the_columns_asked_for():
    assert figures_table({"a": GOOD}, ["coverage"]).rows == (("a", "4", "1.0000"),)
    narrow = figures_table({"a": BAD}, ["hit_rate"], level=0.5)
    wide = figures_table({"a": BAD}, ["hit_rate"], level=0.99)
    assert narrow.rows != wide.rows


def test_differences_table_by_hand():
    table = differences_table({"popular": BAD, "ALS": GOOD}, "popular", "hit_rate")
    interval = GOOD.compare(BAD, "hit_rate").interval
    assert table.header[:3] == ("hit_rate@1", "difference", "95% interval")
    assert table.rows == (
        (
            "ALS − popular",
            "+0.5000",
            f"[{interval.low:+.4f}, {interval.high:+.4f}]",
            "+100.0%",
            "2/2/0",
        ),
    )


def test_table_as_text_and_markdown():
    table = Table(("", "n"), (("one", "1"), ("eleven", "11")))
    assert str(table).splitlines() == ["         n", "one      1", "eleven  11"]
    assert table.markdown().splitlines() == [
        "|  | n |",
        "| --- | ---: |",
        "| one | 1 |",
        "| eleven | 11 |",
    ]


def test_tables_refuse_what_does_not_belong_together():
    with pytest.raises(ValueError, match="evaluations must not be empty"):
        figures_table({})
    with pytest.raises(ValueError, match=r"must be at one k \(1\), got 2 for 'b'"):
        figures_table({"a": GOOD, "b": found(1, 1, 1, 1, k=2)})
    with pytest.raises(ValueError, match="baseline must be one of a, got 'b'"):
        differences_table({"a": GOOD}, "b", "hit_rate")
    with pytest.raises(KeyError, match="ndcg"):
        figures_table({"a": GOOD}, ["ndcg"])
