// The integer kernels at every level: exact sums up to the largest, and the test of what to drop.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "core/types.h"
#include "simd/dispatch.h"

namespace {

using recengine::CodePanel;
using recengine::CodeQueries;
using recengine::Kernels;
using recengine::kPanelBytes;
using recengine::kPanelRows;
using recengine::kTileQueries;

std::mt19937_64 g_random(20240608);

// A panel in two planes, as quantize.h lays them out.
struct Planes {
  Array<uint8_t> high;
  Array<uint8_t> low;
};

enum class Kind { kRandom, kLargest, kSmallest };

uint8_t item_code(Kind kind) {
  if (kind == Kind::kRandom) return static_cast<uint8_t>(g_random() % 256);
  return kind == Kind::kLargest ? 255 : 1;  // a code of -127 or 127 is stored with 128 added
}

int8_t query_code(Kind kind, int32_t max, int64_t q) {
  const int32_t size =
      kind == Kind::kRandom
          ? static_cast<int32_t>(g_random() % (2u * static_cast<unsigned>(max) + 1)) - max
          : max;
  return static_cast<int8_t>(q % 2 == 0 ? size : -size);
}

void check_dot_codes(const Kernels& level, int64_t pairs, int64_t n_queries, Kind kind,
                     bool coarse) {
  const int64_t groups = 2 * pairs;
  const Planes planes{Array<uint8_t>(pairs * kPanelBytes), Array<uint8_t>(pairs * kPanelBytes)};
  const Array<int32_t> queries(groups * n_queries, 1);
  const Array<int32_t> out(n_queries * kPanelRows);
  std::vector<int64_t> want(static_cast<size_t>(n_queries * kPanelRows), 0);
  std::vector<uint8_t> codes_of(static_cast<size_t>(groups * kPanelBytes));
  for (int64_t i = 0; i < pairs * kPanelBytes; ++i) {
    const uint8_t first = item_code(kind);
    const uint8_t second = item_code(kind);
    planes.high[i] = static_cast<uint8_t>((first >> 4) | (second & 0xf0));
    planes.low[i] = static_cast<uint8_t>((first & 0x0f) | ((second & 0x0f) << 4));
    const auto at = static_cast<size_t>(i / kPanelBytes * 2 * kPanelBytes + i % kPanelBytes);
    codes_of[at] = coarse ? first & 0xf0 : first;
    codes_of[at + kPanelBytes] = coarse ? second & 0xf0 : second;
  }
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t q = 0; q < n_queries; ++q) {
      int8_t codes[4];
      for (int8_t& code : codes) code = query_code(kind, level.query_code_max, q);
      std::memcpy(&queries[g * n_queries + q], codes, sizeof codes);
      for (int64_t r = 0; r < kPanelRows; ++r) {
        for (int64_t b = 0; b < 4; ++b) {
          want[static_cast<size_t>(q * kPanelRows + r)] +=
              int64_t{codes_of[static_cast<size_t>((g * kPanelRows + r) * 4 + b)]} * codes[b];
        }
      }
    }
  }
  level.dot_codes(planes.high.data(), coarse ? nullptr : planes.low.data(), queries.data(), pairs,
                  n_queries, out.data());
  for (int64_t i = 0; i < n_queries * kPanelRows; ++i) {
    CHECK(out[i] == want[static_cast<size_t>(i)],
          "%s dot_codes, %ld pairs, %ld queries: %ld, not %ld", level.name,
          static_cast<long>(pairs), static_cast<long>(n_queries), static_cast<long>(out[i]),
          static_cast<long>(want[static_cast<size_t>(i)]));
  }
}

float small(int low, int high) {
  return static_cast<float>(low +
                            static_cast<int>(g_random() % static_cast<unsigned>(high - low + 1)));
}

