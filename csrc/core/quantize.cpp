#include "core/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace recengine {

namespace {

constexpr double kSmallestStep = 0x1p-60;  // keeps 1 / step and bias / step far inside float32
constexpr double kRoundUp = 1.0 + 0x1p-20;

double row_scale(const CodeSource& source, int64_t row) {
  if (source.metric != Metric::kCosine) return source.unit;
  const double sq_norm = source.sq_norm[row];
  return sq_norm > 0 ? 1.0 / std::sqrt(sq_norm) : 0.0;
}

float rounded_up(double value) {
  return std::nextafter(static_cast<float>(value * kRoundUp),
                        std::numeric_limits<float>::infinity());
}

// What one row contributes beside its codes.
struct RowFacts {
  double inverse_step = 1;
  double bias = 0;
  double residual = 0;
  double length = 0;
};

// codes[0..dim) of one row; z is scratch.
RowFacts quantize_row(const CodeSource& source, int64_t row, double* z, int8_t* codes) {
  const float* x = source.rows + row * source.dim;
  const double scale = row_scale(source, row);
  double largest = 0;
  double along = 0;
  double square = 0;
  for (int64_t j = 0; j < source.dim; ++j) {
    z[j] = static_cast<double>(x[j]) * scale - source.mean[j];
    largest = std::max(largest, std::fabs(z[j]));
  }
  for (int64_t j = 0; j < source.dim; ++j) {
    along += source.mean[j] * z[j];
    square += z[j] * z[j];
  }
  // A float32 step, so that the scan and this code speak of the same number.
  const double step =
      static_cast<double>(static_cast<float>(std::max(largest / 126.99, kSmallestStep)));
  const double inverse = 1.0 / step;
  double lost = 0;
  int64_t length = 0;
  for (int64_t j = 0; j < source.dim; ++j) {
    // Adding and taking away 1.5 * 2^52 rounds to the nearest integer.
    const double code = (z[j] * inverse + 0x1.8p52) - 0x1.8p52;
    const double gap = z[j] - step * code;
    lost += gap * gap;
    codes[j] = static_cast<int8_t>(code);
    length += static_cast<int64_t>(codes[j]) * codes[j];
  }
  RowFacts facts;
  facts.inverse_step = inverse;
  facts.bias = (source.metric == Metric::kL2 ? -0.5 * square : along) * inverse;
  facts.residual = std::sqrt(lost) * inverse;
  facts.length = std::sqrt(static_cast<double>(length));
  return facts;
}

}  // namespace

void add_rows(const CodeSource& source, int64_t first, int64_t last, double* sum) {
  for (int64_t row = first; row < last; ++row) {
    const float* x = source.rows + row * source.dim;
    const double scale = row_scale(source, row);
    for (int64_t j = 0; j < source.dim; ++j) sum[j] += static_cast<double>(x[j]) * scale;
  }
}

void quantize_panels(const CodeSource& source, int64_t first, int64_t last,
                     const CodeTable& table) {
  const int64_t groups = code_groups(source.dim);
  std::vector<double> z(static_cast<size_t>(source.dim));
  std::vector<int8_t> codes(static_cast<size_t>(groups * 4), 0);
  for (int64_t panel = first; panel < last; ++panel) {
    uint8_t* bytes = table.panels + panel * groups * kPanelRows * 4;
    float* bounds = table.panel_bounds + panel * 4;
    std::fill_n(bounds, 4, 0.0F);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const int64_t slot = panel * kPanelRows + r;
      RowFacts facts;
      if (slot < source.n) {
        const int64_t row = source.order == nullptr ? slot : source.order[slot];
        facts = quantize_row(source, row, z.data(), codes.data());
      } else {
        std::fill(codes.begin(), codes.end(), static_cast<int8_t>(0));
      }
      for (int64_t g = 0; g < groups; ++g) {
        uint32_t word = 0;
        std::memcpy(&word, codes.data() + 4 * g, 4);
        word ^= 0x80808080U;  // code + 128
        std::memcpy(bytes + (g * kPanelRows + r) * 4, &word, 4);
      }
      table.inverse_step[slot] = static_cast<float>(facts.inverse_step);
      table.bias[slot] = static_cast<float>(facts.bias);
      table.residual[slot] = rounded_up(facts.residual);
      table.length[slot] = rounded_up(facts.length);
      if (slot >= source.n) continue;
      bounds[0] = std::max(bounds[0], table.residual[slot]);
      bounds[1] = std::max(bounds[1], table.length[slot]);
      bounds[2] = std::max(bounds[2], table.inverse_step[slot]);
      bounds[3] = std::max(bounds[3], std::fabs(table.bias[slot]));
    }
  }
}

}  // namespace recengine
