"""What a model that was fitted with features says of rows by their features alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine._types import Float32Array
from recengine.factorization._fitted import Fitted
from recengine.factorization._priors import padded, predicted


class Featured:
    """The part of `ALS` that features give."""

    def _require(self) -> Fitted:
        raise NotImplementedError

    @property
    def user_prior_(self) -> Float32Array | None:
        """What features predict of the users, (n_users, factors) float32, read-only, or None."""
        return padded(self._require().user_prior, len(self._require().users))

    @property
    def item_prior_(self) -> Float32Array | None:
        """What features predict of the items, (n_items, factors) float32, read-only, or None."""
        return padded(self._require().item_prior, len(self._require().items))

    def user_from_features(self, features: Any) -> Float32Array:
        """Return the factors that features predict of users nobody has met.

        Parameters
        ----------
        features : array_like or scipy sparse (n, n_features)
            As the `user_features` of `fit`.

        Returns
        -------
        ndarray (n, factors), float32, read-only

        Raises
        ------
        ValueError
            The model was fitted without these features, or they have other columns.

        Notes
        -----
        O(n n_features factors) in float64.
        """
        return predicted("user", self._require().user_prior, features)

    def _user_prior(self, features: Any) -> Float32Array | None:
        """Return what the features of one user predict, (factors,); None without."""
        if features is None:
            return None
        rows = self.user_from_features(features if np.ndim(features) != 1 else [features])
        if len(rows) != 1:
            raise ValueError(f"features must be those of one user, got {len(rows)} rows")
        prior: Float32Array = rows[0]
        return prior

    def item_from_features(self, features: Any) -> Float32Array:
        """Return the factors that features predict of new items.

        Parameters
        ----------
        features : array_like or scipy sparse (n, n_features)
            As the `item_features` of `fit`.

        Returns
        -------
        ndarray (n, factors), float32, read-only

        Raises
        ------
        ValueError
            The model was fitted without these features, or they have other columns.
        """
        return predicted("item", self._require().item_prior, features)
