// AVX2 + FMA. Everything here is internal to this file, so that no inline function compiled with
// these flags can be picked by the linker for a machine that lacks them.
#include <immintrin.h>

#include <limits>

#include "core/types.h"
#include "simd/canonical_avx2.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

constexpr int64_t kLanes = 8;
constexpr int kGroup = 6;  // 6 queries x 2 vectors of items: 12 of the 16 registers accumulate

// Transposes 8 rows x 8 dims into panel columns [column, column + 8).
void transpose_8x8(const float* const* rows, int64_t j, float* panel) {
  __m256 r[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(rows[i] + j);
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 s[8];
  for (int half = 0; half < 2; ++half) {
    const __m256* u = t + 4 * half;
    s[4 * half] = _mm256_shuffle_ps(u[0], u[2], _MM_SHUFFLE(1, 0, 1, 0));
    s[4 * half + 1] = _mm256_shuffle_ps(u[0], u[2], _MM_SHUFFLE(3, 2, 3, 2));
    s[4 * half + 2] = _mm256_shuffle_ps(u[1], u[3], _MM_SHUFFLE(1, 0, 1, 0));
    s[4 * half + 3] = _mm256_shuffle_ps(u[1], u[3], _MM_SHUFFLE(3, 2, 3, 2));
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(panel + (j + i) * kPanelRows, _mm256_permute2f128_ps(s[i], s[i + 4], 0x20));
    _mm256_storeu_ps(panel + (j + i + 4) * kPanelRows,
                     _mm256_permute2f128_ps(s[i], s[i + 4], 0x31));
  }
}

void pack_panel(const float* const* rows, int64_t dim, float* panel) {
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    for (int64_t r = 0; r < kPanelRows; r += 8) transpose_8x8(rows + r, j, panel + r);
  }
  for (; j < dim; ++j) {
    for (int64_t r = 0; r < kPanelRows; ++r) panel[j * kPanelRows + r] = rows[r][j];
  }
}

struct Dot {
  static __m256 step(__m256 sum, __m256 item, __m256 query) {
    return _mm256_fmadd_ps(item, query, sum);
  }
};

struct NegativeSquares {
  static __m256 step(__m256 sum, __m256 item, __m256 query) {
    const __m256 gap = _mm256_sub_ps(query, item);
    return _mm256_fnmadd_ps(gap, gap, sum);
  }
};

// Q queries against 16 items (two vectors of one panel half).
template <class Op, int Q>
__attribute__((noinline)) void tile(const float* panel, const float* queries, int64_t dim,
                                    int64_t stride, float* out) {
  __m256 sum[Q][2];
#pragma GCC unroll 8
  for (int q = 0; q < Q; ++q) sum[q][0] = sum[q][1] = _mm256_setzero_ps();
  for (int64_t j = 0; j < dim; ++j) {
    const __m256 low = _mm256_load_ps(panel + j * kPanelRows);
    const __m256 high = _mm256_load_ps(panel + j * kPanelRows + kLanes);
#pragma GCC unroll 8
    for (int q = 0; q < Q; ++q) {
      const __m256 query = _mm256_broadcast_ss(queries + j * stride + q);
      sum[q][0] = Op::step(sum[q][0], low, query);
      sum[q][1] = Op::step(sum[q][1], high, query);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < Q; ++q) {
    _mm256_storeu_ps(out + q * kPanelRows, sum[q][0]);
    _mm256_storeu_ps(out + q * kPanelRows + kLanes, sum[q][1]);
  }
}

template <class Op>
void panel_scores(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
                  float* out) {
  for (int64_t half = 0; half < kPanelRows; half += 2 * kLanes) {
    for (int64_t q = 0; q < n_queries; q += kGroup) {
      const float* items = panel + half;
      float* sums = out + q * kPanelRows + half;
      switch (n_queries - q) {
        case 1:
          tile<Op, 1>(items, queries + q, dim, n_queries, sums);
          break;
        case 2:
          tile<Op, 2>(items, queries + q, dim, n_queries, sums);
          break;
        case 3:
          tile<Op, 3>(items, queries + q, dim, n_queries, sums);
          break;
        case 4:
          tile<Op, 4>(items, queries + q, dim, n_queries, sums);
          break;
        case 5:
          tile<Op, 5>(items, queries + q, dim, n_queries, sums);
          break;
        default:
          tile<Op, kGroup>(items, queries + q, dim, n_queries, sums);
      }
    }
  }
}

float add_lanes(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

template <class Op>
void row_scores(const float* query, const float* const* rows, int64_t dim, float* out) {
  const int64_t tail = dim % kLanes;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(tail)), lane);
  for (int64_t r = 0; r < kPanelRows; r += 4) {
    __m256 sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = _mm256_setzero_ps();
    int64_t j = 0;
    for (; j + kLanes <= dim; j += kLanes) {
      const __m256 q = _mm256_loadu_ps(query + j);
      for (int i = 0; i < 4; ++i) sum[i] = Op::step(sum[i], _mm256_loadu_ps(rows[r + i] + j), q);
    }
    if (tail != 0) {
      const __m256 q = _mm256_maskload_ps(query + j, mask);
      for (int i = 0; i < 4; ++i) {
        sum[i] = Op::step(sum[i], _mm256_maskload_ps(rows[r + i] + j, mask), q);
      }
    }
    for (int i = 0; i < 4; ++i) out[r + i] = add_lanes(sum[i]);
  }
}

