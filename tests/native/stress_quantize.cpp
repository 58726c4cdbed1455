// Coding rows into panels, in arrays of exactly the promised length: every tail of rows and dims,
// every size of number, under each metric; what the scan relies on is checked as it stands.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "core/quantize.h"
#include "core/types.h"

namespace {

using recengine::CodeSource;
using recengine::CodeTable;
using recengine::kPanelBytes;
using recengine::kPanelRows;
using recengine::Metric;
using recengine::PanelFacts;

std::mt19937_64 g_random(20240609);

constexpr double kScales[] = {1.0, 1e-42, 1e-30, 1e30, 0.0};

float value(double scale) {
  std::normal_distribution<double> normal;
  return static_cast<float>(normal(g_random) * scale);
}

void check(int64_t n, int64_t dim, Metric metric, double scale, bool ordered, bool level) {
  const int64_t n_panels = (n + kPanelRows - 1) / kPanelRows;
  const int64_t slots = n_panels * kPanelRows;
  const int64_t pairs = recengine::code_pairs(dim);
  const int64_t stride = recengine::high_stride(pairs);
  const Array<float> rows(n * dim, 1);
  const Array<double> sq_norm(n);
  const Array<double> mean(dim);
  const Array<int64_t> order(n);
  const Array<int32_t> laid(n);
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    sq_norm[i] = 0;
    for (int64_t j = 0; j < dim; ++j) {
      const float x = value(scale);
      rows[i * dim + j] = x;
      sq_norm[i] += static_cast<double>(x) * x;
    }
    largest = std::max(largest, sq_norm[i]);
    order[i] = n - 1 - i;
  }
  int exponent = 0;
  std::frexp(std::sqrt(largest), &exponent);
  const double unit = metric == Metric::kCosine || largest == 0 ? 1 : std::ldexp(1.0, -exponent);
  CodeSource source{};
  source.rows = {rows.data(), dim, recengine::Storage::kFloat32};
  source.sq_norm = sq_norm.data();
  source.mean = mean.data();
  source.order = ordered ? order.data() : nullptr;
  source.unit = unit;
  source.n = n;
  source.dim = dim;
  source.metric = metric;
  for (int64_t j = 0; j < dim; ++j) mean[j] = 0;
  recengine::add_rows(source, 0, n, mean.data());
  for (int64_t j = 0; j < dim; ++j) mean[j] = level ? 0 : mean[j] / static_cast<double>(n);
  source.shares = level;
  source.sorts = level && !ordered;

  const Array<uint8_t> high(n_panels * stride);
  const Array<uint8_t> low(n_panels * pairs * kPanelBytes);
  const Array<float> residual(2 * slots);
  const Array<float> length(2 * slots);
  recengine::quantize_panels(
      source, 0, n_panels,
      CodeTable{high.data(), low.data(), residual.data(), length.data(), slots});
  if (source.sorts) {
    const auto panel_of = [&high, stride, pairs](int64_t slot) {
      return reinterpret_cast<const PanelFacts*>(high.data() + slot / kPanelRows * stride +
                                                 pairs * kPanelBytes);
    };
    for (int64_t i = 0; i < n; ++i) laid[i] = panel_of(i)->rows[i % kPanelRows];
    std::sort(laid.data(), laid.data() + n);
    for (int64_t i = 0; i < n; ++i) {
      CHECK(laid[i] == i, "row %ld is not there once", static_cast<long>(i));
    }
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int64_t panel = slot / kPanelRows;
    const int64_t r = slot % kPanelRows;
    const uint8_t* top = high.data() + panel * stride;
    const uint8_t* rest = low.data() + panel * pairs * kPanelBytes;
    double square[2] = {0, 0};
    for (int64_t j = 0; j < pairs * 8; ++j) {
      const int64_t at = j / 8 * kPanelBytes + r * 4 + j % 4;
      const int shift = j % 8 < 4 ? 0 : 4;
      const int upper = (top[at] >> shift) & 15;
      const int code = 16 * upper + ((rest[at] >> shift) & 15) - 128;
      CHECK(code >= -127 && (slot < n && j < dim ? code <= 127 : code == 0), "code %d", code);
      const double coarse = j < dim && slot < n ? 16 * upper - 120.5 : 0;
      square[0] += static_cast<double>(code) * code;
      square[1] += coarse * coarse;
    }
    const auto* facts = reinterpret_cast<const PanelFacts*>(top + pairs * kPanelBytes);
    const float inverse_step = facts->inverse_step[r];
    CHECK(std::isfinite(inverse_step) && inverse_step > 0, "1 / step");
    CHECK(inverse_step <= 0x1p60F, "1 / step is %g", static_cast<double>(inverse_step));
    for (int64_t grid = 0; grid < 2; ++grid) {
      const float lost = residual[grid * slots + slot];
      const float size = length[grid * slots + slot];
      const float bias = source.sorts ? 0 : facts->bias[r];
      CHECK(std::isfinite(bias) && std::isfinite(lost), "bias, residual");
      CHECK(size >= std::sqrt(square[grid]), "length");
      if (slot >= n) continue;
      const float* bound = facts->bounds[grid];
      CHECK(bound[recengine::kMaxResidual] >= lost && bound[recengine::kMaxLength] >= size &&
                bound[recengine::kMaxInverse] >= inverse_step &&
                bound[recengine::kMaxBias] >= std::fabs(bias) &&
                bound[recengine::kMinInverse] <= inverse_step && bound[recengine::kMinInverse] > 0,
            "bounds of panel %ld", static_cast<long>(panel));
    }
  }
}

}  // namespace

int main() {
  for (const Metric metric : {Metric::kCosine, Metric::kDot, Metric::kL2}) {
    for (const double scale : kScales) {
      for (const int64_t n : {1, 31, 32, 33, 70, 1100}) {
        for (const int64_t dim : {1, 2, 3, 4, 5, 8, 63, 129}) {
          check(n, dim, metric, scale, dim % 2, false);
          if (metric != Metric::kL2) check(n, dim, metric, scale, dim % 3 == 0, true);
        }
      }
    }
  }
  std::printf("quantize all: ok\n");
  return 0;
}
