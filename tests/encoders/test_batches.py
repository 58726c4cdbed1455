from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine.encoders._pool import scale_rows
from recengine.encoders.batches import MAX_TOKENS, batches_of_like_length
from recengine.encoders.pooling import normalized, pool

LENGTHS = st.lists(st.integers(0, 3000), max_size=60).map(lambda each: np.array(each, np.int64))


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), padding=st.booleans())
def test_batches_hold_each_text_once_within_bounds(
    lengths: np.ndarray, batch_size: int, padding: bool
) -> None:
    batches = list(batches_of_like_length(lengths, batch_size, padding=padding))
    together = np.concatenate([*batches, np.empty(0, np.int64)]).astype(np.int64)
    np.testing.assert_array_equal(np.sort(together), np.flatnonzero(lengths))
    assert (np.diff(lengths[together]) <= 0).all(), "longest first"
    for batch in batches:
        longest, shortest = lengths[batch].max(), lengths[batch].min()
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * longest <= MAX_TOKENS
        assert shortest * 2 >= longest if padding else shortest == longest


def test_texts_of_one_length_keep_their_order() -> None:
    (batch,) = batches_of_like_length(np.full(20, 7), 64)
    np.testing.assert_array_equal(batch, np.arange(20))


def test_batches_are_full_where_lengths_allow() -> None:
    sizes = [len(batch) for batch in batches_of_like_length(np.full(100, 16), 64)]
    assert sizes == [64, 36]
    sizes = [len(batch) for batch in batches_of_like_length(np.full(100, 256), 64)]
    assert sizes == [MAX_TOKENS // 256] * 12 + [4]


def test_short_texts_do_not_pay_for_a_long_one() -> None:
    lengths = np.array([5] * 30 + [200] + [6] * 30)
    found = [lengths[batch].tolist() for batch in batches_of_like_length(lengths, 64)]
    assert found == [[200], [6] * 30 + [5] * 30]


# --- pooling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("dim", [1, 6, 67])
def test_pool_reads_no_padded_place(
    rng: np.random.Generator, pooling: str, dtype: type[np.floating], dim: int
) -> None:
    lengths = np.array([1, 4, 7, 3])
    hidden = rng.standard_normal((5, 7, dim)).astype(dtype)  # a row more, as buckets fill them up
    hidden[:4][np.arange(7) >= lengths[:, None]] = np.nan
    hidden.flags.writeable = False
    for laid in (hidden, np.asfortranarray(hidden)):
        found = pool(laid, lengths, pooling)
        for row, tokens in enumerate(hidden[:4].astype(np.float64)):
            text = tokens[: lengths[row]]
            expected = {"mean": text.mean(axis=0), "cls": text[0], "last": text[-1]}[pooling]
            np.testing.assert_allclose(found[row], expected, rtol=1e-6, atol=1e-6)
        assert found.dtype == np.float32
        assert len(found) == 4


def test_mean_has_the_same_bits_with_more_padding_and_alone(rng: np.random.Generator) -> None:
    hidden, lengths = rng.standard_normal((3, 5, 64)).astype(np.float32), np.array([2, 5, 3])
    wider = np.concatenate([hidden, rng.standard_normal((3, 9, 64), np.float32)], axis=1)
    found = pool(hidden, lengths, "mean")
    np.testing.assert_array_equal(found, pool(wider, lengths, "mean"))
    for row, length in enumerate(lengths):
        alone = pool(hidden[row : row + 1, :length], lengths[row : row + 1], "mean")
        np.testing.assert_array_equal(alone[0], found[row])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([0, 1], r"must be in \[1, 5\], got 0"),
        ([6], r"must be in \[1, 5\], got 6"),
        ([1] * 4, "at most 3 entries, got 4"),
    ],
)
def test_lengths_beyond_the_tokens_are_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(np.zeros((3, 5, 2), np.float32), np.array(lengths), "mean")


def test_normalized_rows_have_length_one_or_zero(rng: np.random.Generator) -> None:
    huge, tiny = np.float32(1e30), np.float32(1e-30)
    rows = np.array([[3, 4], [0, 0], [huge, huge], [tiny, -tiny], [-0.0, 2]], np.float32)
    half = np.sqrt(0.5)
    expected = [[0.6, 0.8], [0, 0], [half, half], [half, -half], [0, 1]]
    before = rows.copy()
    np.testing.assert_allclose(normalized(rows), expected, rtol=1e-6)
    np.testing.assert_array_equal(rows, before)
    wide = rng.standard_normal((4, 67)).astype(np.float32)[:, ::2]
    norms = np.linalg.norm(wide.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(normalized(wide), wide / norms, rtol=1e-6)


def test_rows_that_are_not_finite_are_told_and_left() -> None:
    rows = np.array([[3, 4], [np.nan, 1], [np.inf, 2], [-np.inf, np.inf]], np.float32)
    scaled = rows.copy()
    assert scale_rows(scaled) is False
    np.testing.assert_allclose(scaled[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(scaled[1:], rows[1:])
    assert scale_rows(rows[:1].copy()) is True
    assert scale_rows(np.empty((0, 3), np.float32)) is True
    rows.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        scale_rows(rows)
