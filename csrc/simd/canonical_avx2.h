// The canonical float64 sums in AVX2: part of kernels_avx2.cpp, included there and nowhere else,
// so that nothing of it is compiled with other flags.
#pragma once

#include <immintrin.h>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

constexpr int64_t kSumLanes = 8;  // of a canonical sum

// Lanes 0..3 in `low`, 4..7 in `high`.
double add_canonical(__m256d low, __m256d high) {
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

struct CanonicalDot {
  static __m256d step(__m256d sum, __m256d a, __m256d b) { return _mm256_fmadd_pd(a, b, sum); }
};

struct CanonicalSquares {
  static __m256d step(__m256d sum, __m256d a, __m256d b) {
    const __m256d gap = _mm256_sub_pd(a, b);
    return _mm256_add_pd(sum, _mm256_mul_pd(gap, gap));
  }
};

template <class Op>
double canonical(const float* a, const float* b, int64_t dim) {
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    low = Op::step(low, _mm256_cvtps_pd(_mm_loadu_ps(a + j)), _mm256_cvtps_pd(_mm_loadu_ps(b + j)));
    high = Op::step(high, _mm256_cvtps_pd(_mm_loadu_ps(a + j + 4)),
                    _mm256_cvtps_pd(_mm_loadu_ps(b + j + 4)));
  }
  if (j < dim) {
    // Zeros in the idle lanes add +0, which no rounding sees.
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(dim - j)), lane);
    const __m256 x = _mm256_maskload_ps(a + j, mask);
    const __m256 y = _mm256_maskload_ps(b + j, mask);
    low = Op::step(low, _mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                   _mm256_cvtps_pd(_mm256_castps256_ps128(y)));
    high = Op::step(high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)),
                    _mm256_cvtps_pd(_mm256_extractf128_ps(y, 1)));
  }
  return add_canonical(low, high);
}

constexpr int64_t kSums = 4;  // float64 values to a register
constexpr int kSumGroup = 3;  // 3 queries x 2 vectors of items x 2 lanes: 12 accumulators

// Adds the products (or squares) of one dim to lane L of Q queries and 8 items.
template <class Op, int Q, int L>
void add_dim(__m256d (&sum)[Q][2][2], const float* items, const double* queries) {
  const __m256d low = _mm256_cvtps_pd(_mm_load_ps(items));
  const __m256d high = _mm256_cvtps_pd(_mm_load_ps(items + kSums));
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
    const __m256d query = _mm256_broadcast_sd(queries + q);
    sum[q][0][L] = Op::step(sum[q][0][L], low, query);
    sum[q][1][L] = Op::step(sum[q][1][L], high, query);
  }
}

// Lanes `lane` and `lane + 4` of the canonical sums of Q queries and 8 items, added: out[q*8 + r].
template <class Op, int Q>
__attribute__((noinline)) void lane_tile(const float* panel, const double* queries, int64_t dim,
                                         int64_t stride, int64_t lane, double* out) {
  __m256d sum[Q][2][2];
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
    sum[q][0][0] = sum[q][0][1] = sum[q][1][0] = sum[q][1][1] = _mm256_setzero_pd();
  }
  int64_t j = lane;
  for (; j + 4 < dim; j += 8) {
    add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
    add_dim<Op, Q, 1>(sum, panel + (j + 4) * kPanelRows, queries + (j + 4) * stride);
  }
  if (j < dim) add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
    _mm256_store_pd(out + q * 2 * kSums, _mm256_add_pd(sum[q][0][0], sum[q][0][1]));
    _mm256_store_pd(out + q * 2 * kSums + kSums, _mm256_add_pd(sum[q][1][0], sum[q][1][1]));
  }
}

