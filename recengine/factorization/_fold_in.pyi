from recengine._types import Float32Array, Float64Array, Int64Array

def solve_user(
    base: Float64Array,
    factors: Float32Array,
    indices: Int64Array,
    confidences: Float32Array,
    shift: float,
    regularization: float,
    unobserved_weight: float,
    exponent: float,
) -> Float32Array | None: ...
