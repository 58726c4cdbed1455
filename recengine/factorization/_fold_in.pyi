from typing import Any

from recengine._types import Float32Array

class FixedSide:
    def __init__(
        self,
        factors: Any,
        spectrum: Any,
        into: Any,
        out_of: Any,
        alpha: float,
        shift: float,
        regularization: float,
        unobserved_weight: float,
        exponent: float,
    ) -> None: ...
    def fold_in(self, indices: Any, weights: Any, prior: Any = None) -> Float32Array | None: ...
    def solve_rows(
        self, indptr: Any, indices: Any, confidences: Any, num_threads: int, priors: Any = None
    ) -> tuple[Float32Array, int]: ...
