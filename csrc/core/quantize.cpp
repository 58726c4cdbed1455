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
constexpr double kAlike = 1.02;        // steps that need no sorting
constexpr double kSharedSorted = 1.5;  // steps share the largest up to this ratio, which costs
constexpr double kShared = 1.1;        // precision: in sorted windows few panels come near it

double row_scale(const CodeSource& source, int64_t row) {
  if (source.metric != Metric::kCosine) return source.unit;
  const double sq_norm = source.sq_norm[row];
  return sq_norm > 0 ? 1.0 / std::sqrt(sq_norm) : 0.0;
}

float rounded_up(double value) {
  return std::nextafter(static_cast<float>(value * kRoundUp),
                        std::numeric_limits<float>::infinity());
}

// A float32 step, so that the scan and this code speak of the same number.
double step_of(double largest) {
  return static_cast<double>(static_cast<float>(std::max(largest / 126.99, kSmallestStep)));
}

// The step of a row that has no mean taken off.
double own_step(const CodeSource& source, int64_t row, float* widened) {
  const float* x = row_at(source.rows, row, widened);
  float largest = 0;
  for (int64_t j = 0; j < source.dim; ++j) largest = std::max(largest, std::fabs(x[j]));
  return step_of(static_cast<double>(largest) * row_scale(source, row));
}

// What one row contributes beside its codes; residual and length on the fine and the coarse grid.
struct RowFacts {
  double inverse_step = 1;
  double bias = 0;
  double residual[2] = {0, 0};
  double length[2] = {0, 0};
};

// codes[0..dim) of one row, on a step no smaller than its own; z and widened are scratch.
RowFacts quantize_row(const CodeSource& source, int64_t row, double smallest_step, double* z,
                      float* widened, uint8_t* codes) {
  const float* x = row_at(source.rows, row, widened);
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
  const double step = std::max(step_of(largest), smallest_step);
  const double inverse = 1.0 / step;
  double lost[2] = {0, 0};
  int64_t length = 0;
  int64_t coarse_length = 0;  // of codes 2 c, which are integers
  for (int64_t j = 0; j < source.dim; ++j) {
    // Adding and taking away 1.5 * 2^52 rounds to the nearest integer.
    const double fine = (z[j] * inverse + 0x1.8p52) - 0x1.8p52;
    const auto code = static_cast<int32_t>(fine);
    const int32_t doubled = 2 * ((code + 128) & ~15) - 241;
    const double gap = z[j] - step * fine;
    const double coarse_gap = z[j] - step * (0.5 * doubled);
    lost[0] += gap * gap;
    lost[1] += coarse_gap * coarse_gap;
    codes[j] = static_cast<uint8_t>(code + 128);
    length += int64_t{code} * code;
    coarse_length += int64_t{doubled} * doubled;
  }
  RowFacts facts;
  facts.inverse_step = inverse;
  facts.bias = (source.metric == Metric::kL2 ? -0.5 * square : along) * inverse;
  for (int grid = 0; grid < 2; ++grid) facts.residual[grid] = std::sqrt(lost[grid]) * inverse;
  facts.length[0] = std::sqrt(static_cast<double>(length));
  facts.length[1] = 0.5 * std::sqrt(static_cast<double>(coarse_length));
  return facts;
}

// Four bits of either group of each pair go to each plane.
void put_row(const uint8_t* codes, int64_t pairs, int64_t r, uint8_t* high, uint8_t* low) {
  for (int64_t p = 0; p < pairs; ++p) {
    uint32_t first = 0;
    uint32_t second = 0;
    std::memcpy(&first, codes + 8 * p, 4);
    std::memcpy(&second, codes + 8 * p + 4, 4);
    const uint32_t top = ((first >> 4) & 0x0f0f0f0fU) | (second & 0xf0f0f0f0U);
    const uint32_t rest = (first & 0x0f0f0f0fU) | ((second << 4) & 0xf0f0f0f0U);
    std::memcpy(high + p * kPanelBytes + r * 4, &top, 4);
    std::memcpy(low + p * kPanelBytes + r * 4, &rest, 4);
  }
}

// Lets the bounds of a panel cover one row more.
void widen_bounds(const RowFacts& facts, const CodeTable& table, int64_t slot, PanelFacts* panel) {
  const int64_t r = slot % kPanelRows;
  for (int64_t grid = 0; grid < 2; ++grid) {
    float* bounds = panel->bounds[grid];
    const float residual = rounded_up(facts.residual[grid]);
    const float length = rounded_up(facts.length[grid]);
    if (table.residual != nullptr) {
      table.residual[grid * table.slots + slot] = residual;
      table.length[grid * table.slots + slot] = length;
    }
    const float smallest = r == 0 ? panel->inverse_step[r] : bounds[kMinInverse];
    bounds[kMaxResidual] = std::max(bounds[kMaxResidual], residual);
    bounds[kMaxLength] = std::max(bounds[kMaxLength], length);
    bounds[kMaxInverse] = std::max(bounds[kMaxInverse], panel->inverse_step[r]);
    bounds[kMaxBias] = std::max(bounds[kMaxBias], std::fabs(static_cast<float>(facts.bias)));
    bounds[kMinInverse] = std::min(smallest, panel->inverse_step[r]);
  }
}

