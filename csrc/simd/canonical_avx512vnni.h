// The canonical float64 sums in AVX-512: part of kernels_avx512vnni.cpp, included there and nowhere
// else, so that nothing of it is compiled with other flags.
#pragma once

#include <immintrin.h>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

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

constexpr int64_t kSums = 8;  // float64 values to a register
constexpr int kSumGroup = 6;  // 6 queries x 2 vectors of items x 2 lanes: 24 accumulators

// Adds the products (or squares) of dim j to lane L of Q queries and 16 items.
template <class Op, int Q, int L>
void add_dim(__m512d (&sum)[Q][2][2], const float* items, const double* queries) {
  const __m512d low = _mm512_cvtps_pd(_mm256_load_ps(items));
  const __m512d high = _mm512_cvtps_pd(_mm256_load_ps(items + kSums));
#pragma GCC unroll 6
  for (int q = 0; q < Q; ++q) {
    const __m512d query = _mm512_set1_pd(queries[q]);
    sum[q][0][L] = Op::step(sum[q][0][L], low, query);
    sum[q][1][L] = Op::step(sum[q][1][L], high, query);
  }
}

// Lanes `lane` and `lane + 4` of the canonical sums of Q queries and 16 items, added:
// out[q*16 + r].
template <class Op, int Q>
__attribute__((noinline)) void lane_tile(const float* panel, const double* queries, int64_t dim,
                                         int64_t stride, int64_t lane, double* out) {
  __m512d sum[Q][2][2];
#pragma GCC unroll 6
  for (int q = 0; q < Q; ++q) {
    sum[q][0][0] = sum[q][0][1] = sum[q][1][0] = sum[q][1][1] = _mm512_setzero_pd();
  }
  int64_t j = lane;
  for (; j + 4 < dim; j += 8) {
    add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
    add_dim<Op, Q, 1>(sum, panel + (j + 4) * kPanelRows, queries + (j + 4) * stride);
  }
  if (j < dim) add_dim<Op, Q, 0>(sum, panel + j * kPanelRows, queries + j * stride);
#pragma GCC unroll 6
  for (int q = 0; q < Q; ++q) {
    _mm512_store_pd(out + q * 2 * kSums, _mm512_add_pd(sum[q][0][0], sum[q][0][1]));
    _mm512_store_pd(out + q * 2 * kSums + kSums, _mm512_add_pd(sum[q][1][0], sum[q][1][1]));
  }
}

template <class Op, int Q>
void sum_tile(const float* panel, const double* queries, int64_t dim, int64_t stride,
              double* sums) {
  alignas(64) double part[4][Q * 2 * kSums];
  for (int64_t lane = 0; lane < 4; ++lane) {
    lane_tile<Op, Q>(panel, queries, dim, stride, lane, part[lane]);
  }
  for (int64_t i = 0; i < Q * 2 * kSums; i += kSums) {
    const __m512d even = _mm512_add_pd(_mm512_load_pd(part[0] + i), _mm512_load_pd(part[2] + i));
    const __m512d odd = _mm512_add_pd(_mm512_load_pd(part[1] + i), _mm512_load_pd(part[3] + i));
    _mm512_storeu_pd(sums + i / (2 * kSums) * kPanelRows + i % (2 * kSums),
                     _mm512_add_pd(even, odd));
  }
}

template <class Op>
void canonical_panel(const float* panel, const double* queries, int64_t dim, int64_t n_queries,
                     double* sums) {
  for (int64_t r = 0; r < kPanelRows; r += 2 * kSums) {
    for (int64_t q = 0; q < n_queries; q += kSumGroup) {
      const float* items = panel + r;
      const double* group = queries + q;
      double* out = sums + q * kPanelRows + r;
      switch (n_queries - q) {
        case 1:
          sum_tile<Op, 1>(items, group, dim, n_queries, out);
          break;
        case 2:
          sum_tile<Op, 2>(items, group, dim, n_queries, out);
          break;
        case 3:
          sum_tile<Op, 3>(items, group, dim, n_queries, out);
          break;
        case 4:
          sum_tile<Op, 4>(items, group, dim, n_queries, out);
          break;
        case 5:
          sum_tile<Op, 5>(items, group, dim, n_queries, out);
          break;
        default:
          sum_tile<Op, kSumGroup>(items, group, dim, n_queries, out);
      }
    }
  }
}

// Adds the 8 lanes of each of 8 sums, in the order of the canonical tree.
inline __attribute__((always_inline)) __m512d fold_lanes(const __m512d (&sum)[kSums]) {
  __m512d four[4];  // of sums i and i + 2, or i + 2 and i + 4: lanes 0..3 and 4..7 added
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = sum[i / 2 * 4 + i % 2];
    const __m512d b = sum[i / 2 * 4 + i % 2 + 2];
    four[i] = _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x44), _mm512_shuffle_f64x2(a, b, 0xee));
  }
  __m512d two[2];  // of sums i, i + 2, i + 4, i + 6: lanes 0 and 1
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    two[i] = _mm512_add_pd(_mm512_shuffle_f64x2(four[i], four[i + 2], 0x88),
                           _mm512_shuffle_f64x2(four[i], four[i + 2], 0xdd));
  }
  return _mm512_add_pd(_mm512_unpacklo_pd(two[0], two[1]), _mm512_unpackhi_pd(two[0], two[1]));
}

template <class Op>
void canonical_rows(const float* query, const float* const* rows, int64_t dim, double* sums) {
  const __mmask8 tail = static_cast<__mmask8>((1u << (dim % kSums)) - 1u);
  for (int64_t r = 0; r < kPanelRows; r += kSums) {
    __m512d sum[kSums];
    for (int i = 0; i < kSums; ++i) sum[i] = _mm512_setzero_pd();
    int64_t j = 0;
    for (; j + kSums <= dim; j += kSums) {
      const __m512d q = _mm512_cvtps_pd(_mm256_loadu_ps(query + j));
      for (int i = 0; i < kSums; ++i) {
        sum[i] = Op::step(sum[i], q, _mm512_cvtps_pd(_mm256_loadu_ps(rows[r + i] + j)));
      }
    }
    if (tail != 0) {
      const __m512d q = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(tail, query + j));
      for (int i = 0; i < kSums; ++i) {
        sum[i] = Op::step(sum[i], q, _mm512_cvtps_pd(_mm256_maskz_loadu_ps(tail, rows[r + i] + j)));
      }
    }
    _mm512_storeu_pd(sums + r, fold_lanes(sum));
  }
}

bool sum_hits(const SumTest& test, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const __m512d limit = _mm512_set1_pd(test.limit[q]);
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; r += kSums) {
      __m512d bound = _mm512_mul_pd(_mm512_loadu_pd(test.sums + q * kPanelRows + r),
                                    _mm512_loadu_pd(test.scale + r));
      if (test.bias != nullptr) {
        bound = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_loadu_ps(test.bias + r)),
                                _mm512_set1_pd(test.weight[q]), bound);
      }
      mask |= static_cast<uint32_t>(_mm512_cmp_pd_mask(bound, limit, _CMP_NLE_UQ)) << r;
    }
    masks[q] = mask;
    any |= mask;
  }
  return any != 0;
}

}  // namespace

}  // namespace recengine
