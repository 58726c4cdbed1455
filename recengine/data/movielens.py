"""The MovieLens 100K data set as RecBole's package holds it."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recengine._types import IdArray
from recengine.data.interactions import Interactions
from recengine.data.sources import fetch

_YEAR_AT_END = re.compile(r"\s*\((\d{4})\)$")


class MovieLens(NamedTuple):
    """A data set with its attributes.

    Attributes
    ----------
    interactions : Interactions
        Ratings 1 to 5 as weights; int64 ids.
    items : dict of str to ndarray (n_items,)
        item_id int64, title str, year int64 (0 where unknown), genres str (separated by spaces);
        rows aligned with ``interactions.items``.
    users : dict of str to ndarray (n_users,)
        user_id int64, age int64 (years), gender, occupation, zip_code str; rows aligned with
        ``interactions.users``.
    """

    interactions: Interactions
    items: dict[str, IdArray]
    users: dict[str, IdArray]


def load_ml_100k(folder: str | PathLike[str] | None = None) -> MovieLens:
    """Load MovieLens 100K: 943 users, 1,682 items, 100,000 ratings with times.

    Parameters
    ----------
    folder : path, optional
        Where ml-100k.inter, .item and .user are; fetched when omitted.

    Returns
    -------
    MovieLens
        Unpacks as ``interactions, items, users``.

    Raises
    ------
    FetchError
        If it is not in the cache and cannot be obtained.

    Notes
    -----
    The data is for research; see ``SOURCES["ml-100k"].notice``. Titles stand as in the original
    ("Full Monty, The"). Needs neither polars nor pandas.
    """
    home = Path(folder) if folder is not None else fetch("ml-100k")
    events = np.loadtxt(home / "ml-100k.inter", dtype=np.int64, delimiter="\t", skiprows=1)
    user_ids, item_ids, ratings, timestamps = events.T
    interactions = Interactions.from_arrays(user_ids, item_ids, ratings, timestamps)
    return MovieLens(
        interactions,
        _rows_of(interactions.items.ids, _read_items(home / "ml-100k.item"), "item_id"),
        _rows_of(interactions.users.ids, _read_users(home / "ml-100k.user"), "user_id"),
    )


def _read_items(path: Path) -> dict[str, IdArray]:
    item_ids, titles, years, genres = _read_columns(path)
    for row, year in enumerate(years):
        if not year.isdigit():  # one title kept its year, one film is unknown altogether
            found = _YEAR_AT_END.search(titles[row])
            years[row] = found.group(1) if found else "0"
            titles[row] = _YEAR_AT_END.sub("", titles[row])
    return {
        "item_id": np.array(item_ids, np.int64),
        "title": np.array(titles, object),
        "year": np.array(years, np.int64),
        "genres": np.array(genres, object),
    }


def _read_users(path: Path) -> dict[str, IdArray]:
    user_ids, ages, genders, occupations, zip_codes = _read_columns(path)
    return {
        "user_id": np.array(user_ids, np.int64),
        "age": np.array(ages, np.int64),
        "gender": np.array(genders, object),
        "occupation": np.array(occupations, object),
        "zip_code": np.array(zip_codes, object),
    }


def _read_columns(path: Path) -> list[list[str]]:
    rows = path.read_text("utf-8").splitlines()[1:]
    return [list(column) for column in zip(*(row.split("\t") for row in rows), strict=True)]


def _rows_of(ids: IdArray, columns: dict[str, IdArray], key: str) -> dict[str, IdArray]:
    """Return the columns with their rows in the order of `ids`."""
    order = np.argsort(columns[key], kind="stable")
    rows = order[np.searchsorted(columns[key], ids, sorter=order)]
    return {name: column[rows] for name, column in columns.items()}
