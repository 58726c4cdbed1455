// Coding rows into panels, in arrays of exactly the promised length: every tail of rows and dims,
// every size of number, under each metric; what the scan relies on is checked as it stands.
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
using recengine::kPanelRows;
using recengine::Metric;

std::mt19937_64 g_random(20240609);

constexpr double kScales[] = {1.0, 1e-42, 1e-30, 1e30, 0.0};

float value(double scale) {
  std::normal_distribution<double> normal;
  return static_cast<float>(normal(g_random) * scale);
}

void check(int64_t n, int64_t dim, Metric metric, double scale, bool ordered) {
  const int64_t n_panels = (n + kPanelRows - 1) / kPanelRows;
  const int64_t slots = n_panels * kPanelRows;
  const int64_t groups = recengine::code_groups(dim);
  const Array<float> rows(n * dim, 1);
  const Array<double> sq_norm(n);
  const Array<double> mean(dim);
  const Array<int64_t> order(n);
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
  source.rows = rows.data();
  source.sq_norm = sq_norm.data();
  source.mean = mean.data();
  source.order = ordered ? order.data() : nullptr;
  source.unit = unit;
  source.n = n;
  source.dim = dim;
  source.metric = metric;
  for (int64_t j = 0; j < dim; ++j) mean[j] = 0;
  recengine::add_rows(source, 0, n, mean.data());
  for (int64_t j = 0; j < dim; ++j) mean[j] /= static_cast<double>(n);

  const Array<uint8_t> panels(slots * groups * 4);
  const Array<float> inverse_step(slots);
  const Array<float> bias(slots);
  const Array<float> residual(slots);
  const Array<float> length(slots);
  const Array<float> bounds(n_panels * 4);
  recengine::quantize_panels(source, 0, n_panels,
                             CodeTable{panels.data(), inverse_step.data(), bias.data(),
                                       residual.data(), length.data(), bounds.data()});
  for (int64_t slot = 0; slot < slots; ++slot) {
    const uint8_t* first = panels.data() + slot / kPanelRows * groups * kPanelRows * 4;
    double square = 0;
    for (int64_t j = 0; j < groups * 4; ++j) {
      const int code = first[(j / 4 * kPanelRows + slot % kPanelRows) * 4 + j % 4] - 128;
      CHECK(code >= -127 && (slot < n && j < dim ? code <= 127 : code == 0), "code %d", code);
      square += static_cast<double>(code) * code;
    }
    CHECK(std::isfinite(inverse_step[slot]) && inverse_step[slot] > 0, "1 / step");
    CHECK(inverse_step[slot] <= 0x1p60F, "1 / step is %g", static_cast<double>(inverse_step[slot]));
    CHECK(std::isfinite(bias[slot]) && std::isfinite(residual[slot]), "bias, residual");
    CHECK(length[slot] >= std::sqrt(square), "length");
    if (slot >= n) continue;
    const float* bound = bounds.data() + slot / kPanelRows * 4;
    CHECK(bound[0] >= residual[slot] && bound[1] >= length[slot] &&
              bound[2] >= inverse_step[slot] && bound[3] >= std::fabs(bias[slot]),
          "bounds of panel %ld", static_cast<long>(slot / kPanelRows));
  }
}

}  // namespace

int main() {
  for (const Metric metric : {Metric::kCosine, Metric::kDot, Metric::kL2}) {
    for (const double scale : kScales) {
      for (const int64_t n : {1, 31, 32, 33, 70}) {
        for (const int64_t dim : {1, 2, 3, 4, 5, 8, 63, 129}) check(n, dim, metric, scale, dim % 2);
      }
    }
  }
  std::printf("quantize all: ok\n");
  return 0;
}
