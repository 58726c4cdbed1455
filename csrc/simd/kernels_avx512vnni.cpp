// AVX-512 (F, BW, VL, DQ, VNNI). Everything here is internal to this file: see kernels_avx2.cpp.
#include <immintrin.h>

#include <limits>

#include "core/types.h"
#include "simd/canonical_avx512vnni.h"
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

// Tiles ask for what lies so many bytes ahead: few queries wait for memory, and so does the first
// tile of a block. Asking beyond the end is harmless.
constexpr int64_t kAhead = 8192;

// The codes of a panel come from its planes as they are needed, 32 items x 4 dims at a time.
struct CodePair {
  __m512i low;   // items 0..15
  __m512i high;  // items 16..31
};

// Group 2 p of pair p: the lower half of each byte. Without the low plane codes are 16 h.
template <bool kFine>
CodePair first_group(CodePair top, CodePair rest, __m512i upper) {
  if constexpr (!kFine) {
    return {_mm512_and_si512(_mm512_slli_epi32(top.low, 4), upper),
            _mm512_and_si512(_mm512_slli_epi32(top.high, 4), upper)};
  }
  // 0xca: the bits of the second where the first has ones, elsewhere those of the third.
  return {_mm512_ternarylogic_epi32(upper, _mm512_slli_epi32(top.low, 4), rest.low, 0xca),
          _mm512_ternarylogic_epi32(upper, _mm512_slli_epi32(top.high, 4), rest.high, 0xca)};
}

// Group 2 p + 1: the upper half of each byte.
template <bool kFine>
CodePair second_group(CodePair top, CodePair rest, __m512i upper) {
  if constexpr (!kFine) {
    return {_mm512_and_si512(top.low, upper), _mm512_and_si512(top.high, upper)};
  }
  return {_mm512_ternarylogic_epi32(upper, top.low, _mm512_srli_epi32(rest.low, 4), 0xca),
          _mm512_ternarylogic_epi32(upper, top.high, _mm512_srli_epi32(rest.high, 4), 0xca)};
}

template <bool kFine>
CodePair load_plane(const uint8_t* plane) {
  constexpr auto kHint = kFine ? _MM_HINT_T0 : _MM_HINT_NTA;
  _mm_prefetch(reinterpret_cast<const char*>(plane + kAhead), kHint);
  _mm_prefetch(reinterpret_cast<const char*>(plane + kAhead + 64), kHint);
  return {_mm512_load_si512(plane), _mm512_load_si512(plane + 64)};
}

// Q queries against the 32 items of a panel of codes: 2 Q accumulators, all in registers.
template <int Q, bool kFine>
__attribute__((noinline)) void code_tile(const uint8_t* high, const uint8_t* low,
                                         const int32_t* queries, int64_t pairs, int32_t* out) {
  __m512i sum[Q][2];
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) sum[q][0] = sum[q][1] = _mm512_setzero_si512();
  const __m512i upper = _mm512_set1_epi8(static_cast<char>(0xf0));
  for (int64_t p = 0; p < pairs; ++p) {
    const CodePair top = load_plane<kFine>(high + p * kPanelBytes);
    const CodePair rest = kFine ? load_plane<kFine>(low + p * kPanelBytes) : top;
    const CodePair first = first_group<kFine>(top, rest, upper);
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const __m512i query = _mm512_set1_epi32(queries[2 * p * Q + q]);
      sum[q][0] = _mm512_dpbusd_epi32(sum[q][0], first.low, query);
      sum[q][1] = _mm512_dpbusd_epi32(sum[q][1], first.high, query);
    }
    const CodePair second = second_group<kFine>(top, rest, upper);
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const __m512i query = _mm512_set1_epi32(queries[(2 * p + 1) * Q + q]);
      sum[q][0] = _mm512_dpbusd_epi32(sum[q][0], second.low, query);
      sum[q][1] = _mm512_dpbusd_epi32(sum[q][1], second.high, query);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) {
    _mm512_store_si512(out + q * kPanelRows, sum[q][0]);
    _mm512_store_si512(out + q * kPanelRows + kLanes, sum[q][1]);
  }
}

using CodeTile = void (*)(const uint8_t*, const uint8_t*, const int32_t*, int64_t, int32_t*);

