// AVX2 with the VEX form of VNNI: the integer tile, which takes query codes of 8 bits. Everything
// else of this level is AVX2's, so its places in the table are null and dispatch fills them in.
#include <immintrin.h>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

constexpr int kCodeGroup = 3;  // 3 queries x 4 vectors of 8 items: 12 of the 16 registers

template <int Q>
__attribute__((noinline)) void code_tile(const uint8_t* panel, const int32_t* queries,
                                         int64_t groups, int64_t stride, int32_t* out) {
  __m256i sum[Q][4];
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[q][v] = _mm256_setzero_si256();
  }
  for (int64_t g = 0; g < groups; ++g) {
    const auto* items = reinterpret_cast<const __m256i*>(panel + g * 128);
    __m256i query[Q];
#pragma GCC unroll 3
    for (int q = 0; q < Q; ++q) query[q] = _mm256_set1_epi32(queries[g * stride + q]);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i item = _mm256_load_si256(items + v);
#pragma GCC unroll 3
      for (int q = 0; q < Q; ++q) {
        sum[q][v] = _mm256_dpbusd_avx_epi32(sum[q][v], item, query[q]);
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

void dot_codes(const uint8_t* panel, const int32_t* queries, int64_t groups, int64_t n_queries,
               int32_t* out) {
  for (int64_t q = 0; q < n_queries; q += kCodeGroup) {
    int32_t* sums = out + q * kPanelRows;
    switch (n_queries - q) {
      case 1:
        code_tile<1>(panel, queries + q, groups, n_queries, sums);
        break;
      case 2:
        code_tile<2>(panel, queries + q, groups, n_queries, sums);
        break;
      default:
        code_tile<kCodeGroup>(panel, queries + q, groups, n_queries, sums);
    }
  }
}

}  // namespace

const Kernels kKernelsAvxVnni = {"avxvnni", 127,     dot_codes, nullptr, nullptr, nullptr,
                                 nullptr,   nullptr, nullptr,   nullptr, nullptr, nullptr};

}  // namespace recengine
