"""What ALS minimises: both objectives as one general weighted least-squares system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recengine._types import Float64Array, Int64Array

OBJECTIVES = ("implicit", "ials")


@dataclass(frozen=True)
class Objective:
    """The system of one row, for either objective.

    With c the confidences (`alpha` times the weights) of a row's n entries, Y_u their factors and
    G the Gram matrix of all rows of the other side, a row is the solution of::

        (unobserved_weight G + Y_uᵀ diag(c − shift) Y_u + ridge I) x = Y_uᵀ c
        ridge = regularization (n + unobserved_weight n_other)^exponent

    ``objective="implicit"`` is shift 1, unobserved weight 1, exponent 0;
    ``objective="ials"`` is shift 0 with the caller's unobserved weight and exponent.

    References
    ----------
    Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, 2008, section 4.
    Rendle, Krichene, Zhang, Koren: Revisiting the performance of iALS on item recommendation
    benchmarks, 2021, section 2.
    """

    alpha: float
    shift: float
    unobserved_weight: float
    regularization: float
    exponent: float

    def ridges(self, counts: Int64Array, n_other: int) -> Float64Array:
        """Return the ridge of rows with `counts` entries each, float64; refuses an overflow."""
        sizes = counts + self.unobserved_weight * n_other
        with np.errstate(over="ignore", invalid="ignore"):
            ridges: Float64Array = self.regularization * np.power(sizes, self.exponent)
        finite = np.isfinite(ridges)
        if not finite.all():
            raise ValueError(
                f"frequency_exponent must keep regularization * {sizes[~finite][0]:g} ** "
                f"frequency_exponent within float64, got {self.exponent:g}"
            )
        return ridges