uint32_t hits(const HitTest& test) {
  uint32_t mask = 0;
  const __m256 threshold = _mm256_set1_ps(test.threshold);
  const __m256 lowest = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    __m256 bound = _mm256_loadu_ps(test.scores + r);
    const __m256 overflowed = _mm256_cmp_ps(bound, lowest, _CMP_EQ_OQ);
    if (test.scale != nullptr) bound = _mm256_mul_ps(bound, _mm256_loadu_ps(test.scale + r));
    __m256 slack = _mm256_set1_ps(test.margin);
    if (test.norm != nullptr) {
      slack = _mm256_add_ps(
          slack, _mm256_mul_ps(_mm256_set1_ps(test.slope), _mm256_loadu_ps(test.norm + r)));
    }
    if (test.bias != nullptr) slack = _mm256_add_ps(slack, _mm256_loadu_ps(test.bias + r));
    const __m256 hit = _mm256_cmp_ps(_mm256_add_ps(bound, slack), threshold, _CMP_NLE_UQ);
    mask |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_or_ps(hit, overflowed))) << r;
  }
  return mask;
}

// Sums of 4 products of unsigned and signed bytes. Pairs are added in 16 bits first: with query
// codes in [-63, 63] a pair is at most 2 * 255 * 63 = 32,130, which does not saturate.
constexpr int32_t kQueryCodeMax = 63;
constexpr int kCodeGroup = 3;         // 3 queries x 4 vectors of 8 items: 12 of the 16 registers
constexpr int64_t kJoinedPairs = 32;  // 8 KB of codes

// Codes of `pairs` pairs of groups out of the planes; without the low plane 16 h stands for them.
template <bool kFine>
void unpack_codes(const uint8_t* high, const uint8_t* low, int64_t pairs, uint8_t* codes) {
  const __m256i upper = _mm256_set1_epi8(static_cast<char>(0xf0));
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t v = 0; v < kPanelBytes; v += 32) {
      const int64_t at = p * kPanelBytes + v;
      const __m256i top = _mm256_load_si256(reinterpret_cast<const __m256i*>(high + at));
      __m256i first = _mm256_and_si256(_mm256_slli_epi32(top, 4), upper);
      __m256i second = _mm256_and_si256(top, upper);
      if constexpr (kFine) {
        const __m256i rest = _mm256_load_si256(reinterpret_cast<const __m256i*>(low + at));
        first = _mm256_or_si256(first, _mm256_andnot_si256(upper, rest));
        second = _mm256_or_si256(second, _mm256_andnot_si256(upper, _mm256_srli_epi32(rest, 4)));
      }
      uint8_t* out = codes + 2 * p * kPanelBytes + v;
      _mm256_store_si256(reinterpret_cast<__m256i*>(out), first);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + kPanelBytes), second);
    }
  }
}

template <int Q>
__attribute__((noinline)) void code_tile(const uint8_t* codes, const int32_t* queries,
                                         int64_t groups, int64_t stride, int32_t* out) {
  __m256i sum[Q][4];
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[q][v] = _mm256_setzero_si256();
  }
  for (int64_t g = 0; g < groups; ++g) {
    const auto* items = reinterpret_cast<const __m256i*>(codes + g * kPanelBytes);
#pragma GCC unroll 3
    for (int q = 0; q < Q; ++q) {
      const __m256i query = _mm256_set1_epi32(queries[g * stride + q]);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_load_si256(items + v), query);
        sum[q][v] = _mm256_add_epi32(sum[q][v], _mm256_madd_epi16(pairs, ones));
      }
    }
  }
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + q * kPanelRows) + v, sum[q][v]);
    }
  }
}

