"""What every argument goes through first: argument, rule and value are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recengine._validation import (
    MOST_PADDING,
    as_choice,
    as_count,
    as_generator,
    as_ids,
    as_k,
    as_matrix,
)


@pytest.mark.parametrize("value", [2**31, 2**63, 10**30])
def test_a_count_beyond_c_is_refused_by_name(value: int) -> None:
    with pytest.raises(ValueError, match=rf"k must be <= 2147483647, got {value}"):
        as_count("k", value)


def test_a_seed_may_be_any_size() -> None:
    assert as_generator(2**70).integers(10) == np.random.default_rng(2**70).integers(10)


@pytest.mark.parametrize("value", [np.array(["dot", "l2"]), ["dot"], None, 1])
def test_a_choice_is_a_str(value: Any) -> None:
    with pytest.raises(ValueError, match="metric must be one of 'dot', 'l2', got"):
        as_choice("metric", value, ("dot", "l2"))


def test_rows_of_different_lengths_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="vectors must be an array, got rows of different"):
        as_matrix("vectors", [[1.0, 2.0], [3.0]])


def test_masked_entries_are_refused_and_never_read() -> None:
    matrix = np.ma.masked_array(np.ones((2, 2)), [[False, True], [False, False]])
    with pytest.raises(ValueError, match="vectors must not be masked, got 1 masked"):
        as_matrix("vectors", matrix)
    with pytest.raises(ValueError, match="ids must not be masked, got 1 masked"):
        as_ids("ids", np.ma.masked_array([1, 2], [True, False]))
    np.testing.assert_array_equal(as_matrix("vectors", np.ma.masked_array(np.eye(2))), np.eye(2))


def test_an_empty_array_of_numpy_is_no_ids() -> None:
    ids = as_ids("deny", np.array([]))
    assert ids.dtype == np.int64
    assert ids.shape == (0,)
    with pytest.raises(TypeError, match="deny must be integers or strings, got dtype float64"):
        as_ids("deny", np.array([1.0]))


def test_k_may_exceed_the_items_by_some_padding_only() -> None:
    assert as_k(3 + MOST_PADDING, 3) == 3 + MOST_PADDING
    with pytest.raises(ValueError, match=r"k must be <= 1048579 \(3 items and 1048576 of padding"):
        as_k(4 + MOST_PADDING, 3)
    with pytest.raises(ValueError, match="k must be >= 0, got -1"):
        as_k(-1, 3)