// The rows of a window in the order of their slots, and the least step of each panel's codes.
struct Window {
  int64_t rows[kWindowRows];
  double steps[kWindowRows];
  double smallest_step[kWindowRows / kPanelRows];
};

// The step that rows [first, last) of a window share, or 0: rows without length take any.
double shared_step(const Window& window, int64_t first, int64_t last, double limit) {
  double low = std::numeric_limits<double>::infinity();
  double high = 0;
  for (int64_t i = first; i < last; ++i) {
    if (window.steps[i] <= kSmallestStep) continue;
    low = std::min(low, window.steps[i]);
    high = std::max(high, window.steps[i]);
  }
  return high <= limit * low ? high : 0;
}

void arrange(const CodeSource& source, int64_t slot, int64_t count, float* widened,
             Window* window) {
  for (int64_t i = 0; i < count; ++i) {
    window->rows[i] = source.order == nullptr ? slot + i : source.order[slot + i];
    window->steps[i] = source.shares ? own_step(source, window->rows[i], widened) : 0;
  }
  if (source.sorts && shared_step(*window, 0, count, kAlike) == 0) {
    int64_t by[kWindowRows];
    const Window as_given = *window;
    for (int64_t i = 0; i < count; ++i) by[i] = i;
    std::stable_sort(by, by + count, [&as_given](int64_t a, int64_t b) {
      return as_given.steps[a] > as_given.steps[b];
    });
    for (int64_t i = 0; i < count; ++i) {
      window->rows[i] = as_given.rows[by[i]];
      window->steps[i] = as_given.steps[by[i]];
    }
  }
  const double limit = source.sorts ? kSharedSorted : kShared;
  for (int64_t first = 0; first < count; first += kPanelRows) {
    const int64_t last = std::min(first + kPanelRows, count);
    window->smallest_step[first / kPanelRows] =
        source.shares ? shared_step(*window, first, last, limit) : 0;
  }
}

}  // namespace

void add_rows(const CodeSource& source, int64_t first, int64_t last, double* sum) {
  std::vector<float> widened(static_cast<size_t>(source.dim));
  for (int64_t slot = first; slot < last; ++slot) {
    const int64_t row = source.order == nullptr ? slot : source.order[slot];
    const float* x = row_at(source.rows, row, widened.data());
    const double scale = row_scale(source, row);
    for (int64_t j = 0; j < source.dim; ++j) sum[j] += static_cast<double>(x[j]) * scale;
  }
}

bool unsort(const CodeTable& table, int64_t n, int64_t dim) {
  const int64_t pairs = code_pairs(dim);
  const auto facts_of = [&table, pairs](int64_t panel) {
    return reinterpret_cast<PanelFacts*>(table.high + panel * high_stride(pairs) +
                                         pairs * kPanelBytes);
  };
  for (int64_t slot = 0; slot < n; ++slot) {
    if (facts_of(slot / kPanelRows)->rows[slot % kPanelRows] != slot) return false;
  }
  for (int64_t panel = 0; panel * kPanelRows < n; ++panel) {
    std::fill_n(facts_of(panel)->bias, kPanelRows, 0.0F);
  }
  return true;
}

void quantize_panels(const CodeSource& source, int64_t first, int64_t last,
                     const CodeTable& table) {
  const int64_t pairs = code_pairs(source.dim);
  std::vector<double> z(static_cast<size_t>(source.dim));
  std::vector<float> widened(static_cast<size_t>(source.dim));
  std::vector<uint8_t> codes(static_cast<size_t>(pairs * 8), uint8_t{128});
  Window window;
  for (int64_t panel = first; panel < last; ++panel) {
    uint8_t* high = table.high + panel * high_stride(pairs);
    uint8_t* low = table.low + panel * pairs * kPanelBytes;
    const int64_t at = panel * kPanelRows % kWindowRows;
    if (at == 0) {
      const int64_t slot = panel * kPanelRows;
      arrange(source, slot, std::min(kWindowRows, source.n - slot), widened.data(), &window);
    }
    PanelFacts facts{};
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const int64_t slot = panel * kPanelRows + r;
      RowFacts own;
      if (slot < source.n) {
        own = quantize_row(source, window.rows[at + r], window.smallest_step[at / kPanelRows],
                           z.data(), widened.data(), codes.data());
      } else {
        std::fill(codes.begin(), codes.end(), uint8_t{128});
      }
      put_row(codes.data(), pairs, r, high, low);
      facts.inverse_step[r] = static_cast<float>(own.inverse_step);
      if (source.sorts) {
        facts.rows[r] = slot < source.n ? static_cast<int32_t>(window.rows[at + r]) : 0;
      } else {
        facts.bias[r] = static_cast<float>(own.bias);
      }
      if (slot < source.n) {
        widen_bounds(own, table, slot, &facts);
      } else if (table.residual != nullptr) {
        for (int64_t grid = 0; grid < 2; ++grid) {
          table.residual[grid * table.slots + slot] = 0;
          table.length[grid * table.slots + slot] = 0;
        }
      }
    }
    std::memcpy(high + pairs * kPanelBytes, &facts, sizeof facts);
  }
}

}  // namespace recengine
