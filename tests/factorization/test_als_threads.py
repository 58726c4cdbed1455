"""The same bits at any thread count, from any number of fits at once; the kernel cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from recengine.factorization import ALS


@pytest.mark.parametrize("objective", ["implicit", "ials"])
def test_fit_num_threads_agnosticism(make_matrix: Any, objective: str) -> None:
    matrix = make_matrix(n_users=700, n_items=300)
    models = [
        ALS(17, iterations=3, objective=objective, num_threads=n, random_state=5).fit(matrix)
        for n in (1, 2, 4, None)
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.user_factors_, models[0].user_factors_)
        np.testing.assert_array_equal(model.item_factors_, models[0].item_factors_)
        assert model.loss(matrix) == models[0].loss(matrix)


def test_seed_decides_the_factors(make_matrix: Any) -> None:
    matrix = make_matrix()

    def items(random_state: Any) -> Any:
        return ALS(4, iterations=2, random_state=random_state).fit(matrix).item_factors_

    np.testing.assert_array_equal(items(3), items(3))
    np.testing.assert_array_equal(items(3), items(np.random.default_rng(3)))
    assert (items(3) != items(4)).any()
    assert (items(None) != items(None)).any()
    draw = np.random.default_rng(3)
    assert (items(draw) != items(draw)).any()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_fits_at_once_equal_serial(make_matrix: Any, num_threads: int) -> None:
    matrices = [make_matrix(n_users=200) for _ in range(4)]

    def fit(number: int) -> Any:
        model = ALS(12, iterations=3, num_threads=num_threads, random_state=number)
        return model.fit(matrices[number]).user_factors_

    want = [fit(n) for n in range(4)]
    got: list[Any] = [None] * 4
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        got[number] = fit(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, serial in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, serial)


def test_threads_end_with_fit(make_matrix: Any) -> None:
    ALS(4, iterations=1, num_threads=3).fit(make_matrix())
    assert not [t for t in threading.enumerate() if t.name.startswith("recengine-fit")]


def test_cost_bounds_cover_every_row_once() -> None:
    from recengine.factorization._training import cost_bounds, even_bounds

    rng = np.random.default_rng(0)
    for n_rows in (0, 1, 2, 63, 64, 65, 5000):
        counts = (rng.pareto(0.5, n_rows) * 10).astype(np.int64)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        for bounds in (cost_bounds(indptr, 64.0, 1365.0), even_bounds(n_rows)):
            assert bounds[0] == 0
            assert bounds[-1] == n_rows
            assert (np.diff(bounds) > 0).all() or n_rows == 0
            assert len(bounds) <= 65


def test_progress_draws_on_standard_error(make_matrix: Any, capfd: Any) -> None:
    ALS(4, iterations=3).fit(make_matrix(), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ALS" in err
    assert "100%" in err
    assert "loss 0." in err
    ALS(4, iterations=3).fit(make_matrix())
    assert capfd.readouterr() == ("", "")


def test_first_fits_of_a_process_may_be_at_once(tmp_path: Any) -> None:
    program = """
import threading
import numpy as np
from scipy.sparse import csr_array
from recengine.factorization import BPR
matrix = csr_array(np.random.default_rng(0).integers(0, 3, (40, 30)).astype(np.float32))
gate, models = threading.Barrier(3), [None] * 3
def work(number):
    model = BPR(6, iterations=2, num_threads=2, random_state=0)
    gate.wait()
    models[number] = model.fit(matrix)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert all((m.item_factors_ == models[0].item_factors_).all() for m in models)
"""
    nothing_compiled = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, env=nothing_compiled)
    assert list(tmp_path.rglob("*.nbc"))


def plus_one(value: int) -> int:
    return value + 1


def test_kernel_compiles_where_nothing_can_be_cached(monkeypatch: Any) -> None:
    import numba
    from numba.core.types import int64

    from recengine.factorization._jit import kernel

    monkeypatch.setattr(numba.config, "CACHE_DIR", "/dev/null/nowhere")
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(int64(int64), cache=True)(plus_one)
    assert kernel(int64, int64)(plus_one)(1) == 2


def test_kernel_compiles_where_the_cache_is_damaged(monkeypatch: Any, tmp_path: Any) -> None:
    import numba
    from numba.core.types import int64

    from recengine.factorization._jit import kernel

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "")
    assert kernel(int64, int64)(plus_one)(1) == 2
    indexes = list(tmp_path.rglob("*.nbi"))
    assert indexes
    for damage in (b"", b"\x80", b"garbage", indexes[0].read_bytes()[:-20]):
        indexes[0].write_bytes(damage)
        assert kernel(int64, int64)(plus_one)(1) == 2


def test_kernel_does_not_hide_an_error() -> None:
    from numba.core.errors import TypingError
    from numba.core.types import int64, unicode_type

    from recengine.factorization._jit import kernel

    with pytest.raises(TypingError):
        kernel(int64, unicode_type)(plus_one)
