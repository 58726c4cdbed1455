"""What one fit of ALS learned."""

from __future__ import annotations

from dataclasses import dataclass

from recengine._types import Float32Array, Float64Array
from recengine.factorization._objective import Objective
from recengine.factorization._priors import Prior


@dataclass(frozen=True)
class Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    objective: Objective
    users: Float32Array
    items: Float32Array
    item_gram: Float64Array
    base: Float64Array  # unobserved weight times item_gram: what every fold-in starts from
    user_gram: Float64Array | None = None  # once items were solved online
    user_prior: Prior | None = None
    item_prior: Prior | None = None

    @classmethod
    def of(
        cls,
        objective: Objective,
        users: Float32Array,
        items: Float32Array,
        gram: Float64Array,
        priors: tuple[Prior | None, Prior | None],
    ) -> Fitted:
        """Return what was learned; the arrays, `gram` that of the items, are read-only from now."""
        base = objective.unobserved_weight * gram
        for array in (users, items, gram, base):
            array.flags.writeable = False
        user_prior, item_prior = priors
        return cls(
            objective, users, items, gram, base, user_prior=user_prior, item_prior=item_prior
        )