template <bool kFine>
void run_tile(const uint8_t* high, const uint8_t* low, const int32_t* queries, int64_t pairs,
              int64_t n_queries, int32_t* out) {
  static constexpr CodeTile kTiles[kTileQueries] = {
      code_tile<1, kFine>, code_tile<2, kFine>,  code_tile<3, kFine>,  code_tile<4, kFine>,
      code_tile<5, kFine>, code_tile<6, kFine>,  code_tile<7, kFine>,  code_tile<8, kFine>,
      code_tile<9, kFine>, code_tile<10, kFine>, code_tile<11, kFine>, code_tile<12, kFine>};
  kTiles[n_queries - 1](high, low, queries, pairs, out);
}

void dot_codes(const uint8_t* high, const uint8_t* low, const int32_t* queries, int64_t pairs,
               int64_t n_queries, int32_t* out) {
  if (low == nullptr) {
    run_tile<false>(high, low, queries, pairs, n_queries, out);
  } else {
    run_tile<true>(high, low, queries, pairs, n_queries, out);
  }
}

// The panel's slack for all queries at once, less what the unsigned bytes added.
__m512 panel_slack(const CodePanel& panel, const CodeQueries& queries) {
  const __m512 residual =
      _mm512_mul_ps(_mm512_load_ps(queries.delta), _mm512_set1_ps(panel.bounds[0]));
  const __m512 with_length =
      _mm512_fmadd_ps(_mm512_load_ps(queries.epsilon), _mm512_set1_ps(panel.bounds[1]), residual);
  const __m512 with_step =
      _mm512_fmadd_ps(_mm512_load_ps(queries.zeta), _mm512_set1_ps(panel.bounds[2]), with_length);
  const __m512 with_bias =
      _mm512_fmadd_ps(_mm512_load_ps(queries.eta), _mm512_set1_ps(panel.bounds[3]), with_step);
  return _mm512_sub_ps(with_bias, _mm512_load_ps(queries.offset));
}

// What the limits of a panel are made of, in registers.
struct PanelLimits {
  __m512 step_low, step_high;
  __m512 bias_low, bias_high;
};

// Which of 32 items exceed the limit of query q.
template <bool kBoost>
__mmask32 hits_of(const int32_t* raw, const CodePanel& panel, const PanelLimits& limits,
                  const CodeQueries& queries, const float* slack, int64_t q) {
  __m512 alpha_low = _mm512_set1_ps(queries.alpha[q]);
  __m512 alpha_high = alpha_low;
  if constexpr (kBoost) {
    const __m512 gamma = _mm512_set1_ps(queries.gamma[q]);
    alpha_low = _mm512_fnmadd_ps(gamma, _mm512_loadu_ps(panel.boost), alpha_low);
    alpha_high = _mm512_fnmadd_ps(gamma, _mm512_loadu_ps(panel.boost + kLanes), alpha_high);
  }
  const __m512 shift = _mm512_set1_ps(slack[q]);
  const __m512 beta = _mm512_set1_ps(queries.beta[q]);
  const int32_t* sums = raw + q * kPanelRows;
  const __m512 low =
      _mm512_fnmadd_ps(limits.bias_low, beta, _mm512_fmsub_ps(limits.step_low, alpha_low, shift));
  const __m512 high = _mm512_fnmadd_ps(limits.bias_high, beta,
                                       _mm512_fmsub_ps(limits.step_high, alpha_high, shift));
  const __mmask16 first =
      _mm512_cmp_ps_mask(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), low, _CMP_NLE_UQ);
  const __mmask16 second =
      _mm512_cmp_ps_mask(_mm512_cvtepi32_ps(_mm512_load_si512(sums + kLanes)), high, _CMP_NLE_UQ);
  return _mm512_kunpackw(second, first);
}

// kCount queries, or `n_queries` where that is 0: full tiles are unrolled, which halves the cost.
template <bool kBoost, int kCount>
bool panel_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
                int64_t n_queries, uint32_t* masks) {
  alignas(64) float slack[16];
  _mm512_store_ps(slack, panel_slack(panel, queries));
  const PanelLimits limits = {_mm512_load_ps(panel.inverse_step),
                              _mm512_load_ps(panel.inverse_step + kLanes),
                              _mm512_load_ps(panel.bias), _mm512_load_ps(panel.bias + kLanes)};
  __mmask32 any = 0;
  const int64_t count = kCount == 0 ? n_queries : kCount;
#pragma GCC unroll 12
  for (int64_t q = 0; q < count; ++q) {
    const __mmask32 hits = hits_of<kBoost>(raw, panel, limits, queries, slack, q);
    _store_mask32(masks + q, hits);
    any = _kor_mask32(any, hits);
  }
  return any != 0;
}

template <bool kBoost>
bool any_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
              int64_t n_queries, uint32_t* masks) {
  return n_queries == kTileQueries
             ? panel_hits<kBoost, kTileQueries>(raw, panel, queries, n_queries, masks)
             : panel_hits<kBoost, 0>(raw, panel, queries, n_queries, masks);
}