// Small integers: nothing rounds, so each level must agree with the definition on the boundary too.
void check_code_hits(const Kernels& level, int64_t n_queries, bool rare, bool boosted) {
  const Array<int32_t> raw(n_queries * kPanelRows);
  const Array<float> inverse_step(kPanelRows);
  const Array<float> bias(kPanelRows);
  const Array<float> bounds(8);
  const Array<float> boost(kPanelRows);
  const Array<uint32_t> masks(n_queries);
  for (int64_t i = 0; i < n_queries * kPanelRows; ++i) {
    raw[i] = static_cast<int32_t>(small(-9, 9));
  }
  for (int64_t r = 0; r < kPanelRows; ++r) {
    inverse_step[r] = small(1, 4);
    bias[r] = small(-3, 3);
    boost[r] = small(-2, 2);
  }
  for (int64_t i = 0; i < 2; ++i) bounds[i] = small(0, 3);
  bounds[2] = bounds[4] = inverse_step[0];
  bounds[3] = 3;
  for (int64_t r = 0; r < kPanelRows; ++r) {
    bounds[2] = std::max(bounds[2], inverse_step[r]);
    bounds[4] = std::min(bounds[4], inverse_step[r]);
  }
  CodeQueries in{};
  for (int64_t q = 0; q < n_queries; ++q) {
    in.alpha[q] = rare ? small(20, 40) : small(-4, 9);
    in.beta[q] = small(-2, 2);
    in.delta[q] = small(0, 2);
    in.epsilon[q] = small(0, 2);
    in.zeta[q] = small(0, 2);
    in.eta[q] = small(0, 2);
    in.offset[q] = small(-9, 9);
    in.gamma[q] = small(0, 2);
  }
  const CodePanel panel{inverse_step.data(), bias.data(), bounds.data(),
                        boosted ? boost.data() : nullptr};
  const bool any = level.code_hits(raw.data(), panel, in, n_queries, masks.data());
  bool wanted_any = false;
  std::vector<uint32_t> wanted(static_cast<size_t>(n_queries));
  for (int64_t q = 0; q < n_queries; ++q) {
    uint32_t want = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const double sum = raw[q * kPanelRows + r];
      const double left = sum - in.offset[q] + double{in.beta[q]} * bias[r] +
                          double{in.delta[q]} * bounds[0] + double{in.epsilon[q]} * bounds[1] +
                          double{in.zeta[q]} * bounds[2] + double{in.eta[q]} * bounds[3];
      const double right =
          (in.alpha[q] - (boosted ? double{in.gamma[q]} * boost[r] : 0.0)) * inverse_step[r];
      if (!(left <= right)) want |= uint32_t{1} << r;
    }
    wanted[static_cast<size_t>(q)] = want;
    wanted_any |= want != 0;
  }
  CHECK(any == wanted_any, "%s code_hits: any", level.name);
  for (int64_t q = 0; any && q < n_queries; ++q) {  // masks say nothing where there is none
    const uint32_t want = wanted[static_cast<size_t>(q)];
    CHECK(masks[q] == want, "%s code_hits, query %ld of %ld: %08x is not %08x", level.name,
          static_cast<long>(q), static_cast<long>(n_queries), masks[q], want);
  }
}

