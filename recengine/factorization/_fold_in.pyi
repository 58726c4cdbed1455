from recengine._types import Float32Array, Float64Array, Int64Array

def fold_in(
    base: Float64Array,
    fixed: Float32Array,
    indices: Int64Array,
    weights: Float32Array | None,
    alpha: float,
    shift: float,
    regularization: float,
    unobserved_weight: float,
    exponent: float,
) -> Float32Array | None: ...
def solve_rows(
    base: Float64Array,
    fixed: Float32Array,
    indptr: Int64Array,
    indices: Int64Array,
    confidences: Float32Array,
    shift: float,
    regularization: float,
    unobserved_weight: float,
    exponent: float,
    num_threads: int,
) -> tuple[Float32Array, int]: ...
