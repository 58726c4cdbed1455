// aarch64 with the dot product of signed bytes (armv8.2-a+dotprod). Everything here is internal to
// this file: see kernels_avx2.cpp.
#include <arm_neon.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

constexpr int64_t kLanes = 4;
constexpr int kVectors = 8;           // of 4 items: a panel
constexpr int kGroup = 3;             // 3 queries x 8 vectors of items: 24 of the 32 registers
constexpr int64_t kJoinedPairs = 32;  // 8 KB of codes

void pack_panel(const float* const* rows, int64_t dim, float* panel) {
  int64_t j = 0;
  for (; j + kLanes <= dim; j += kLanes) {
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      const float32x4_t a = vld1q_f32(rows[r] + j);
      const float32x4_t b = vld1q_f32(rows[r + 1] + j);
      const float32x4_t c = vld1q_f32(rows[r + 2] + j);
      const float32x4_t d = vld1q_f32(rows[r + 3] + j);
      const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
      const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
      const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
      const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
      float* column = panel + j * kPanelRows + r;
      vst1q_f32(column, vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even)));
      vst1q_f32(column + kPanelRows, vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd)));
      vst1q_f32(column + 2 * kPanelRows, vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even)));
      vst1q_f32(column + 3 * kPanelRows, vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd)));
    }
  }
  for (; j < dim; ++j) {
    for (int64_t r = 0; r < kPanelRows; ++r) panel[j * kPanelRows + r] = rows[r][j];
  }
}

struct Dot {
  static float32x4_t step(float32x4_t sum, float32x4_t item, float32x4_t query) {
    return vfmaq_f32(sum, item, query);
  }
};

struct NegativeSquares {
  static float32x4_t step(float32x4_t sum, float32x4_t item, float32x4_t query) {
    const float32x4_t gap = vsubq_f32(query, item);
    return vfmsq_f32(sum, gap, gap);
  }
};

// Q queries against the 32 items of a panel.
template <class Op, int Q>
__attribute__((noinline)) void tile(const float* panel, const float* queries, int64_t dim,
                                    int64_t stride, float* out) {
  float32x4_t sum[Q][kVectors];
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[q][v] = vdupq_n_f32(0);
  }
  for (int64_t j = 0; j < dim; ++j) {
    float32x4_t query[Q];
#pragma GCC unroll 3
    for (int q = 0; q < Q; ++q) query[q] = vld1q_dup_f32(queries + j * stride + q);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float32x4_t item = vld1q_f32(panel + j * kPanelRows + v * kLanes);
#pragma GCC unroll 3
      for (int q = 0; q < Q; ++q) sum[q][v] = Op::step(sum[q][v], item, query[q]);
    }
  }
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) vst1q_f32(out + q * kPanelRows + v * kLanes, sum[q][v]);
  }
}

template <class Op>
void panel_scores(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
                  float* out) {
  for (int64_t q = 0; q < n_queries; q += kGroup) {
    float* sums = out + q * kPanelRows;
    switch (n_queries - q) {
      case 1:
        tile<Op, 1>(panel, queries + q, dim, n_queries, sums);
        break;
      case 2:
        tile<Op, 2>(panel, queries + q, dim, n_queries, sums);
        break;
      default:
        tile<Op, kGroup>(panel, queries + q, dim, n_queries, sums);
    }
  }
}

// The last dim % 4 values, then zeros, which add nothing to either kind of sum.
float32x4_t load_tail(const float* values, int64_t count) {
  float padded[kLanes] = {0, 0, 0, 0};
  std::memcpy(padded, values, static_cast<size_t>(count) * sizeof(float));
  return vld1q_f32(padded);
}

template <class Op>
void row_scores(const float* query, const float* const* rows, int64_t dim, float* out) {
  const int64_t tail = dim % kLanes;
  const int64_t whole = dim - tail;
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    float32x4_t sum[kLanes];
    for (int i = 0; i < kLanes; ++i) sum[i] = vdupq_n_f32(0);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const float32x4_t q = vld1q_f32(query + j);
      for (int i = 0; i < kLanes; ++i) sum[i] = Op::step(sum[i], vld1q_f32(rows[r + i] + j), q);
    }
    if (tail != 0) {
      const float32x4_t q = load_tail(query + whole, tail);
      for (int i = 0; i < kLanes; ++i) {
        sum[i] = Op::step(sum[i], load_tail(rows[r + i] + whole, tail), q);
      }
    }
    vst1q_f32(out + r, vpaddq_f32(vpaddq_f32(sum[0], sum[1]), vpaddq_f32(sum[2], sum[3])));
  }
}

// Bit i set where lane i is all ones.
uint32_t lane_bits(uint32x4_t lanes) {
  const uint32x4_t bits = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(lanes, bits));
}

