// Every kernel of float32 at every level, against a reference in higher precision and against
// "scalar".
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "core/types.h"
#include "simd/dispatch.h"

namespace {

using recengine::HitTest;
using recengine::Kernels;
using recengine::kKernelsScalar;
using recengine::kPanelRows;
using recengine::kTileQueries;

constexpr double kUnit = 0x1p-24;        // float32 rounding
constexpr double kUnderflow = 0x1p-149;  // the smallest float32, for each lost denormal

std::mt19937_64 g_random(20240607);

using Floats = Array<float>;

enum class Kind { kNormal, kMixed, kHuge, kDenormal, kCancelling };
constexpr Kind kKinds[] = {Kind::kNormal, Kind::kMixed, Kind::kHuge, Kind::kDenormal,
                           Kind::kCancelling};

float value(Kind kind, int64_t j) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(-1, 1);
  switch (kind) {
    case Kind::kNormal:
      return static_cast<float>(normal(g_random));
    case Kind::kMixed:  // zeros of both signs and 60 orders of magnitude
      if (g_random() % 5 == 0) return g_random() % 2 ? 0.0f : -0.0f;
      return static_cast<float>(uniform(g_random) * std::pow(10.0, 30 * uniform(g_random)));
    case Kind::kHuge:
      return static_cast<float>(uniform(g_random)) * FLT_MAX;
    case Kind::kDenormal:
      return static_cast<float>(uniform(g_random)) * FLT_MIN;
    case Kind::kCancelling:
      return (j % 2 ? -1.0f : 1.0f) * static_cast<float>(1000 + uniform(g_random));
  }
  return 0;
}

// Rows and queries of one case: `rows[r]` and `query(q)` are separate, unaligned allocations.
struct Case {
  Case(int64_t dim_, int64_t n_queries_, Kind kind) : dim(dim_), n_queries(n_queries_) {
    for (int64_t r = 0; r < kPanelRows; ++r) fill(items, kind, 1 + r % 15);
    for (int64_t q = 0; q < n_queries; ++q) fill(queries, kind, 1 + q % 7);
    for (const auto& item : items) rows.push_back(item.data());
  }
  void fill(std::vector<Floats>& into, Kind kind, int64_t shift) const {
    into.emplace_back(dim, shift);
    for (int64_t j = 0; j < dim; ++j) into.back()[j] = value(kind, j);
  }
  const float* query(int64_t q) const { return queries[static_cast<size_t>(q)].data(); }
  const float* row(int64_t r) const { return rows[static_cast<size_t>(r)]; }

  int64_t dim;
  int64_t n_queries;
  std::vector<Floats> items;
  std::vector<Floats> queries;
  std::vector<const float*> rows;
};

// The value, and the sum of magnitudes that its rounding error is a multiple of.
struct Exact {
  long double value = 0;
  long double magnitude = 0;
};

Exact exact_dot(const float* a, const float* b, int64_t dim) {
  Exact sum;
  for (int64_t j = 0; j < dim; ++j) {
    const long double product = static_cast<long double>(a[j]) * b[j];
    sum.value += product;
    sum.magnitude += std::fabs(product);
  }
  return sum;
}

Exact exact_l2(const float* a, const float* b, int64_t dim) {
  Exact sum;
  for (int64_t j = 0; j < dim; ++j) {
    const long double gap = static_cast<long double>(a[j]) - b[j];
    sum.magnitude += gap * gap;
  }
  sum.value = -sum.magnitude;
  return sum;
}

void expect_close(float got, const Exact& want, int64_t steps, const Kernels& level,
                  const char* what, int64_t dim) {
  if (want.magnitude > FLT_MAX / 2) return;  // float32 overflows: drivers see a bound of infinity
  const double n = static_cast<double>(steps) * kUnit;
  const long double bound = n / (1 - n) * want.magnitude + static_cast<double>(steps) * kUnderflow;
  CHECK(std::fabs(got - want.value) <= bound, "%s %s, dim %ld: got %g, want %Lg within %Lg",
        level.name, what, static_cast<long>(dim), static_cast<double>(got), want.value, bound);
}

void check_panels(const Kernels& level, const Case& in) {
  const Floats panel(in.dim * kPanelRows);
  level.pack_panel(in.rows.data(), in.dim, panel.data());
  for (int64_t j = 0; j < in.dim; ++j) {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const float packed = panel[j * kPanelRows + r];
      CHECK(std::memcmp(&packed, in.row(r) + j, sizeof packed) == 0, "%s: panel[%ld][%ld]",
            level.name, static_cast<long>(j), static_cast<long>(r));
    }
  }
  const Floats packed(in.dim * in.n_queries, 1);
  for (int64_t j = 0; j < in.dim; ++j) {
    for (int64_t q = 0; q < in.n_queries; ++q) {
      packed[j * in.n_queries + q] = in.query(q)[j];
    }
  }
  const Floats dots(in.n_queries * kPanelRows, 1);
  const Floats gaps(in.n_queries * kPanelRows, 1);
  level.dot_panel(panel.data(), packed.data(), in.dim, in.n_queries, dots.data());
  level.l2_panel(panel.data(), packed.data(), in.dim, in.n_queries, gaps.data());
  for (int64_t q = 0; q < in.n_queries; ++q) {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const int64_t at = q * kPanelRows + r;
      const Exact dot = exact_dot(in.query(q), in.row(r), in.dim);
      const Exact gap = exact_l2(in.query(q), in.row(r), in.dim);
      expect_close(dots[at], dot, in.dim, level, "dot_panel", in.dim);
      expect_close(gaps[at], gap, in.dim + 3, level, "l2_panel", in.dim);
    }
  }
}

