"""A fitted model as plain arrays and JSON, and back."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

from recengine import NotFittedError
from recengine.factorization import ALS

OPTIONS: list[dict[str, Any]] = [
    {"random_state": 3},
    {"random_state": np.random.default_rng(0), "num_threads": 2},
    {"objective": "ials", "unobserved_weight": 0.2, "frequency_exponent": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_from_state_gives_the_same_model(make_matrix: Any, options: Any) -> None:
    matrix = make_matrix()
    model = ALS(6, 0.2, 1.5, 2, **options).fit(matrix)
    arrays, meta = model.state()
    again = ALS.from_state(arrays, json.loads(json.dumps(meta)))
    np.testing.assert_array_equal(again.user_factors_, model.user_factors_)
    np.testing.assert_array_equal(again.item_factors_, model.item_factors_)
    np.testing.assert_array_equal(again.fold_in([1, 4]), model.fold_in([1, 4]))
    assert again.loss(matrix) == model.loss(matrix)
    assert again.state()[1] == meta
    assert repr(again) == repr(model)
    assert "60 users, 40 items" in repr(again)


def test_state_holds_plain_arrays_only(make_matrix: Any) -> None:
    arrays, _ = ALS(6, iterations=1).fit(make_matrix()).state()
    assert {name: (a.dtype.str, a.shape) for name, a in arrays.items()} == {
        "user_factors": ("<f4", (60, 6)),
        "item_factors": ("<f4", (40, 6)),
        "item_gram": ("<f8", (6, 6)),
    }
    items = arrays["item_factors"].astype(np.float64)
    np.testing.assert_allclose(arrays["item_gram"], items.T @ items, rtol=1e-12)


def test_from_state_borrows_read_only_and_copies_writable(make_matrix: Any, tmp_path: Any) -> None:
    arrays, meta = ALS(6, iterations=1).fit(make_matrix()).state()
    np.save(tmp_path / "items.npy", arrays["item_factors"])
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    users = arrays["user_factors"].copy()
    again = ALS.from_state(arrays | {"item_factors": mapped, "user_factors": users}, meta)
    assert np.shares_memory(again.item_factors_, mapped)
    assert not np.shares_memory(again.user_factors_, users)
    users[:] = 0
    np.testing.assert_array_equal(again.user_factors_, arrays["user_factors"])


def test_from_state_reads_states_of_before_cg_steps(make_matrix: Any) -> None:
    arrays, meta = ALS(6, iterations=1, solver="cholesky").fit(make_matrix()).state()
    before = {name: v for name, v in meta.items() if name not in ("cg_steps", "block_size")}
    again = ALS.from_state(arrays, before)
    assert (again.solver, again.cg_steps, again.block_size) == ("cholesky", None, None)
    assert again.state()[1] == meta


def test_pickle_keeps_the_model(make_matrix: Any) -> None:
    model = ALS(6, iterations=1, random_state=0).fit(make_matrix())
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.fold_in([0, 2]), model.fold_in([0, 2]))


def test_state_needs_fit() -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        ALS().state()
    assert "not fitted" in repr(ALS())


def test_from_state_refuses_parts_that_do_not_fit(make_matrix: Any) -> None:
    arrays, meta = ALS(6, iterations=1).fit(make_matrix()).state()
    without = {name: array for name, array in arrays.items() if name != "item_gram"}
    with pytest.raises(ValueError, match="arrays must hold item_gram"):
        ALS.from_state(without, meta)
    with pytest.raises(ValueError, match="meta must hold alpha, random_state"):
        ALS.from_state(
            arrays, {k: v for k, v in meta.items() if k not in ("alpha", "random_state")}
        )
    with pytest.raises(ValueError, match="user_factors must have 5 columns, got 6"):
        ALS.from_state(arrays, meta | {"factors": 5})
    with pytest.raises(ValueError, match="objective must be one of"):
        ALS.from_state(arrays, meta | {"objective": "other"})
    with pytest.raises(ValueError, match=r"item_gram must be finite and of shape \(6, 6\)"):
        ALS.from_state(arrays | {"item_gram": np.eye(5)}, meta)
    with pytest.raises(ValueError, match="item_factors must be finite"):
        ALS.from_state(arrays | {"item_factors": np.full((40, 6), np.nan)}, meta)
