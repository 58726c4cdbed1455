// AVX-512 (F, BW, VL, DQ, VNNI). Everything here is internal to this file: see kernels_avx2.cpp.
#include <immintrin.h>

#include <limits>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

constexpr int64_t kLanes = 16;

// Transposes 16 rows x 16 dims into panel columns [column, column + 16).
void transpose_16x16(const float* const* rows, int64_t j, float* panel) {
  __m512 r[16];
  __m512 t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(rows[i] + j);
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  // r[4i + c] holds, in 128-bit lane l, dim 4l + c of rows 4i..4i+3.
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], _MM_SHUFFLE(1, 0, 1, 0));
    r[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], _MM_SHUFFLE(3, 2, 3, 2));
    r[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], _MM_SHUFFLE(1, 0, 1, 0));
    r[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
  for (int c = 0; c < 4; ++c) {
    const __m512 even_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);  // lanes 0, 2
    const __m512 odd_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);   // lanes 1, 3
    const __m512 even_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    float* column = panel + (j + c) * kPanelRows;
    _mm512_storeu_ps(column, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    _mm512_storeu_ps(column + 4 * kPanelRows, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    _mm512_storeu_ps(column + 8 * kPanelRows, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    _mm512_storeu_ps(column + 12 * kPanelRows, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}

void pack_panel(const float* const* rows, int64_t dim, float* panel) {
  int64_t j = 0;
  for (; j + 16 <= dim; j += 16) {
    transpose_16x16(rows, j, panel);
    transpose_16x16(rows + 16, j, panel + 16);
  }
  for (; j < dim; ++j) {
    for (int64_t r = 0; r < kPanelRows; ++r) panel[j * kPanelRows + r] = rows[r][j];
  }
}

struct Dot {
  static __m512 step(__m512 sum, __m512 item, __m512 query) {
    return _mm512_fmadd_ps(item, query, sum);
  }
};

struct NegativeSquares {
  static __m512 step(__m512 sum, __m512 item, __m512 query) {
    const __m512 gap = _mm512_sub_ps(query, item);
    return _mm512_fnmadd_ps(gap, gap, sum);
  }
};

// Q queries against the 32 items of a panel: 2 Q accumulators, which must stay in registers.
template <class Op, int Q>
__attribute__((noinline)) void tile(const float* panel, const float* queries, int64_t dim,
                                    float* out) {
  __m512 sum[Q][2];
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) sum[q][0] = sum[q][1] = _mm512_setzero_ps();
  for (int64_t j = 0; j < dim; ++j) {
    const __m512 low = _mm512_load_ps(panel + j * kPanelRows);
    const __m512 high = _mm512_load_ps(panel + j * kPanelRows + kLanes);
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const __m512 query = _mm512_set1_ps(queries[j * Q + q]);
      sum[q][0] = Op::step(sum[q][0], low, query);
      sum[q][1] = Op::step(sum[q][1], high, query);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) {
    _mm512_storeu_ps(out + q * kPanelRows, sum[q][0]);
    _mm512_storeu_ps(out + q * kPanelRows + kLanes, sum[q][1]);
  }
}

using Tile = void (*)(const float*, const float*, int64_t, float*);

template <class Op>
void panel_scores(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
                  float* out) {
  static constexpr Tile kTiles[kTileQueries] = {
      tile<Op, 1>, tile<Op, 2>, tile<Op, 3>, tile<Op, 4>,  tile<Op, 5>,  tile<Op, 6>,
      tile<Op, 7>, tile<Op, 8>, tile<Op, 9>, tile<Op, 10>, tile<Op, 11>, tile<Op, 12>};
  kTiles[n_queries - 1](panel, queries, dim, out);
}

// The four sums of 16 lanes each.
__m128 add_lanes(const __m512* sum) {
  const __m512 low =
      _mm512_add_ps(_mm512_unpacklo_ps(sum[0], sum[1]), _mm512_unpackhi_ps(sum[0], sum[1]));
  const __m512 high =
      _mm512_add_ps(_mm512_unpacklo_ps(sum[2], sum[3]), _mm512_unpackhi_ps(sum[2], sum[3]));
  const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(low, high, _MM_SHUFFLE(1, 0, 1, 0)),
                                   _mm512_shuffle_ps(low, high, _MM_SHUFFLE(3, 2, 3, 2)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

template <class Op>
void row_scores(const float* query, const float* const* rows, int64_t dim, float* out) {
  const __mmask16 tail = static_cast<__mmask16>((1u << (dim % kLanes)) - 1u);
  for (int64_t r = 0; r < kPanelRows; r += 4) {
    __m512 sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = _mm512_setzero_ps();
    int64_t j = 0;
    for (; j + kLanes <= dim; j += kLanes) {
      const __m512 q = _mm512_loadu_ps(query + j);
      for (int i = 0; i < 4; ++i) sum[i] = Op::step(sum[i], _mm512_loadu_ps(rows[r + i] + j), q);
    }
    if (tail != 0) {
      const __m512 q = _mm512_maskz_loadu_ps(tail, query + j);
      for (int i = 0; i < 4; ++i) {
        sum[i] = Op::step(sum[i], _mm512_maskz_loadu_ps(tail, rows[r + i] + j), q);
      }
    }
    _mm_storeu_ps(out + r, add_lanes(sum));
  }
}

uint32_t hits(const HitTest& test) {
  uint32_t mask = 0;
  const __m512 threshold = _mm512_set1_ps(test.threshold);
  const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    __m512 bound = _mm512_loadu_ps(test.scores + r);
    const __mmask16 overflowed = _mm512_cmp_ps_mask(bound, lowest, _CMP_EQ_OQ);
    if (test.scale != nullptr) bound = _mm512_mul_ps(bound, _mm512_loadu_ps(test.scale + r));
    __m512 slack = _mm512_set1_ps(test.margin);
    if (test.norm != nullptr) {
      slack = _mm512_add_ps(
          slack, _mm512_mul_ps(_mm512_set1_ps(test.slope), _mm512_loadu_ps(test.norm + r)));
    }
    if (test.bias != nullptr) slack = _mm512_add_ps(slack, _mm512_loadu_ps(test.bias + r));
    const __mmask16 hit = _mm512_cmp_ps_mask(_mm512_add_ps(bound, slack), threshold, _CMP_NLE_UQ);
    mask |= static_cast<uint32_t>(hit | overflowed) << r;
  }
  return mask;
}

// A few queries wait for memory: their tiles ask for what lies so many bytes ahead. Asking beyond
// the end is harmless.
constexpr int kStreamed = 6;
constexpr int64_t kAhead = 8192;

// Q queries against the 32 items of a panel of codes: 2 Q accumulators, all in registers.
template <int Q>
__attribute__((noinline)) void code_tile(const uint8_t* panel, const int32_t* queries,
                                         int64_t groups, int32_t* out) {
  __m512i sum[Q][2];
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) sum[q][0] = sum[q][1] = _mm512_setzero_si512();
  for (int64_t g = 0; g < groups; ++g) {
    const __m512i low = _mm512_load_si512(panel + g * 128);
    const __m512i high = _mm512_load_si512(panel + g * 128 + 64);
    if constexpr (Q <= kStreamed) {
      _mm_prefetch(reinterpret_cast<const char*>(panel + g * 128 + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(panel + g * 128 + kAhead + 64), _MM_HINT_T0);
    }
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const __m512i query = _mm512_set1_epi32(queries[g * Q + q]);
      sum[q][0] = _mm512_dpbusd_epi32(sum[q][0], low, query);
      sum[q][1] = _mm512_dpbusd_epi32(sum[q][1], high, query);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) {
    _mm512_store_si512(out + q * kPanelRows, sum[q][0]);
    _mm512_store_si512(out + q * kPanelRows + kLanes, sum[q][1]);
  }
}

using CodeTile = void (*)(const uint8_t*, const int32_t*, int64_t, int32_t*);

void dot_codes(const uint8_t* panel, const int32_t* queries, int64_t groups, int64_t n_queries,
               int32_t* out) {
  static constexpr CodeTile kTiles[kTileQueries] = {
      code_tile<1>, code_tile<2>, code_tile<3>, code_tile<4>,  code_tile<5>,  code_tile<6>,
      code_tile<7>, code_tile<8>, code_tile<9>, code_tile<10>, code_tile<11>, code_tile<12>};
  kTiles[n_queries - 1](panel, queries, groups, out);
}

// The panel's slack for all queries at once, less what the unsigned bytes added.
void panel_slack(const CodePanel& panel, const CodeQueries& queries, float* slack) {
  const __m512 residual =
      _mm512_mul_ps(_mm512_load_ps(queries.delta), _mm512_set1_ps(panel.bounds[0]));
  const __m512 with_length =
      _mm512_fmadd_ps(_mm512_load_ps(queries.epsilon), _mm512_set1_ps(panel.bounds[1]), residual);
  const __m512 with_step =
      _mm512_fmadd_ps(_mm512_load_ps(queries.zeta), _mm512_set1_ps(panel.bounds[2]), with_length);
  const __m512 with_bias =
      _mm512_fmadd_ps(_mm512_load_ps(queries.eta), _mm512_set1_ps(panel.bounds[3]), with_step);
  _mm512_store_ps(slack, _mm512_sub_ps(with_bias, _mm512_load_ps(queries.offset)));
}

// Sixteen items: which of them exceed the limit of query q.
template <bool kDigits, bool kBoost>
__mmask16 half_hits(const int32_t* raw, const int32_t* low, const float* boost, __m512 step,
                    __m512 bias, const CodeQueries& queries, __m512 shift, int64_t q) {
  __m512 alpha = _mm512_set1_ps(queries.alpha[q]);
  if constexpr (kBoost) {
    alpha = _mm512_fnmadd_ps(_mm512_set1_ps(queries.gamma[q]), _mm512_loadu_ps(boost), alpha);
  }
  const __m512 limit =
      _mm512_fnmadd_ps(bias, _mm512_set1_ps(queries.beta[q]), _mm512_fmsub_ps(step, alpha, shift));
  __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(raw));
  if constexpr (kDigits) {
    sum = _mm512_fmadd_ps(sum, _mm512_set1_ps(queries.base),
                          _mm512_cvtepi32_ps(_mm512_load_si512(low)));
  }
  return _mm512_cmp_ps_mask(sum, limit, _CMP_NLE_UQ);
}

template <bool kDigits, bool kBoost>
bool panel_hits(const int32_t* raw, const int32_t* low, const CodePanel& panel,
                const CodeQueries& queries, int64_t n_queries, uint32_t* masks) {
  alignas(64) float slack[16];
  panel_slack(panel, queries, slack);
  const __m512 step_low = _mm512_loadu_ps(panel.inverse_step);
  const __m512 step_high = _mm512_loadu_ps(panel.inverse_step + kLanes);
  const __m512 bias_low = _mm512_loadu_ps(panel.bias);
  const __m512 bias_high = _mm512_loadu_ps(panel.bias + kLanes);
  uint32_t any = 0;
#pragma GCC unroll 4
  for (int64_t q = 0; q < n_queries; ++q) {
    const __m512 shift = _mm512_set1_ps(slack[q]);
    const int64_t at = q * kPanelRows;
    const __mmask16 first = half_hits<kDigits, kBoost>(raw + at, low + at, panel.boost, step_low,
                                                       bias_low, queries, shift, q);
    const __mmask16 second =
        half_hits<kDigits, kBoost>(raw + at + kLanes, low + at + kLanes, panel.boost + kLanes,
                                   step_high, bias_high, queries, shift, q);
    masks[q] = _mm512_kunpackw(second, first);
    any |= masks[q];
  }
  return any != 0;
}

bool code_hits(const int32_t* raw, const int32_t* low, const CodePanel& panel,
               const CodeQueries& queries, int64_t n_queries, uint32_t* masks) {
  if (low == nullptr && panel.boost == nullptr) {
    return panel_hits<false, false>(raw, raw, panel, queries, n_queries, masks);
  }
  if (low == nullptr) {
    return panel_hits<false, true>(raw, raw, panel, queries, n_queries, masks);
  }
  if (panel.boost == nullptr) {
    return panel_hits<true, false>(raw, low, panel, queries, n_queries, masks);
  }
  return panel_hits<true, true>(raw, low, panel, queries, n_queries, masks);
}

struct CanonicalDot {
  static __m512d step(__m512d sum, __m512d a, __m512d b) { return _mm512_fmadd_pd(a, b, sum); }
};

struct CanonicalSquares {
  static __m512d step(__m512d sum, __m512d a, __m512d b) {
    const __m512d gap = _mm512_sub_pd(a, b);
    return _mm512_add_pd(sum, _mm512_mul_pd(gap, gap));
  }
};

template <class Op>
double canonical(const float* a, const float* b, int64_t dim) {
  __m512d sum = _mm512_setzero_pd();
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    sum = Op::step(sum, _mm512_cvtps_pd(_mm256_loadu_ps(a + j)),
                   _mm512_cvtps_pd(_mm256_loadu_ps(b + j)));
  }
  if (j < dim) {
    // Zeros in the idle lanes add +0, which no rounding sees.
    const __mmask8 mask = static_cast<__mmask8>((1u << (dim - j)) - 1u);
    sum = Op::step(sum, _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, a + j)),
                   _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, b + j)));
  }
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd(sum, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

}  // namespace

const Kernels kKernelsAvx512Vnni = {"avx512vnni",
                                    127,
                                    dot_codes,
                                    code_hits,
                                    pack_panel,
                                    panel_scores<Dot>,
                                    panel_scores<NegativeSquares>,
                                    row_scores<Dot>,
                                    row_scores<NegativeSquares>,
                                    hits,
                                    canonical<CanonicalDot>,
                                    canonical<CanonicalSquares>};

}  // namespace recengine
