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

#include "simd/als_rows.h"

}  // namespace

extern const AlsKernels kAlsAvx512 = {"avx512vnni", solve_rows, rotate_rows, gram_rows,
                                      observed_loss};

}  // namespace recengine