uint32_t hits(const HitTest& test) {
  uint32_t mask = 0;
  const float32x4_t threshold = vdupq_n_f32(test.threshold);
  const float32x4_t lowest = vdupq_n_f32(-std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    float32x4_t bound = vld1q_f32(test.scores + r);
    const uint32x4_t overflowed = vceqq_f32(bound, lowest);
    if (test.scale != nullptr) bound = vmulq_f32(bound, vld1q_f32(test.scale + r));
    float32x4_t slack = vdupq_n_f32(test.margin);
    if (test.norm != nullptr) {
      slack = vaddq_f32(slack, vmulq_n_f32(vld1q_f32(test.norm + r), test.slope));
    }
    if (test.bias != nullptr) slack = vaddq_f32(slack, vld1q_f32(test.bias + r));
    const uint32x4_t dropped = vcleq_f32(vaddq_f32(bound, slack), threshold);
    mask |= lane_bits(vornq_u32(overflowed, dropped)) << r;
  }
  return mask;
}

// Codes of `pairs` pairs of groups out of the planes; without the low plane 16 h stands for them.
template <bool kFine>
void unpack_codes(const uint8_t* high, const uint8_t* low, int64_t pairs, uint8_t* codes) {
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t v = 0; v < kPanelBytes; v += 16) {
      const uint8x16_t top = vld1q_u8(high + p * kPanelBytes + v);
      uint8x16_t first = vshlq_n_u8(top, 4);
      uint8x16_t second = vandq_u8(top, vdupq_n_u8(0xf0));
      if constexpr (kFine) {
        const uint8x16_t rest = vld1q_u8(low + p * kPanelBytes + v);
        first = vorrq_u8(first, vandq_u8(rest, vdupq_n_u8(0x0f)));
        second = vorrq_u8(second, vshrq_n_u8(rest, 4));
      }
      vst1q_u8(codes + 2 * p * kPanelBytes + v, first);
      vst1q_u8(codes + (2 * p + 1) * kPanelBytes + v, second);
    }
  }
}

// -128 times the sum of a query's codes, in every lane: what signed items leave out.
int32x4_t missing(const int32_t* queries, int64_t groups, int64_t stride) {
  int32x4_t sum = vdupq_n_s32(0);
  for (int64_t g = 0; g < groups; ++g) {
    const int8x16_t query = vreinterpretq_s8_s32(vld1q_dup_s32(queries + g * stride));
    sum = vdotq_s32(sum, query, vdupq_n_s8(-128));
  }
  return sum;
}

// The codes of Q queries, one in each lane of one register: three would crowd out accumulators.
template <int Q>
int8x16_t load_lanes(const int32_t* queries) {
  int32x4_t lanes = vld1q_dup_s32(queries);
  if constexpr (Q > 1) lanes = vld1q_lane_s32(queries + 1, lanes, 1);
  if constexpr (Q > 2) lanes = vld1q_lane_s32(queries + 2, lanes, 2);
  return vreinterpretq_s8_s32(lanes);
}

// Items are made signed again: code = (code + 128) - 128.
template <int Q>
__attribute__((noinline)) void code_tile(const uint8_t* codes, const int32_t* queries,
                                         int64_t groups, int64_t stride, int32_t* out) {
  int32x4_t sum[Q][kVectors];
  const uint8x16_t sign = vdupq_n_u8(0x80);
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[q][v] = vdupq_n_s32(0);
  }
  for (int64_t g = 0; g < groups; ++g) {
    const int8x16_t query = load_lanes<Q>(queries + g * stride);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const uint8x16_t stored = vld1q_u8(codes + g * kPanelBytes + v * 16);
      const int8x16_t item = vreinterpretq_s8_u8(veorq_u8(stored, sign));
      sum[0][v] = vdotq_laneq_s32(sum[0][v], item, query, 0);
      if constexpr (Q > 1) sum[1][v] = vdotq_laneq_s32(sum[1][v], item, query, 1);
      if constexpr (Q > 2) sum[2][v] = vdotq_laneq_s32(sum[2][v], item, query, 2);
      // Loads stay on their side: hoisting all eight costs more registers than there are.
      if (v == kVectors / 2 - 1) __asm__ volatile("" ::: "memory");
    }
  }
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
    const int32x4_t offset = missing(queries + q, groups, stride);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      vst1q_s32(out + q * kPanelRows + v * kLanes, vsubq_s32(sum[q][v], offset));
    }
  }
}

