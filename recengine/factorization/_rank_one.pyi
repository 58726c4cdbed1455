from recengine._types import Float32Array, Float64Array

def with_rows(
    system: Float64Array,
    rhs: Float64Array,
    rows: Float32Array,
    weights: Float64Array,
    confidences: Float64Array,
) -> tuple[Float64Array, Float64Array]: ...
def factor_of(system: Float64Array, ridge: float) -> Float64Array | None: ...
def factor_with_row(
    factor: Float64Array, row: Float32Array, weight: float
) -> Float64Array | None: ...
def solution(factor: Float64Array, rhs: Float64Array) -> Float32Array | None: ...
