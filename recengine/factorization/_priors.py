"""What features say of the rows of one side, before their entries say more.

With features, a row is drawn towards the factors that its features predict, p, instead of 0: the
ridge of its system is ``ridge ‖x − p‖²``, which adds ``ridge p`` to the right-hand side and nothing
else. A row without entries is p. The map that predicts is fitted anew before each half, to the
factors of its side as they are then.
The idea is that of irspack's iALS with features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recengine._types import Float32Array, Int64Array
from recengine._validation import as_matrix
from recengine.factorization._feature_map import FeatureMap, FeatureRegression, as_features
from recengine.factorization._likes import Likes


@dataclass(frozen=True)
class Prior:
    """What features predict: of the rows of a fit, and of others.

    Attributes
    ----------
    map : FeatureMap
    rows : ndarray (n_rows, factors), float32, read-only
    """

    map: FeatureMap
    rows: Float32Array

    def state(self, side: str) -> dict[str, Any]:
        """Return plain arrays for `from_state`."""
        return dict(
            zip(_parts(side), (self.rows, self.map.weights, self.map.intercept), strict=True)
        )

    @classmethod
    def from_state(
        cls, side: str, arrays: Mapping[str, Any], n_rows: int, dim: int
    ) -> Prior | None:
        """Return the prior that `state` described, or None where it described none.

        Of the `n_rows` rows there are now, those that came after the fit have no prior.
        """
        if f"{side}_prior" not in arrays:
            return None
        missing = [part for part in _parts(side) if part not in arrays]
        if missing:
            raise ValueError(f"arrays must hold {', '.join(missing)}")
        rows = as_matrix(f"{side}_prior", arrays[f"{side}_prior"], dim=dim)
        if len(rows) > n_rows:
            raise ValueError(f"{side}_prior must have at most {n_rows} rows, got {len(rows)}")
        if rows.flags.writeable:
            rows = rows.copy()
            rows.flags.writeable = False
        weights, intercept = (np.array(arrays[part], np.float64) for part in _parts(side)[1:])
        fits = weights.ndim == 2 and weights.shape[1] == dim and intercept.shape == (dim,)
        if not fits or not np.isfinite(weights).all() or not np.isfinite(intercept).all():
            raise ValueError(
                f"{side}_map must hold finite weights (n_features, {dim}) and ({dim},)"
            )
        return cls(FeatureMap(weights, intercept), rows)


def _parts(side: str) -> tuple[str, str, str]:
    return f"{side}_prior", f"{side}_map_weights", f"{side}_map_intercept"


class SideFeatures:
    """The features of one side during a fit.

    Parameters
    ----------
    name : str
        What errors call them.
    features : array_like or scipy sparse (n_rows, n_features)
    counts : ndarray (n_rows,), int64
        Entries of each row.
    """

    def __init__(self, name: str, features: Any, counts: Int64Array) -> None:
        self._table = as_features(name, features, n_rows=len(counts))
        self._regression = FeatureRegression(self._table, counts)

    def prior(self, factors: Float32Array) -> Prior:
        """Return the prior that the `factors` of the rows with entries teach."""
        found = self._regression.fit(factors)
        return Prior(found, found.predict(self._table))


class Priors:
    """The priors of both sides during a fit, None where a side has no features.

    Attributes
    ----------
    users, items : Prior or None
        Those of the halves that were solved last.
    """

    def __init__(self, likes: Likes, user_features: Any = None, item_features: Any = None) -> None:
        self.users: Prior | None = None
        self.items: Prior | None = None
        self._of_users = self._of_items = None
        if user_features is not None:
            self._of_users = SideFeatures("user_features", user_features, likes.counts)
        if item_features is not None:
            counts = np.bincount(likes.indices, minlength=likes.shape[1])
            self._of_items = SideFeatures("item_features", item_features, counts)

    def of_users(self, users: Float32Array) -> Float32Array | None:
        """Return what the users are drawn towards in the next half, given them as they are."""
        if self._of_users is not None:
            self.users = self._of_users.prior(users)
        return self.rows[0]

    def of_items(self, items: Float32Array) -> Float32Array | None:
        """Return what the items are drawn towards in the next half, given them as they are."""
        if self._of_items is not None:
            self.items = self._of_items.prior(items)
        return self.rows[1]

    @property
    def rows(self) -> tuple[Float32Array | None, Float32Array | None]:
        """What users and items were drawn towards last."""
        users = None if self.users is None else self.users.rows
        return users, None if self.items is None else self.items.rows


def padded(prior: Prior | None, n_rows: int) -> Float32Array | None:
    """Return the rows of a prior, 0 for those that came after the fit; None of none."""
    if prior is None or len(prior.rows) == n_rows:
        return None if prior is None else prior.rows
    rows = np.zeros((n_rows, prior.rows.shape[1]), np.float32)
    rows[: len(prior.rows)] = prior.rows
    rows.flags.writeable = False
    return rows


def at(prior: Prior | None, places: Int64Array) -> Float32Array | None:
    """Return the rows of a prior at `places`, 0 for those that came after the fit; None of none."""
    if prior is None:
        return None
    rows = np.zeros((len(places), prior.rows.shape[1]), np.float32)
    known = places < len(prior.rows)
    rows[known] = prior.rows[places[known]]
    return rows


def predicted(side: str, prior: Prior | None, features: Any) -> Float32Array:
    """Return the factors (n, factors) that `features` of new rows predict."""
    if prior is None:
        raise ValueError(f"features must be None: this model was fitted without {side}_features")
    return prior.map.predict(as_features("features", features, dim=len(prior.map.weights)))


def saved_priors(users: Prior | None, items: Prior | None) -> dict[str, Any]:
    """Return the plain arrays of the priors there are."""
    parts = {} if users is None else users.state("user")
    return parts if items is None else parts | items.state("item")


def priors_from_state(
    arrays: Mapping[str, Any], users: Float32Array, items: Float32Array
) -> tuple[Prior | None, Prior | None]:
    """Return the priors that `saved_priors` described, of the factors of `users` and `items`."""
    return (
        Prior.from_state("user", arrays, *users.shape),
        Prior.from_state("item", arrays, *items.shape),
    )
