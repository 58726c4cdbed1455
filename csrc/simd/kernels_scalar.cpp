// The reference: what every other level must agree with, in plain C++ for the baseline ISA.
#include <cmath>
#include <cstring>
#include <limits>

#include "core/types.h"
#include "simd/kernels.h"

namespace recengine {

namespace {

void pack_panel(const float* const* rows, int64_t dim, float* panel) {
  for (int64_t j = 0; j < dim; ++j) {
    for (int64_t r = 0; r < kPanelRows; ++r) panel[j * kPanelRows + r] = rows[r][j];
  }
}

void dot_panel(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
               float* out) {
  std::memset(out, 0, static_cast<size_t>(n_queries * kPanelRows) * sizeof(float));
  for (int64_t j = 0; j < dim; ++j) {
    const float* items = panel + j * kPanelRows;
    for (int64_t q = 0; q < n_queries; ++q) {
      const float value = queries[j * n_queries + q];
      float* sums = out + q * kPanelRows;
      for (int64_t r = 0; r < kPanelRows; ++r) sums[r] += value * items[r];
    }
  }
}

void l2_panel(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
              float* out) {
  std::memset(out, 0, static_cast<size_t>(n_queries * kPanelRows) * sizeof(float));
  for (int64_t j = 0; j < dim; ++j) {
    const float* items = panel + j * kPanelRows;
    for (int64_t q = 0; q < n_queries; ++q) {
      const float value = queries[j * n_queries + q];
      float* sums = out + q * kPanelRows;
      for (int64_t r = 0; r < kPanelRows; ++r) {
        const float gap = value - items[r];
        sums[r] -= gap * gap;
      }
    }
  }
}

void dot_rows(const float* query, const float* const* rows, int64_t dim, float* out) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    float lanes[4] = {0, 0, 0, 0};
    int64_t j = 0;
    for (; j + 4 <= dim; j += 4) {
      for (int64_t lane = 0; lane < 4; ++lane) lanes[lane] += query[j + lane] * rows[r][j + lane];
    }
    for (; j < dim; ++j) lanes[0] += query[j] * rows[r][j];
    out[r] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  }
}

void l2_rows(const float* query, const float* const* rows, int64_t dim, float* out) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    float lanes[4] = {0, 0, 0, 0};
    for (int64_t j = 0; j < dim; ++j) {
      const float gap = query[j] - rows[r][j];
      lanes[j & 3] += gap * gap;
    }
    out[r] = -((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
  }
}

uint32_t hits(const HitTest& test) {
  uint32_t mask = 0;
  for (int64_t r = 0; r < kPanelRows; ++r) {
    float bound = test.scores[r];
    if (test.scale != nullptr) bound *= test.scale[r];
    float slack = test.margin;
    if (test.norm != nullptr) slack += test.slope * test.norm[r];
    if (test.bias != nullptr) slack += test.bias[r];
    const bool overflowed = test.scores[r] == -std::numeric_limits<float>::infinity();
    if (overflowed || !(bound + slack <= test.threshold)) mask |= uint32_t{1} << r;
  }
  return mask;
}

void dot_codes(const uint8_t* high, const uint8_t* low, const int32_t* queries, int64_t pairs,
               int64_t n_queries, int32_t* out) {
  std::memset(out, 0, static_cast<size_t>(n_queries * kPanelRows) * sizeof(int32_t));
  for (int64_t g = 0; g < 2 * pairs; ++g) {
    const int64_t first = g / 2 * kPanelBytes;
    const int shift = g % 2 == 0 ? 0 : 4;
    for (int64_t q = 0; q < n_queries; ++q) {
      int8_t codes[4];
      std::memcpy(codes, queries + g * n_queries + q, 4);
      for (int64_t r = 0; r < kPanelRows; ++r) {
        int32_t sum = 0;
        for (int64_t b = 0; b < 4; ++b) {
          const int64_t at = first + r * 4 + b;
          int32_t item = ((high[at] >> shift) & 15) * 16;
          if (low != nullptr) item += (low[at] >> shift) & 15;
          sum += item * codes[b];
        }
        out[q * kPanelRows + r] += sum;
      }
    }
  }
}

bool code_hits(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
               int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    const float slack = queries.delta[q] * panel.bounds[0] + queries.epsilon[q] * panel.bounds[1] +
                        queries.zeta[q] * panel.bounds[2] + queries.eta[q] * panel.bounds[3] -
                        queries.offset[q];
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      float alpha = queries.alpha[q];
      if (panel.boost != nullptr) alpha -= queries.gamma[q] * panel.boost[r];
      const float limit = (panel.inverse_step[r] * alpha - slack) - panel.bias[r] * queries.beta[q];
      if (!(static_cast<float>(raw[q * kPanelRows + r]) <= limit)) mask |= uint32_t{1} << r;
    }
    masks[q] = mask;
    any |= mask;
  }
  return any != 0;
}

