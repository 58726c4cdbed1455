"""Interactions and ids: what every other room is told about the world.

An event is (user, item, weight, time). `Interactions` takes events from frames, arrays or files,
cleans them under explicit `CleaningRules`, counts every row it drops in a `CleaningReport`, and
keeps the rest as four parallel NumPy arrays in the order in which they came.
Ids are the caller's, int64 or str; an `IdMap` gives each a row number, ascending by id, so that
the same events in another order give the same rows. −1 and None are padding and never ids.
`decayed`, `since` and `window` (`recency`) say what counts of the past.
Splits select events and share their parent's id maps: a row number means the same user in train
and in test. Time is int64 seconds since 1970 (UTC); events of one second keep their input order.
`sources` obtains named data sets and models with the user's own pip, checked and cached;
`load_ml_100k` reads the one that the demo and the tests use.
polars, narwhals and SciPy are imported only inside the calls that need them.
"""

from recengine.data._frames import REQUIRED, ROLES, SUFFIXES, MissingColumnError
from recengine.data.cleaning import CleaningReport, CleaningRules
from recengine.data.ids import IdMap, ids_digest
from recengine.data.interactions import Interactions
from recengine.data.movielens import MovieLens, load_ml_100k
from recengine.data.sources import NAMES, SOURCES, Source, cache_dir, fetch

__all__ = [
    "NAMES",
    "REQUIRED",
    "ROLES",
    "SOURCES",
    "SUFFIXES",
    "CleaningReport",
    "CleaningRules",
    "IdMap",
    "Interactions",
    "MissingColumnError",
    "MovieLens",
    "Source",
    "cache_dir",
    "fetch",
    "ids_digest",
    "load_ml_100k",
]
