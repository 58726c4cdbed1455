"""Results of every shape as one: a matrix of item numbers, a row for each user, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recengine._types import PADDING_ID, Float64Array, IdArray, Int64Array, TopK
from recengine._validation import as_ids

if TYPE_CHECKING:
    from recengine.data import IdMap, Interactions

NEEDED = ("user_id", "item_id", "score")


class ItemNumbers:
    """Give every item a number: those of the catalogue first, strangers as they come.

    Parameters
    ----------
    catalogue : IdMap
        Its row numbers stay.
    """

    def __init__(self, catalogue: IdMap) -> None:
        self.catalogue = catalogue
        self._all = catalogue

    def __len__(self) -> int:
        return len(self._all)

    def of(self, name: str, ids: IdArray) -> Int64Array:
        """Return the numbers of ids (n,), −1 for padding."""
        real = ~is_padding(ids)
        numbers = np.full(len(ids), -1, np.int64)
        numbers[real] = self._of_real(name, ids[real])
        return numbers

    def of_events(self, name: str, interactions: Interactions) -> Int64Array:
        """Return the number of each event's item."""
        numbers: Int64Array = interactions.item_indices
        if interactions.items is not self.catalogue:
            numbers = self._of_real(name, interactions.items.ids)[numbers]
        return numbers

    def _of_real(self, name: str, ids: IdArray) -> Int64Array:
        check_kind(name, ids, self._all)
        numbers = self._all.indices(ids, missing="mark")
        strangers = numbers < 0
        if strangers.any():
            self._all = self._all.extended(np.unique(ids[strangers]))
            numbers = self._all.indices(ids, missing="mark")
        return numbers


def is_padding(ids: IdArray) -> Any:
    """Return where an array of ids holds no id."""
    return ids == (None if ids.dtype == object else PADDING_ID)


def check_kind(name: str, ids: IdArray, known: IdMap) -> None:
    """Refuse str ids where the interactions speak int64, and the other way round."""
    if len(ids) and len(known) and (ids.dtype == object) != known.is_str:
        kinds = {True: "str", False: "integer"}
        raise TypeError(
            f"{name} must hold {kinds[known.is_str]} ids, as the interactions do, "
            f"got {kinds[not known.is_str]} ids"
        )


def rows_of_topk(result: TopK, n_users: int, k: int) -> IdArray:
    """Return the first k ids of each row of a `TopK`, padded, after checking its order.

    Parameters
    ----------
    result : TopK, (n_users, width) or (width,) for one user
    n_users : int
        How many rows there must be.
    k : int
        At most `width`.
    """
    ids, scores = np.asarray(result.ids), np.asarray(result.scores)
    if ids.ndim not in (1, 2) or ids.shape != scores.shape:
        raise ValueError(
            "result must have ids and scores of one shape, (n_users, k) or (k,), "
            f"got {ids.shape} and {scores.shape}"
        )
    ids, scores = np.atleast_2d(ids), np.atleast_2d(scores)
    if len(ids) != n_users:
        raise ValueError(f"result must have one row per user ({n_users}), got {len(ids)}")
    if k > ids.shape[1]:
        raise ValueError(f"k must be <= {ids.shape[1]}, the width of result, got {k}")
    if not (scores[:, 1:] <= scores[:, :-1]).all() or np.isnan(scores).any():
        raise ValueError("result must be sorted, best first, without NaN")
    if ids.dtype.kind in "UT":
        ids = ids.astype(object)
    if ids.dtype.kind not in "iuO":
        raise TypeError(f"result must hold integer or str ids, got dtype {ids.dtype}")
    return ids[:, :k] if ids.dtype == object else ids[:, :k].astype(np.int64)


def columns_of_frame(result: Any) -> tuple[IdArray, IdArray, Float64Array]:
    """Return (user ids, item ids, scores) of a frame, rows as they come; score −inf is padding."""
    import narwhals as nw

    frame = nw.from_native(result, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        raise TypeError(
            f"result must be a TopK or a frame {', '.join(NEEDED)}, got {type(result).__name__}"
        )
    missing = [column for column in NEEDED if column not in frame.columns]
    if missing:
        raise ValueError(
            f"result must have columns {', '.join(NEEDED)}, got {', '.join(frame.columns)}"
        )
    ids = []
    for name in NEEDED:
        series = frame[name]
        if series.is_null().any():
            raise ValueError(f"result must have no missing {name}, got {series.null_count()}")
        if isinstance(series.dtype, nw.Categorical | nw.Enum):
            series = series.cast(nw.String())
        ids.append(series.to_numpy())
    scores = ids.pop()
    if scores.dtype.kind not in "fiu" or np.isnan(scores).any():
        raise ValueError(f"result must have numbers without NaN as score, got {scores.dtype}")
    kept = scores != -np.inf
    users, items = (
        as_ids(f"{name} of result", column[kept]) for name, column in zip(NEEDED, ids, strict=False)
    )
    return users, items, scores[kept].astype(np.float64)


def matrix_of_rows(
    rows: Int64Array, numbers: Int64Array, scores: Float64Array, n_users: int, k: int
) -> Int64Array:
    """Return the best k of each user as a matrix (n_users, k), −1 where there are fewer.

    Parameters
    ----------
    rows : ndarray (n,), int64
        The user's row of each entry.
    numbers, scores : ndarray (n,)
        Item and score of each entry; equal scores keep their input order.
    """
    order = np.lexsort((-scores, rows))
    rows, numbers = rows[order], numbers[order]
    first = np.searchsorted(rows, np.arange(n_users))
    ranks = np.arange(len(rows)) - first[rows]
    matrix = np.full((n_users, k), -1, np.int64)
    within = ranks < k
    matrix[rows[within], ranks[within]] = numbers[within]
    return matrix


def refuse_duplicates(rows: Int64Array, numbers: Int64Array, users: IdArray, width: int) -> None:
    """Refuse a result that lists an item twice for one user; padding is −1."""
    keys = rows * width + numbers
    keys = np.sort(keys[numbers >= 0])
    twice = keys[1:][keys[1:] == keys[:-1]]
    if len(twice):
        user = users[twice[0] // width]
        raise ValueError(f"result must list an item once per user, got one twice for user {user}")
