// AVX2 with the VEX form of VNNI: the integer tile, which takes query codes of 8 bits. Everything
// else of this level is AVX2's, so its places in the table are null and dispatch fills them in.
#include <immintrin.h>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

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
#pragma GCC unroll 3
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[q][v] = _mm256_setzero_si256();
  }
  for (int64_t g = 0; g < groups; ++g) {
    const auto* items = reinterpret_cast<const __m256i*>(codes + g * kPanelBytes);
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

}  // namespace

const Kernels kKernelsAvxVnni = {"avxvnni", 127,     dot_codes, nullptr, nullptr, nullptr, nullptr,
                                 nullptr,   nullptr, nullptr,   nullptr, nullptr, nullptr, nullptr,
                                 nullptr,   nullptr, nullptr,   nullptr, nullptr, nullptr};

}  // namespace recengine