void run_tiles(const uint8_t* codes, const int32_t* queries, int64_t groups, int64_t n_queries,
               int32_t* out) {
  for (int64_t q = 0; q < n_queries; q += kGroup) {
    int32_t* sums = out + q * kPanelRows;
    switch (n_queries - q) {
      case 1:
        code_tile<1>(codes, queries + q, groups, n_queries, sums);
        break;
      case 2:
        code_tile<2>(codes, queries + q, groups, n_queries, sums);
        break;
      default:
        code_tile<kGroup>(codes, queries + q, groups, n_queries, sums);
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

bool code_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
               int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const float slack = queries.delta[q] * panel.bounds[0] + queries.epsilon[q] * panel.bounds[1] +
                        queries.zeta[q] * panel.bounds[2] + queries.eta[q] * panel.bounds[3] -
                        queries.offset[q];
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      float32x4_t alpha = vdupq_n_f32(queries.alpha[q]);
      if (panel.boost != nullptr) {
        alpha = vfmsq_n_f32(alpha, vld1q_f32(panel.boost + r), queries.gamma[q]);
      }
      const float32x4_t scaled = vmulq_f32(vld1q_f32(panel.inverse_step + r), alpha);
      const float32x4_t limit = vfmsq_n_f32(vsubq_f32(scaled, vdupq_n_f32(slack)),
                                            vld1q_f32(panel.bias + r), queries.beta[q]);
      const float32x4_t sum = vcvtq_f32_s32(vld1q_s32(raw + q * kPanelRows + r));
      mask |= lane_bits(vmvnq_u32(vcleq_f32(sum, limit))) << r;
    }
    any |= masks[q] = mask;
  }
  return any != 0;
}

// Limits are cut off where no sum reaches; one that is not a number becomes the lowest.
void code_limits(const CodePanel& panel, const CodeQueries& queries, int32_t* limits) {
  for (int64_t q = 0; q < 16; ++q) {
    const float slack = queries.delta[q] * panel.bounds[0] + queries.epsilon[q] * panel.bounds[1] +
                        queries.zeta[q] * panel.bounds[2] + queries.eta[q] * panel.bounds[3] -
                        queries.offset[q];
    const float limit = panel.bounds[2] * queries.alpha[q] - slack;
    const float above = limit > -kLargestSum ? limit : -kLargestSum;
    limits[q] = static_cast<int32_t>(std::floor(above < kLargestSum ? above : kLargestSum)) + 1;
  }
}

bool raw_hits(const int32_t* raw, const int32_t* limits, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      const int32x4_t sums = vld1q_s32(raw + q * kPanelRows + r);
      mask |= lane_bits(vcgeq_s32(sums, vdupq_n_s32(limits[q]))) << r;
    }
    any |= masks[q] = mask;
  }
  return any != 0;
}

float panel_best(const int32_t* raw, const float* step, const float* bias, float offset, float beta,
                 float* scores) {
  float32x4_t best = vdupq_n_f32(-std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kPanelRows; r += kLanes) {
    const float32x4_t sums = vsubq_f32(vcvtq_f32_s32(vld1q_s32(raw + r)), vdupq_n_f32(offset));
    const float32x4_t score =
        vmulq_f32(vfmaq_n_f32(sums, vld1q_f32(bias + r), beta), vld1q_f32(step + r));
    vst1q_f32(scores + r, score);
    best = vmaxq_f32(best, score);
  }
  return vmaxvq_f32(best);
}

struct CanonicalDot {
  static float64x2_t step(float64x2_t sum, float64x2_t a, float64x2_t b) {
    return vfmaq_f64(sum, a, b);
  }
};

struct CanonicalSquares {
  static float64x2_t step(float64x2_t sum, float64x2_t a, float64x2_t b) {
    const float64x2_t gap = vsubq_f64(a, b);
    return vaddq_f64(sum, vmulq_f64(gap, gap));
  }
};

// Adds 8 values to 8 lanes, two to a register.
template <class Op>
void add_eight(float64x2_t* lanes, const float* a, const float* b) {
  for (int half = 0; half < 2; ++half) {
    const float32x4_t x = vld1q_f32(a + 4 * half);
    const float32x4_t y = vld1q_f32(b + 4 * half);
    lanes[2 * half] =
        Op::step(lanes[2 * half], vcvt_f64_f32(vget_low_f32(x)), vcvt_f64_f32(vget_low_f32(y)));
    lanes[2 * half + 1] = Op::step(lanes[2 * half + 1], vcvt_high_f64_f32(x), vcvt_high_f64_f32(y));
  }
}

template <class Op>
double canonical(const float* a, const float* b, int64_t dim) {
  float64x2_t lanes[4];
  for (float64x2_t& pair : lanes) pair = vdupq_n_f64(0);
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) add_eight<Op>(lanes, a + j, b + j);
  if (j < dim) {
    // Zeros in the idle lanes add +0, which no rounding sees.
    float x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    float y[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    std::memcpy(x, a + j, static_cast<size_t>(dim - j) * sizeof(float));
    std::memcpy(y, b + j, static_cast<size_t>(dim - j) * sizeof(float));
    add_eight<Op>(lanes, x, y);
  }
  const float64x2_t two = vaddq_f64(vaddq_f64(lanes[0], lanes[2]), vaddq_f64(lanes[1], lanes[3]));
  return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}

