// The baseline of each machine: four lanes, as the compiler knows them everywhere.
#include "simd/als.h"

namespace recengine {

namespace {

typedef float Vec __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kTileRows = 2;  // 2 x 4 vectors: 8 registers accumulate

inline Vec zero() { return Vec{0.0F, 0.0F, 0.0F, 0.0F}; }
inline Vec load(const float* from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
inline void store(float* to, Vec value) { __builtin_memcpy(to, &value, sizeof value); }
inline Vec all(float value) { return Vec{value, value, value, value}; }
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec fma(Vec a, Vec b, Vec sum) { return sum + a * b; }
inline Vec fnma(Vec a, Vec b, Vec sum) { return sum - a * b; }
inline float sum_of(Vec value) { return (value[0] + value[2]) + (value[1] + value[3]); }

// to[k] = the sum of values[k].
inline void store_sums(const Vec (&values)[8], float* to) {
  for (int k = 0; k < 8; ++k) to[k] = sum_of(values[k]);
}

#include "simd/als_rows.h"

}  // namespace

extern const AlsKernels kAlsScalar = {"scalar", solve_rows, rotate_rows, gram_rows, observed_loss};

int64_t als_scratch_floats(int64_t dim, int64_t longest) {
  constexpr int64_t kVectors = 8;
  return panel_at(dim / kPanel) + 2 * kEntries * dim + 2 * dim * dim + 3 * kRowsAtOnce * dim +
         kVectors * dim + (longest > dim ? longest : dim);
}

}  // namespace recengine