// Limits are cut off where no sum reaches; one that is not a number becomes the lowest.
void code_limits(const CodePanel& panel, const CodeQueries& queries, int32_t* limits) {
  for (int64_t q = 0; q < 16; ++q) {
    const float slack = queries.delta[q] * panel.bounds[0] + queries.epsilon[q] * panel.bounds[1] +
                        queries.zeta[q] * panel.bounds[2] + queries.eta[q] * panel.bounds[3] -
                        queries.offset[q];
    const float limit = panel.bounds[2] * queries.alpha[q] - slack;
    const float above = limit > -kLargestSum ? limit : -kLargestSum;
    limits[q] = static_cast<int32_t>(std::floor(above < kLargestSum ? above : kLargestSum)) + 1;
  }
}

bool raw_hits(const int32_t* raw, const int32_t* limits, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    uint32_t mask = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      if (raw[q * kPanelRows + r] >= limits[q]) mask |= uint32_t{1} << r;
    }
    masks[q] = mask;
    any |= mask;
  }
  return any != 0;
}

// A number of lanes that is known lets the compiler take whole vectors.
template <int64_t kLanes>
void keep_larger(const float* a, const float* b, float* larger) {
  for (int64_t j = 0; j < kLanes; ++j) larger[j] = a[j] < b[j] ? b[j] : a[j];
}

float panel_best(const int32_t* raw, const float* step, const float* bias, float offset, float beta,
                 float* scores) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    scores[r] = (static_cast<float>(raw[r]) - offset + beta * bias[r]) * step[r];
  }
  float best[kPanelRows / 2];
  keep_larger<16>(scores, scores + 16, best);
  keep_larger<8>(best, best + 8, best);
  keep_larger<4>(best, best + 4, best);
  keep_larger<2>(best, best + 2, best);
  keep_larger<1>(best, best + 1, best);
  return best[0];
}

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

double canonical_dot(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t j = 0; j < dim; ++j) {
    lanes[j & 7] += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  }
  return add_lanes(lanes);
}

double canonical_sqdist(const float* a, const float* b, int64_t dim) {
  double lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t j = 0; j < dim; ++j) {
    const double gap = static_cast<double>(a[j]) - static_cast<double>(b[j]);
    lanes[j & 7] += gap * gap;
  }
  return add_lanes(lanes);
}

struct CanonicalDot {
  static double term(double a, double b) { return a * b; }
};

struct CanonicalSquares {
  static double term(double a, double b) { return (a - b) * (a - b); }
};

template <class Op>
void canonical_panel(const float* panel, const double* queries, int64_t dim, int64_t n_queries,
                     double* sums) {
  constexpr int64_t kItems = 4;  // whose lanes are kept at once
  for (int64_t q = 0; q < n_queries; ++q) {
    for (int64_t first = 0; first < kPanelRows; first += kItems) {
      double lanes[8][kItems] = {};
      for (int64_t j = 0; j < dim; ++j) {
        const double value = queries[j * n_queries + q];
        const float* items = panel + j * kPanelRows + first;
        for (int64_t r = 0; r < kItems; ++r) {
          lanes[j & 7][r] += Op::term(value, static_cast<double>(items[r]));
        }
      }
      for (int64_t r = 0; r < kItems; ++r) {
        const double lane[8] = {lanes[0][r], lanes[1][r], lanes[2][r], lanes[3][r],
                                lanes[4][r], lanes[5][r], lanes[6][r], lanes[7][r]};
        sums[q * kPanelRows + first + r] = add_lanes(lane);
      }
    }
  }
}

void canonical_dot_rows(const float* query, const float* const* rows, int64_t dim, double* sums) {
  for (int64_t r = 0; r < kPanelRows; ++r) sums[r] = canonical_dot(query, rows[r], dim);
}

void canonical_sqdist_rows(const float* query, const float* const* rows, int64_t dim,
                           double* sums) {
  for (int64_t r = 0; r < kPanelRows; ++r) sums[r] = canonical_sqdist(query, rows[r], dim);
}

bool sum_hits(const SumTest& test, int64_t n_queries, uint32_t* masks) {
  uint32_t any = 0;
  for (int64_t q = 0; q < n_queries; ++q) {
    masks[q] = 0;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      double bound = test.sums[q * kPanelRows + r] * test.scale[r];
      if (test.bias != nullptr) bound += test.weight[q] * static_cast<double>(test.bias[r]);
      if (!(bound <= test.limit[q])) masks[q] |= uint32_t{1} << r;
    }
    any |= masks[q];
  }
  return any != 0;
}

}  // namespace

const Kernels kKernelsScalar = {"scalar",
                                127,
                                dot_codes,
                                code_hits,
                                code_limits,
                                raw_hits,
                                panel_best,
                                pack_panel,
                                dot_panel,
                                l2_panel,
                                dot_rows,
                                l2_rows,
                                hits,
                                canonical_dot,
                                canonical_sqdist,
                                canonical_panel<CanonicalDot>,
                                canonical_panel<CanonicalSquares>,
                                canonical_dot_rows,
                                canonical_sqdist_rows,
                                sum_hits};

}  // namespace recengine