constexpr int64_t kSums = 2;  // float64 values to a register
constexpr int kSumGroup = 3;  // 3 queries x 4 vectors of items x 2 lanes: 24 accumulators

// Adds the products (or squares) of one dim to lane L of Q queries and 8 items.
template <class Op, int Q, int L>
void add_dim(float64x2_t (&sum)[Q][4][2], const float* items, const double* queries) {
  const float32x4_t low = vld1q_f32(items);
  const float32x4_t high = vld1q_f32(items + kLanes);
  const float64x2_t item[4] = {vcvt_f64_f32(vget_low_f32(low)), vcvt_high_f64_f32(low),
                               vcvt_f64_f32(vget_low_f32(high)), vcvt_high_f64_f32(high)};
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
    const float64x2_t query = vld1q_dup_f64(queries + q);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[q][v][L] = Op::step(sum[q][v][L], item[v], query);
  }
}

// Lanes `lane` and `lane + 4` of the canonical sums of Q queries and 8 items, added: out[q*8 + r].
template <class Op, int Q>
__attribute__((noinline)) void lane_tile(const float* panel, const double* queries, int64_t dim,
                                         int64_t stride, int64_t lane, double* out) {
  float64x2_t sum[Q][4][2];
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[q][v][0] = sum[q][v][1] = vdupq_n_f64(0);
  }
  int64_t j = lane;
  for (; j + 4 < dim; j += 8) {
    add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
    add_dim<Op, Q, 1>(sum, panel + (j + 4) * kPanelRows, queries + (j + 4) * stride);
  }
  if (j < dim) add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      vst1q_f64(out + (q * 4 + v) * kSums, vaddq_f64(sum[q][v][0], sum[q][v][1]));
    }
  }
}

template <class Op, int Q>
void sum_tile(const float* panel, const double* queries, int64_t dim, int64_t stride,
              double* sums) {
  double part[4][Q * 8];
  for (int64_t lane = 0; lane < 4; ++lane) {
    lane_tile<Op, Q>(panel, queries, dim, stride, lane, part[lane]);
  }
  for (int64_t i = 0; i < Q * 8; i += kSums) {
    const float64x2_t even = vaddq_f64(vld1q_f64(part[0] + i), vld1q_f64(part[2] + i));
    const float64x2_t odd = vaddq_f64(vld1q_f64(part[1] + i), vld1q_f64(part[3] + i));
    vst1q_f64(sums + i / 8 * kPanelRows + i % 8, vaddq_f64(even, odd));
  }
}

template <class Op>
void canonical_panel(const float* panel, const double* queries, int64_t dim, int64_t n_queries,
                     double* sums) {
  for (int64_t r = 0; r < kPanelRows; r += 8) {
    for (int64_t q = 0; q < n_queries; q += kSumGroup) {
      const float* items = panel + r;
      double* out = sums + q * kPanelRows + r;
      switch (n_queries - q) {
        case 1:
          sum_tile<Op, 1>(items, queries + q, dim, n_queries, out);
          break;
        case 2:
          sum_tile<Op, 2>(items, queries + q, dim, n_queries, out);
          break;
        default:
          sum_tile<Op, kSumGroup>(items, queries + q, dim, n_queries, out);
      }
    }
  }
}

template <class Op>
void canonical_rows(const float* query, const float* const* rows, int64_t dim, double* sums) {
  for (int64_t r = 0; r < kPanelRows; ++r) sums[r] = canonical<Op>(query, rows[r], dim);
}

bool sum_hits(const SumTest& test, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const float64x2_t limit = vdupq_n_f64(test.limit[q]);
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; r += kSums) {
      const float64x2_t sums = vld1q_f64(test.sums + q * kPanelRows + r);
      float64x2_t bound = vmulq_f64(sums, vld1q_f64(test.scale + r));
      if (test.bias != nullptr) {
        bound = vfmaq_n_f64(bound, vcvt_f64_f32(vld1_f32(test.bias + r)), test.weight[q]);
      }
      const uint64x2_t dropped = vcleq_f64(bound, limit);
      mask |= (vgetq_lane_u64(dropped, 0) == 0 ? uint32_t{1} : uint32_t{0}) << r;
      mask |= (vgetq_lane_u64(dropped, 1) == 0 ? uint32_t{2} : uint32_t{0}) << r;
    }
    any |= masks[q] = mask;
  }
  return any != 0;
}

}  // namespace

const Kernels kKernelsNeon = {"neon",
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