bool code_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
               int64_t n_queries, uint32_t* masks) {
  return panel.boost == nullptr ? any_hits<false>(raw, panel, queries, n_queries, masks)
                                : any_hits<true>(raw, panel, queries, n_queries, masks);
}

// Limits are cut off where no sum reaches, so that differences of sums and limits fit in int32; a
// limit that is not a number becomes the lowest.
void code_limits(const CodePanel& panel, const CodeQueries& queries, int32_t* limits) {
  const __m512 limit = _mm512_fmsub_ps(_mm512_set1_ps(panel.bounds[2]),
                                       _mm512_load_ps(queries.alpha), panel_slack(panel, queries));
  const __m512 above = _mm512_max_ps(limit, _mm512_set1_ps(-kLargestSum));
  const __m512i whole = _mm512_cvt_roundps_epi32(_mm512_min_ps(above, _mm512_set1_ps(kLargestSum)),
                                                 _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  _mm512_store_si512(limits, _mm512_add_epi32(whole, _mm512_set1_epi32(1)));
}

// The larger of each two sums less the limit: negative if both items may be dropped.
__m512i beyond(const int32_t* raw, int32_t limit) {
  const __m512i larger = _mm512_max_epi32(_mm512_load_si512(raw), _mm512_load_si512(raw + kLanes));
  return _mm512_sub_epi32(larger, _mm512_set1_epi32(limit));
}

// kCount queries, or `n_queries` where that is 0.
template <int kCount>
bool any_beyond(const int32_t* raw, const int32_t* limits, int64_t n_queries) {
  const int64_t count = kCount == 0 ? n_queries : kCount;
  __m512i all = _mm512_set1_epi32(-1);
#pragma GCC unroll 12
  for (int64_t q = 0; q < count; ++q) {
    all = _mm512_and_si512(all, beyond(raw + q * kPanelRows, limits[q]));
  }
  return _mm512_movepi32_mask(all) != 0xffff;
}

bool raw_hits(const int32_t* raw, const int32_t* limits, int64_t n_queries, uint32_t* masks) {
  const bool any = n_queries == kTileQueries ? any_beyond<kTileQueries>(raw, limits, n_queries)
                                             : any_beyond<0>(raw, limits, n_queries);
  if (!any) return false;
  for (int64_t q = 0; q < n_queries; ++q) {
    const __m512i limit = _mm512_set1_epi32(limits[q]);
    const int32_t* sums = raw + q * kPanelRows;
    const __mmask16 low = _mm512_cmpge_epi32_mask(_mm512_load_si512(sums), limit);
    const __mmask16 high = _mm512_cmpge_epi32_mask(_mm512_load_si512(sums + kLanes), limit);
    _store_mask32(masks + q, _mm512_kunpackw(high, low));
  }
  return true;
}

float panel_best(const int32_t* raw, const float* step, const float* bias, float offset, float beta,
                 float* scores) {
  __m512 part[2];
  for (int64_t i = 0; i < 2; ++i) {
    const __m512 sums = _mm512_cvtepi32_ps(_mm512_load_si512(raw + i * kLanes));
    const __m512 centred = _mm512_sub_ps(sums, _mm512_set1_ps(offset));
    const __m512 boost = _mm512_load_ps(bias + i * kLanes);
    const __m512 whole = _mm512_fmadd_ps(_mm512_set1_ps(beta), boost, centred);
    part[i] = _mm512_mul_ps(whole, _mm512_load_ps(step + i * kLanes));
    _mm512_store_ps(scores + i * kLanes, part[i]);
  }
  return _mm512_reduce_max_ps(_mm512_max_ps(part[0], part[1]));
}

}  // namespace

const Kernels kKernelsAvx512Vnni = {"avx512vnni",
                                    127,
                                    dot_codes,
                                    code_hits,
                                    code_limits,
                                    raw_hits,
                                    panel_best,
                                    pack_panel,
                                    panel_scores<Dot>,
                                    panel_scores<NegativeSquares>,
                                    row_scores<Dot>,
                                    row_scores<NegativeSquares>,
                                    hits,
                                    canonical<CanonicalDot>,
                                    canonical<CanonicalSquares>,
                                    canonical_panel<CanonicalDot>,
                                    canonical_panel<CanonicalSquares>,
                                    canonical_rows<CanonicalDot>,
                                    canonical_rows<CanonicalSquares>,
                                    sum_hits};

}  // namespace recengine
