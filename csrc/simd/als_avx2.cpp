// AVX2 + FMA. Everything here is internal to this file.
#include <immintrin.h>

#include "simd/als.h"

namespace recengine {

namespace {

using Vec = __m256;
constexpr int kLanes = 8;
constexpr int kTileRows = 6;  // 6 x 2 vectors: 12 of the 16 registers accumulate

inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec load(const float* from) { return _mm256_loadu_ps(from); }
inline void store(float* to, Vec value) { _mm256_storeu_ps(to, value); }
inline Vec all(float value) { return _mm256_set1_ps(value); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec sum) { return _mm256_fmadd_ps(a, b, sum); }
inline Vec fnma(Vec a, Vec b, Vec sum) { return _mm256_fnmadd_ps(a, b, sum); }

inline float sum_of(Vec value) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// to[k] = the sum of values[k].
inline void store_sums(const Vec (&values)[8], float* to) {
  const __m256 s01 = _mm256_hadd_ps(values[0], values[1]);
  const __m256 s23 = _mm256_hadd_ps(values[2], values[3]);
  const __m256 s45 = _mm256_hadd_ps(values[4], values[5]);
  const __m256 s67 = _mm256_hadd_ps(values[6], values[7]);
  const __m256 low = _mm256_hadd_ps(s01, s23);
  const __m256 high = _mm256_hadd_ps(s45, s67);
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                     _mm256_permute2f128_ps(low, high, 0x31)));
}

#include "simd/als_rows.h"

}  // namespace

extern const AlsKernels kAlsAvx2 = {"avx2", solve_rows, rotate_rows, gram_rows, observed_loss};

}  // namespace recengine
