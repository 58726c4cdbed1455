"""What one fit of ALS learned."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recengine._types import Float32Array, Float64Array
from recengine.factorization._basis import Basis
from recengine.factorization._fold_in import FixedSide
from recengine.factorization._objective import Objective
from recengine.factorization._priors import Prior


@dataclass(frozen=True)
class Fitted:
    """What one fit learned, read-only, replaced as a whole."""

    objective: Objective
    users: Float32Array
    items: Float32Array
    item_gram: Float64Array
    base: Float64Array  # unobserved weight times item_gram: what a warm user starts from
    side: FixedSide  # the items, for users to be solved against
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
        side = fixed_side(objective, items, gram)
        return cls(objective, users, items, gram, base, side, None, *priors)

    def with_items(
        self, items: Float32Array, gram: Float64Array, user_gram: Float64Array
    ) -> Fitted:
        """Return the same with other items; the Gram matrices are those of items and users."""
        base = self.objective.unobserved_weight * gram
        base.flags.writeable = False
        side = fixed_side(self.objective, items, gram)
        return replace(self, items=items, item_gram=gram, base=base, side=side, user_gram=user_gram)


def fixed_side(objective: Objective, factors: Float32Array, gram: Float64Array) -> FixedSide:
    """Return what rows of the other side are solved against; O(dim³), LAPACK."""
    basis = Basis.of(gram)
    return FixedSide(
        factors,
        basis.weighted(objective.unobserved_weight),
        basis.into,
        basis.out_of,
        objective.alpha,
        objective.shift,
        objective.regularization,
        objective.unobserved_weight,
        objective.exponent,
    )