void run_tiles(const uint8_t* codes, const int32_t* queries, int64_t groups, int64_t n_queries,
               int32_t* out) {
  for (int64_t q = 0; q < n_queries; q += kCodeGroup) {
    int32_t* sums = out + q * kPanelRows;
    switch (n_queries - q) {
      case 1:
        code_tile<1>(codes, queries + q, groups, n_queries, sums);
        break;
      case 2:
        code_tile<2>(codes, queries + q, groups, n_queries, sums);
        break;
      default:
        code_tile<kCodeGroup>(codes, queries + q, groups, n_queries, sums);
    }
  }
}

// The planes are joined a few pairs at a time, in the first-level cache, for all queries.
void dot_codes(const uint8_t* high, const uint8_t* low, const int32_t* queries, int64_t pairs,
               int64_t n_queries, int32_t* out) {
  alignas(64) uint8_t codes[kJoinedPairs * 2 * kPanelBytes];
  alignas(64) int32_t part[kTileQueries * kPanelRows];
  for (int64_t first = 0; first == 0 || first < pairs; first += kJoinedPairs) {
    const int64_t count = pairs - first < kJoinedPairs ? pairs - first : kJoinedPairs;
    const int64_t at = first * kPanelBytes;
    if (low == nullptr) {
      unpack_codes<false>(high + at, nullptr, count, codes);
    } else {
      unpack_codes<true>(high + at, low + at, count, codes);
    }
    const int32_t* words = queries + 2 * first * n_queries;
    if (first == 0) {
      run_tiles(codes, words, 2 * count, n_queries, out);
      continue;
    }
    run_tiles(codes, words, 2 * count, n_queries, part);
    for (int64_t i = 0; i < n_queries * kPanelRows; ++i) out[i] += part[i];
  }
}

__m256 as_floats(const int32_t* sums) {
  return _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums)));
}

// The panel's slack for all queries at once, less what the unsigned bytes added.
void panel_slack(const CodePanel& panel, const CodeQueries& queries, float* slack) {
  for (int64_t q = 0; q < 16; q += kLanes) {
    const __m256 residual =
        _mm256_mul_ps(_mm256_load_ps(queries.delta + q), _mm256_set1_ps(panel.bounds[0]));
    const __m256 with_length = _mm256_fmadd_ps(_mm256_load_ps(queries.epsilon + q),
                                               _mm256_set1_ps(panel.bounds[1]), residual);
    const __m256 with_step = _mm256_fmadd_ps(_mm256_load_ps(queries.zeta + q),
                                             _mm256_set1_ps(panel.bounds[2]), with_length);
    const __m256 with_bias = _mm256_fmadd_ps(_mm256_load_ps(queries.eta + q),
                                             _mm256_set1_ps(panel.bounds[3]), with_step);
    _mm256_store_ps(slack + q, _mm256_sub_ps(with_bias, _mm256_load_ps(queries.offset + q)));
  }
}

// What no item of the panel may exceed if all are dropped, rounded down: one integer a query
// stands for the limits of 32 items. Beyond int32 it is the smallest, which drops nothing.
void lowest_limits(const CodePanel& panel, const CodeQueries& queries, const float* slack,
                   int32_t* limits) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  for (int64_t q = 0; q < 16; q += kLanes) {
    const __m256 alpha = _mm256_load_ps(queries.alpha + q);
    const __m256 beta = _mm256_andnot_ps(sign, _mm256_load_ps(queries.beta + q));
    const __m256 limit = _mm256_min_ps(_mm256_mul_ps(alpha, _mm256_set1_ps(panel.bounds[2])),
                                       _mm256_mul_ps(alpha, _mm256_set1_ps(panel.bounds[4])));
    const __m256 with_bias = _mm256_fnmadd_ps(beta, _mm256_set1_ps(panel.bounds[3]), limit);
    const __m256 whole = _mm256_floor_ps(_mm256_sub_ps(with_bias, _mm256_load_ps(slack + q)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(limits + q), _mm256_cvtps_epi32(whole));
  }
}

