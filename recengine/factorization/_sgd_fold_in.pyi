from recengine._types import Float32Array, Int64Array

def fold_likes(
    factors: Float32Array,
    indices: Int64Array,
    weights: Float32Array,
    learning_rate: float,
    regularization: float,
    passes: int,
) -> Float32Array: ...
def fold_ratings(
    factors: Float32Array,
    indices: Int64Array,
    ratings: Float32Array,
    mean: float,
    regularization: float,
    sweeps: int,
) -> tuple[float, Float32Array]: ...