void check_rows(const Kernels& level, const Case& in) {
  const Floats dots(kPanelRows, 1);
  const Floats gaps(kPanelRows, 1);
  for (int64_t q = 0; q < in.n_queries; ++q) {
    level.dot_rows(in.query(q), in.rows.data(), in.dim, dots.data());
    level.l2_rows(in.query(q), in.rows.data(), in.dim, gaps.data());
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const Exact dot = exact_dot(in.query(q), in.row(r), in.dim);
      const Exact gap = exact_l2(in.query(q), in.row(r), in.dim);
      expect_close(dots[r], dot, in.dim, level, "dot_rows", in.dim);
      expect_close(gaps[r], gap, in.dim + 3, level, "l2_rows", in.dim);
    }
  }
}

// The definition of the canonical sums, written once more.
double canonical(const float* a, const float* b, int64_t dim, bool dot) {
  double lane[8] = {};
  for (int64_t j = 0; j < dim; ++j) {
    const double x = a[j];
    const double y = b[j];
    const double gap = x - y;
    lane[j % 8] += dot ? x * y : gap * gap;
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

void expect_same_bits(double got, double want, const Kernels& level, const char* what,
                      int64_t dim) {
  CHECK(std::memcmp(&got, &want, sizeof got) == 0, "%s %s, dim %ld: %a is not %a", level.name, what,
        static_cast<long>(dim), got, want);
}

void check_canonical(const Kernels& level, const Case& in) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    const float* a = in.query(r % in.n_queries);
    const float* b = in.row(r);
    expect_same_bits(level.canonical_dot(a, b, in.dim), canonical(a, b, in.dim, true), level,
                     "canonical_dot", in.dim);
    expect_same_bits(level.canonical_sqdist(a, b, in.dim), canonical(a, b, in.dim, false), level,
                     "canonical_sqdist", in.dim);
  }
}

// Tiles and row kernels give the bits of one pair at a time.
void check_canonical_tiles(const Kernels& level, const Case& in) {
  const Floats panel(in.dim * kPanelRows);
  level.pack_panel(in.rows.data(), in.dim, panel.data());
  const Array<double> packed(in.dim * in.n_queries, 1);
  for (int64_t j = 0; j < in.dim; ++j) {
    for (int64_t q = 0; q < in.n_queries; ++q) {
      packed[j * in.n_queries + q] = in.query(q)[j];
    }
  }
  const Array<double> dots(in.n_queries * kPanelRows, 1);
  const Array<double> gaps(in.n_queries * kPanelRows, 1);
  level.canonical_dot_panel(panel.data(), packed.data(), in.dim, in.n_queries, dots.data());
  level.canonical_sqdist_panel(panel.data(), packed.data(), in.dim, in.n_queries, gaps.data());
  const Array<double> row_dots(kPanelRows, 1);
  const Array<double> row_gaps(kPanelRows, 1);
  for (int64_t q = 0; q < in.n_queries; ++q) {
    level.canonical_dot_rows(in.query(q), in.rows.data(), in.dim, row_dots.data());
    level.canonical_sqdist_rows(in.query(q), in.rows.data(), in.dim, row_gaps.data());
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const double dot = level.canonical_dot(in.query(q), in.row(r), in.dim);
      const double gap = level.canonical_sqdist(in.query(q), in.row(r), in.dim);
      const int64_t at = q * kPanelRows + r;
      expect_same_bits(dots[at], dot, level, "canonical_dot_panel", in.dim);
      expect_same_bits(gaps[at], gap, level, "canonical_sqdist_panel", in.dim);
      expect_same_bits(row_dots[r], dot, level, "canonical_dot_rows", in.dim);
      expect_same_bits(row_gaps[r], gap, level, "canonical_sqdist_rows", in.dim);
    }
  }
}