// Whether any of 32 sums exceeds the limit.
bool exceeds(const int32_t* raw, int32_t limit) {
  const auto* sums = reinterpret_cast<const __m256i*>(raw);
  const __m256i low = _mm256_max_epi32(_mm256_load_si256(sums), _mm256_load_si256(sums + 1));
  const __m256i high = _mm256_max_epi32(_mm256_load_si256(sums + 2), _mm256_load_si256(sums + 3));
  const __m256i beyond = _mm256_cmpgt_epi32(_mm256_max_epi32(low, high), _mm256_set1_epi32(limit));
  return _mm256_testz_si256(beyond, beyond) == 0;
}

bool code_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
               int64_t n_queries, uint32_t* masks) {
  alignas(32) float slacks[16];
  alignas(32) int32_t limits[16];
  panel_slack(panel, queries, slacks);
  lowest_limits(panel, queries, slacks, limits);
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    masks[q] = 0;
    if (panel.boost == nullptr && !exceeds(raw + q * kPanelRows, limits[q])) continue;
    const __m256 alpha = _mm256_set1_ps(queries.alpha[q]);
    const __m256 beta = _mm256_set1_ps(queries.beta[q]);
    const __m256 shift = _mm256_set1_ps(slacks[q]);
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      __m256 own = alpha;
      if (panel.boost != nullptr) {
        own = _mm256_fnmadd_ps(_mm256_set1_ps(queries.gamma[q]), _mm256_loadu_ps(panel.boost + r),
                               own);
      }
      const __m256 limit =
          _mm256_fnmadd_ps(_mm256_loadu_ps(panel.bias + r), beta,
                           _mm256_fmsub_ps(_mm256_loadu_ps(panel.inverse_step + r), own, shift));
      const __m256 sum = as_floats(raw + q * kPanelRows + r);
      const int hit = _mm256_movemask_ps(_mm256_cmp_ps(sum, limit, _CMP_NLE_UQ));
      masks[q] |= static_cast<uint32_t>(hit) << r;
    }
    any |= masks[q];
  }
  return any != 0;
}

// Limits are cut off where no sum reaches; one that is not a number becomes the lowest.
void code_limits(const CodePanel& panel, const CodeQueries& queries, int32_t* limits) {
  alignas(32) float slacks[16];
  panel_slack(panel, queries, slacks);
  for (int64_t q = 0; q < 16; q += kLanes) {
    const __m256 limit =
        _mm256_fmsub_ps(_mm256_set1_ps(panel.bounds[2]), _mm256_load_ps(queries.alpha + q),
                        _mm256_load_ps(slacks + q));
    const __m256 above = _mm256_max_ps(limit, _mm256_set1_ps(-kLargestSum));
    const __m256 cut = _mm256_floor_ps(_mm256_min_ps(above, _mm256_set1_ps(kLargestSum)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(limits + q),
                       _mm256_add_epi32(_mm256_cvttps_epi32(cut), _mm256_set1_epi32(1)));
  }
}

bool raw_hits(const int32_t* raw, const int32_t* limits, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const int32_t below = limits[q] - 1;
    masks[q] = 0;
    if (!exceeds(raw + q * kPanelRows, below)) continue;
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      const auto* sums = reinterpret_cast<const __m256i*>(raw + q * kPanelRows + r);
      const __m256i hit = _mm256_cmpgt_epi32(_mm256_load_si256(sums), _mm256_set1_epi32(below));
      masks[q] |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(hit))) << r;
    }
    any |= masks[q];
  }
  return any != 0;
}

float panel_best(const int32_t* raw, const float* step, const float* bias, float offset, float beta,
                 float* scores) {
  __m256 best = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    const __m256i sums = _mm256_load_si256(reinterpret_cast<const __m256i*>(raw + r));
    const __m256 centred = _mm256_sub_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(offset));
    const __m256 whole = _mm256_fmadd_ps(_mm256_set1_ps(beta), _mm256_load_ps(bias + r), centred);
    const __m256 score = _mm256_mul_ps(whole, _mm256_load_ps(step + r));
    _mm256_store_ps(scores + r, score);
    best = _mm256_max_ps(best, score);
  }
  __m128 rest = _mm_max_ps(_mm256_castps256_ps128(best), _mm256_extractf128_ps(best, 1));
  rest = _mm_max_ps(rest, _mm_movehl_ps(rest, rest));
  return _mm_cvtss_f32(_mm_max_ss(rest, _mm_movehdup_ps(rest)));
}

}  // namespace

const Kernels kKernelsAvx2 = {"avx2",
                              kQueryCodeMax,
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
