// AVX-512 (F, DQ). Everything here is internal to this file.
#include <immintrin.h>

#include "simd/als.h"

namespace recengine {

namespace {

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kTileRows = 16;  // 16 x 1 vectors of the 32 registers accumulate

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Vec value) { _mm512_storeu_ps(to, value); }
inline Vec all(float value) { return _mm512_set1_ps(value); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec sum) { return _mm512_fmadd_ps(a, b, sum); }
inline Vec fnma(Vec a, Vec b, Vec sum) { return _mm512_fnmadd_ps(a, b, sum); }

inline float sum_of(Vec value) {
  const __m256 whole =
      _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(whole), _mm256_extractf128_ps(whole, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// to[k] = the sum of values[k].
inline void store_sums(const Vec (&values)[8], float* to) {
  __m256 half[8];
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    half[k] =
        _mm256_add_ps(_mm512_castps512_ps256(values[k]), _mm512_extractf32x8_ps(values[k], 1));
  }
  const __m256 s01 = _mm256_hadd_ps(half[0], half[1]);
  const __m256 s23 = _mm256_hadd_ps(half[2], half[3]);
  const __m256 s45 = _mm256_hadd_ps(half[4], half[5]);
  const __m256 s67 = _mm256_hadd_ps(half[6], half[7]);
  const __m256 low = _mm256_hadd_ps(s01, s23);
  const __m256 high = _mm256_hadd_ps(s45, s67);
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                     _mm256_permute2f128_ps(low, high, 0x31)));
}

#include "simd/als_rows.h"

}  // namespace

extern const AlsKernels kAlsAvx512 = {"avx512vnni", solve_rows, rotate_rows, gram_rows,
                                      observed_loss};

}  // namespace recengine
