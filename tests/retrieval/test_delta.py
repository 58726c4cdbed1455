"""The log of a delta: what one row leaves is what many leave, and readers cannot write."""

from __future__ import annotations

import numpy as np
import pytest

from recengine.retrieval._delta import SMALLEST, DeltaLog

DIM = 3


def rows(n, bias=None):
    rng = np.random.default_rng(0)
    ordinals = rng.integers(0, 40, n)
    ordinals[-1] = 99  # beyond what the log began with
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    reach = np.arange(n, dtype=np.float32)
    return ordinals, vectors, np.arange(n) * 2.0, reach, bias


@pytest.mark.parametrize("biased", [None, 57], ids=["no bias", "a bias late"])
def test_rows_come_one_by_one_as_they_come_together(biased):
    n = 2 * SMALLEST
    bias = None if biased is None else (np.arange(n) == biased).astype(np.float32)
    ordinals, *columns, bias = rows(n, bias)
    log, length = DeltaLog(DIM, 1, np.dtype(np.float32), 40), 0
    lengths = []
    for i in range(n):
        one = slice(i, i + 1)
        boost = None if bias is None else bias[one]
        length = log.append(length, ordinals[one], *(part[one] for part in columns), boost)
        lengths.append(length)
    assert lengths == list(range(1, n + 1))
    segment = log.segment(n)
    np.testing.assert_array_equal(segment.ordinals, ordinals)
    for got, want in zip((segment.vectors, segment.sq_norms, segment.reach), columns, strict=True):
        np.testing.assert_array_equal(got, want)
    if bias is None:
        assert segment.bias is None
    else:
        np.testing.assert_array_equal(segment.bias, bias)
    for size in (1, 17, n):  # the last row of each item among so many
        want = [max(np.flatnonzero(ordinals[:size] == item), default=-1) for item in range(100)]
        np.testing.assert_array_equal(log.rows_of(np.arange(100), size), want)
        assert [log.row_of(item, size) for item in range(100)] == want


def test_what_readers_get_is_read_only_also_after_the_log_has_grown():
    ordinals, vectors, sq_norms, reach, _ = rows(3 * SMALLEST)
    log, length = DeltaLog(DIM, 1, np.dtype(np.float32), 100), 0
    for n in (1, 5, 3 * SMALLEST - 6):
        some = slice(length, length + n)
        parts = (ordinals[some], vectors[some], sq_norms[some], reach[some])
        length = log.append(length, *parts, np.ones(n, np.float32))
        segment = log.segment(length)
        for name in ("vectors", "sq_norms", "reach", "ordinals", "bias"):
            assert not getattr(segment, name).flags.writeable
        np.testing.assert_array_equal(segment.ordinals, ordinals[:length])