// A panel of one step and no bias: limits of all sizes, and sums about them.
void check_level_hits(const Kernels& level, int64_t n_queries, bool rare) {
  constexpr float kLarge[] = {1e9F, -1e9F, 3e38F, -3e38F, NAN};
  const Array<int32_t> raw(n_queries * kPanelRows);
  const Array<float> inverse_step(kPanelRows);
  const Array<float> bias(kPanelRows);
  const Array<float> bounds(8);
  const Array<int32_t> limits(16);
  const Array<uint32_t> masks(n_queries);
  for (int64_t r = 0; r < kPanelRows; ++r) inverse_step[r] = bias[r] = 0;  // not read
  for (int64_t i = 0; i < 8; ++i) bounds[i] = 0;
  bounds[0] = small(0, 3);
  bounds[1] = small(0, 3);
  bounds[2] = bounds[4] = small(1, 4);
  CodeQueries in{};
  for (int64_t q = 0; q < n_queries; ++q) {
    in.alpha[q] = g_random() % 5 == 0 ? kLarge[g_random() % 5] : small(-400, 400) / 4;
    in.delta[q] = small(0, 2);
    in.epsilon[q] = small(0, 2);
    in.zeta[q] = g_random() % 9 == 0 ? INFINITY : small(0, 2);
    in.offset[q] = small(-9, 9);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      raw[q * kPanelRows + r] = static_cast<int32_t>(small(-300, rare ? -200 : 300));
    }
  }
  raw[0] = (1 << 30) - 1;
  const CodePanel panel{inverse_step.data(), bias.data(), bounds.data(), nullptr};
  level.code_limits(panel, in, limits.data());
  const bool any = level.raw_hits(raw.data(), limits.data(), n_queries, masks.data());
  bool wanted_any = false;
  for (int64_t q = 0; q < n_queries; ++q) {
    uint32_t want = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const double left = static_cast<double>(raw[q * kPanelRows + r]) - in.offset[q] +
                          double{in.delta[q]} * bounds[0] + double{in.epsilon[q]} * bounds[1] +
                          double{in.zeta[q]} * bounds[2];
      if (!(left <= double{in.alpha[q]} * bounds[2])) want |= uint32_t{1} << r;
    }
    wanted_any |= want != 0;
    CHECK(!any || masks[q] == want, "%s raw_hits, query %ld of %ld: %08x is not %08x", level.name,
          static_cast<long>(q), static_cast<long>(n_queries), masks[q], want);
  }
  CHECK(any == wanted_any, "%s raw_hits: any", level.name);
}

// Scores of a panel and the largest of them, against float64.
void check_panel_best(const Kernels& level) {
  const Array<int32_t> raw(kPanelRows);
  const Array<float> step(kPanelRows);
  const Array<float> bias(kPanelRows);
  const Array<float> scores(kPanelRows);
  const float offset = small(-900, 900);
  const float beta = small(-3, 3);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    raw[r] = static_cast<int32_t>(small(-4000, 4000));
    step[r] = small(1, 64) / 256;
    bias[r] = small(-50, 50);
  }
  const float best =
      level.panel_best(raw.data(), step.data(), bias.data(), offset, beta, scores.data());
  double want = -INFINITY;  // whole numbers times sixteenths: exact
  for (int64_t r = 0; r < kPanelRows; ++r) {
    const double score =
        (static_cast<double>(raw[r]) - double{offset} + double{beta} * bias[r]) * double{step[r]};
    CHECK(double{scores[r]} == score, "%s panel_best, item %ld", level.name, static_cast<long>(r));
    want = want < score ? score : want;
  }
  CHECK(double{best} == want, "%s panel_best: %f is not %f", level.name, double{best}, want);
}

}  // namespace

int main() {
  for (const Kernels* level : recengine::available_levels()) {
    for (const Kind kind : {Kind::kRandom, Kind::kLargest, Kind::kSmallest}) {
      for (const bool coarse : {false, true}) {
        for (int64_t pairs = 0; pairs <= 9; ++pairs) {
          for (int64_t n = 1; n <= kTileQueries; ++n) {
            check_dot_codes(*level, pairs, n, kind, coarse);
          }
        }
        for (const int64_t pairs : {31, 32, 33, 64, 65, 96}) {
          check_dot_codes(*level, pairs, 5, kind, coarse);
        }
        check_dot_codes(*level, 8192, 2, kind, coarse);  // the largest sum that must fit
      }
    }
    for (int round = 0; round < 400; ++round) {
      check_code_hits(*level, 1 + round % kTileQueries, round % 2 == 0, round % 3 == 0);
      check_level_hits(*level, 1 + round % kTileQueries, round % 2 == 0);
      check_panel_best(*level);
    }
    std::printf("codes %s: ok\n", level->name);
  }
  return 0;
}
