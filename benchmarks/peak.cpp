// The ceilings of this machine: int8 multiply-adds from registers, bytes read from memory.
//
//   peak THREADS avx512vnni|avxvnni|avx2|...   ->   {"int8_gops": x, "read_gbs": y, "threads": n}
//
// int8: independent accumulators, the instructions of recengine's own kernels (vpdpbusd on zmm or
// ymm; vpmaddubsw + vpmaddwd + vpaddd on ymm); an operation is a multiplication or an addition of
// two int8 values. read: each thread sums its own 192 MB, front to back, prefetching 8 KB ahead.
// The best of several passes, all threads at once. Other levels: no int8 figure.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int kPasses = 25;
constexpr int64_t kBytes = int64_t{192} << 20;
constexpr int64_t kTurns = 4'000'000;
volatile int64_t sink;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Returns the shortest time in which all threads have done `work` once, each from the same start.
double best_time(int n_threads, const std::function<void(int)>& work) {
  double best = 1e300;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < n_threads; ++t) {
      threads.emplace_back([&, t] {
        ++ready;
        while (!go) {
        }
        work(t);
      });
    }
    while (ready < n_threads) {
    }
    const auto start = std::chrono::steady_clock::now();
    go = true;
    for (auto& thread : threads) thread.join();
    best = std::min(best, seconds_since(start));
  }
  return best;
}

#if defined(__x86_64__)

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void multiply_avx512vnni(int seed) {
  __m512i sum[16];
  for (auto& s : sum) s = _mm512_set1_epi32(seed);
  const __m512i a = _mm512_set1_epi8(static_cast<char>(seed)), b = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < kTurns; ++i) {
#pragma GCC unroll 16
    for (auto& s : sum) s = _mm512_dpbusd_epi32(s, a, b);
  }
  __m512i total = _mm512_setzero_si512();
  for (const auto& s : sum) total = _mm512_add_epi32(total, s);
  sink = _mm512_reduce_add_epi32(total);
}

__attribute__((target("avx2"))) void keep(const __m256i* sums, int n) {
  alignas(32) int32_t lanes[8];
  __m256i total = _mm256_setzero_si256();
  for (int i = 0; i < n; ++i) total = _mm256_add_epi32(total, sums[i]);
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
  sink = lanes[0];
}

__attribute__((target("avx2,avxvnni"))) void multiply_avxvnni(int seed) {
  __m256i sum[14];
  for (auto& s : sum) s = _mm256_set1_epi32(seed);
  const __m256i a = _mm256_set1_epi8(static_cast<char>(seed)), b = _mm256_set1_epi8(1);
  for (int64_t i = 0; i < kTurns; ++i) {
#pragma GCC unroll 14
    for (auto& s : sum) s = _mm256_dpbusd_avx_epi32(s, a, b);
  }
  keep(sum, 14);
}

__attribute__((target("avx2"))) void multiply_avx2(int seed) {
  __m256i sum[8];
  for (auto& s : sum) s = _mm256_set1_epi32(seed);
  const __m256i ones = _mm256_set1_epi16(1), b = _mm256_set1_epi8(1);
  __m256i a = _mm256_set1_epi8(static_cast<char>(seed));
  for (int64_t i = 0; i < kTurns; ++i) {
    __asm__ volatile("" : "+x"(a));  // or the products would leave the loop
#pragma GCC unroll 8
    for (auto& s : sum) {
      __m256i pairs = _mm256_maddubs_epi16(a, b);
      __asm__ volatile("" : "+x"(pairs));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, ones));
    }
  }
  keep(sum, 8);
}

__attribute__((target("avx2"))) int64_t read_all(const char* data) {
  __m256i sum[4] = {};
  for (int64_t at = 0; at < kBytes; at += 128) {
    _mm_prefetch(data + at + 8192, _MM_HINT_T0);
    _mm_prefetch(data + at + 8192 + 64, _MM_HINT_T0);
    for (int i = 0; i < 4; ++i) {
      const auto* here = reinterpret_cast<const __m256i*>(data + at + 32 * i);
      sum[i] = _mm256_add_epi64(sum[i], _mm256_load_si256(here));
    }
  }
  const __m256i total =
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  return _mm256_extract_epi64(total, 0) + _mm256_extract_epi64(total, 2);
}

#else

int64_t read_all(const char* data) {
  int64_t sum[8] = {};
  for (int64_t at = 0; at < kBytes; at += 64) {
    int64_t words[8];
    std::memcpy(words, data + at, 64);
    for (int i = 0; i < 8; ++i) sum[i] += words[i];
  }
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

#endif

// Operations of one thread in one pass; 0 where this build or level has no int8 loop.
int64_t multiply(const char* level, int n_threads, double* seconds) {
#if defined(__x86_64__)
  if (std::strcmp(level, "avx512vnni") == 0) {
    *seconds = best_time(n_threads, multiply_avx512vnni);
    return kTurns * 16 * 128;
  }
  if (std::strcmp(level, "avxvnni") == 0) {
    *seconds = best_time(n_threads, multiply_avxvnni);
    return kTurns * 14 * 64;
  }
  if (std::strcmp(level, "avx2") == 0) {
    *seconds = best_time(n_threads, multiply_avx2);
    return kTurns * 8 * 64;
  }
#endif
  static_cast<void>(level);
  static_cast<void>(n_threads);
  *seconds = 1;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int n_threads = std::atoi(argv[1]);
  if (n_threads < 1) return 2;
  double seconds;
  const int64_t operations = multiply(argv[2], n_threads, &seconds);
  const double gops = 1e-9 * static_cast<double>(operations * n_threads) / seconds;
  std::vector<char*> data;
  for (int t = 0; t < n_threads; ++t) {
    data.push_back(static_cast<char*>(std::aligned_alloc(64, kBytes)));
    if (data.back() == nullptr) return 3;
    std::memset(data.back(), t + 1, kBytes);
  }
  const double reading = best_time(n_threads, [&](int t) { sink = read_all(data[t]); });
  std::printf("{\"int8_gops\": %.1f, \"read_gbs\": %.2f, \"threads\": %d}\n", gops,
              1e-9 * static_cast<double>(kBytes * n_threads) / reading, n_threads);
  return 0;
}