template <class Op, int Q>
void sum_tile(const float* panel, const double* queries, int64_t dim, int64_t stride,
              double* sums) {
  alignas(32) double part[4][Q * 2 * kSums];
  for (int64_t lane = 0; lane < 4; ++lane) {
    lane_tile<Op, Q>(panel, queries, dim, stride, lane, part[lane]);
  }
  for (int64_t i = 0; i < Q * 2 * kSums; i += kSums) {
    const __m256d even = _mm256_add_pd(_mm256_load_pd(part[0] + i), _mm256_load_pd(part[2] + i));
    const __m256d odd = _mm256_add_pd(_mm256_load_pd(part[1] + i), _mm256_load_pd(part[3] + i));
    _mm256_storeu_pd(sums + i / (2 * kSums) * kPanelRows + i % (2 * kSums),
                     _mm256_add_pd(even, odd));
  }
}

template <class Op>
void canonical_panel(const float* panel, const double* queries, int64_t dim, int64_t n_queries,
                     double* sums) {
  for (int64_t r = 0; r < kPanelRows; r += 2 * kSums) {
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

// Adds the 8 lanes of each of 4 sums, in the order of the canonical tree.
__m256d fold_lanes(const __m256d (*sum)[2]) {
  __m256d four[4];
  for (int i = 0; i < 4; ++i) four[i] = _mm256_add_pd(sum[i][0], sum[i][1]);
  __m256d two[2];  // lanes 0 and 1 of sums i and i + 2
  for (int i = 0; i < 2; ++i) {
    two[i] = _mm256_add_pd(_mm256_permute2f128_pd(four[i], four[i + 2], 0x20),
                           _mm256_permute2f128_pd(four[i], four[i + 2], 0x31));
  }
  return _mm256_add_pd(_mm256_unpacklo_pd(two[0], two[1]), _mm256_unpackhi_pd(two[0], two[1]));
}

// Adds 8 dims of two vectors to 8 lanes.
template <class Op>
void add_eight(__m256d* sum, __m256 a, __m256 b) {
  sum[0] = Op::step(sum[0], _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                    _mm256_cvtps_pd(_mm256_castps256_ps128(b)));
  sum[1] = Op::step(sum[1], _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)),
                    _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)));
}

template <class Op>
void canonical_rows(const float* query, const float* const* rows, int64_t dim, double* sums) {
  const int64_t tail = dim % kSumLanes;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(tail)), lane);
  for (int64_t r = 0; r < kPanelRows; r += kSums) {
    __m256d sum[kSums][2];
    for (int i = 0; i < kSums; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_pd();
    int64_t j = 0;
    for (; j + kSumLanes <= dim; j += kSumLanes) {
      const __m256 q = _mm256_loadu_ps(query + j);
      for (int i = 0; i < kSums; ++i) add_eight<Op>(sum[i], q, _mm256_loadu_ps(rows[r + i] + j));
    }
    if (tail != 0) {
      const __m256 q = _mm256_maskload_ps(query + j, mask);
      for (int i = 0; i < kSums; ++i) {
        add_eight<Op>(sum[i], q, _mm256_maskload_ps(rows[r + i] + j, mask));
      }
    }
    _mm256_storeu_pd(sums + r, fold_lanes(sum));
  }
}

bool sum_hits(const SumTest& test, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const __m256d limit = _mm256_set1_pd(test.limit[q]);
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; r += kSums) {
      __m256d bound = _mm256_mul_pd(_mm256_loadu_pd(test.sums + q * kPanelRows + r),
                                    _mm256_loadu_pd(test.scale + r));
      if (test.bias != nullptr) {
        bound = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm_loadu_ps(test.bias + r)),
                                _mm256_set1_pd(test.weight[q]), bound);
      }
      const int hit = _mm256_movemask_pd(_mm256_cmp_pd(bound, limit, _CMP_NLE_UQ));
      mask |= static_cast<uint32_t>(hit) << r;
    }
    masks[q] = mask;
    any |= mask;
  }
  return any != 0;
}

}  // namespace

}  // namespace recengine