// Small integers again: nothing rounds, fused or not.
void check_sum_hits(const Kernels& level) {
  const auto small = [](int64_t size) {
    return static_cast<int64_t>(g_random() % static_cast<uint64_t>(2 * size + 1)) - size;
  };
  const Array<double> scale(kPanelRows, 1);
  const Floats bias(kPanelRows, 3);
  for (int round = 0; round < 500; ++round) {
    const int64_t n_queries = 1 + round % kTileQueries;
    const Array<double> sums(n_queries * kPanelRows, 1);
    const Array<double> weight(n_queries);
    const Array<double> limit(n_queries);
    const Array<uint32_t> masks(n_queries);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      scale[r] = g_random() % 40 == 0 ? std::nan("") : static_cast<double>(small(2));
      bias[r] = static_cast<float>(small(2));
    }
    for (int64_t i = 0; i < n_queries * kPanelRows; ++i) sums[i] = static_cast<double>(small(3));
    for (int64_t q = 0; q < n_queries; ++q) {
      weight[q] = static_cast<double>(small(2));
      limit[q] = round % 3 == 0 ? 10.0 : static_cast<double>(small(4));
      if (q % 5 == 4) limit[q] = -std::numeric_limits<double>::infinity();
    }
    const bool biased = round % 2 == 1;
    const recengine::SumTest test{sums.data(), scale.data(), biased ? bias.data() : nullptr,
                                  weight.data(), limit.data()};
    const bool any = level.sum_hits(test, n_queries, masks.data());
    uint32_t joined = 0;
    for (int64_t q = 0; q < n_queries; ++q) {
      uint32_t want = 0;
      for (int64_t r = 0; r < kPanelRows; ++r) {
        const double bound =
            sums[q * kPanelRows + r] * scale[r] + (biased ? weight[q] * double{bias[r]} : 0.0);
        if (!(bound <= limit[q])) want |= uint32_t{1} << r;
      }
      CHECK(masks[q] == want, "%s sum_hits, round %d, query %ld: %08x is not %08x", level.name,
            round, static_cast<long>(q), masks[q], want);
      joined |= want;
    }
    CHECK(any == (joined != 0), "%s sum_hits, round %d: any is %d", level.name, round, any);
  }
}

// Small integers: no level rounds, so all must agree with the definition, also on the boundary.
void check_hits(const Kernels& level) {
  const Floats parts[4] = {Floats(kPanelRows, 1), Floats(kPanelRows, 3), Floats(kPanelRows, 5),
                           Floats(kPanelRows, 7)};
  const auto small = [] { return static_cast<float>(static_cast<int>(g_random() % 9) - 4); };
  for (int round = 0; round < 2000; ++round) {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      parts[0][r] = small();
      parts[1][r] = static_cast<float>(g_random() % 3);
      parts[2][r] = static_cast<float>(g_random() % 4);
      parts[3][r] = small();
      if (g_random() % 40 == 0) parts[0][r] = std::numeric_limits<float>::quiet_NaN();
      if (g_random() % 40 == 0) parts[0][r] = -std::numeric_limits<float>::infinity();
    }
    HitTest test{parts[0].data(), nullptr, nullptr, nullptr, 0, 0, small()};
    if (round & 1) test.scale = parts[1].data();
    if (round & 2) test.norm = parts[2].data();
    if (round & 4) test.bias = parts[3].data();
    test.slope = static_cast<float>(g_random() % 3);
    test.margin = static_cast<float>(g_random() % 3);
    const bool all = test.norm != nullptr && round % 16 == 15;
    if (all) test.slope = std::numeric_limits<float>::infinity();
    uint32_t want = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const double score = test.scores[r] * (test.scale ? double{test.scale[r]} : 1.0);
      const double slack = (test.norm ? double{test.slope} * test.norm[r] : 0.0) + test.margin +
                           (test.bias ? test.bias[r] : 0.0f);
      if (std::isinf(test.scores[r]) || !(score + slack <= test.threshold))
        want |= uint32_t{1} << r;
    }
    const uint32_t got = level.hits(test);
    CHECK(got == want, "%s hits, round %d: %08x is not %08x", level.name, round, got, want);
  }
}

}  // namespace

int main() {
  std::vector<int64_t> dims;
  for (int64_t dim = 0; dim <= 67; ++dim) dims.push_back(dim);
  for (const int64_t dim : {96, 127, 128, 384, 1001}) dims.push_back(dim);
  for (const Kernels* level : recengine::available_levels()) {
    for (const int64_t dim : dims) {
      for (const Kind kind : kKinds) {
        const Case in(dim, 1 + (dim + static_cast<int64_t>(kind)) % kTileQueries, kind);
        check_panels(*level, in);
        check_rows(*level, in);
        check_canonical(*level, in);
        check_canonical_tiles(*level, in);
      }
    }
    for (int64_t n_queries = 1; n_queries <= kTileQueries; ++n_queries) {
      check_panels(*level, Case(21, n_queries, Kind::kNormal));
      check_canonical_tiles(*level, Case(21, n_queries, Kind::kCancelling));
    }
    check_hits(*level);
    check_sum_hits(*level);
    std::printf("kernels %s: ok\n", level->name);
  }
  return 0;
}
