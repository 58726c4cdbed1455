// Int8 codes of an index's items, and what the certified scan must know about their error.
//
// With y the item (cosine: x/|x|), mu the mean of all y, z = (y - mu) 2^-exponent and a step s > 0,
// the codes are c = rint(z / s), so that |z - s c| is known and small. Everything is kept in units
// of the step, where the scan compares integers.
#pragma once

#include <cstdint>

#include "core/half.h"
#include "core/types.h"

namespace recengine {

// Codes lie in two planes, c + 128 = 16 h + l, four bits of a dim in each: the coarse grid reads
// the high plane alone, h standing for c = 16 h - 120.5. A panel of the high plane is followed by
// what else a scan reads of it, so that a query reads one stream.
struct PanelFacts {
  float inverse_step[kPanelRows];  // 1 / s
  union {
    float bias[kPanelRows];    // mu'.z / s, or -|z|^2 / 2 / s under l2
    int32_t rows[kPanelRows];  // of tables that are sorted, which have no bias
  };
  float bounds[2][8];  // on the fine and on the coarse grid: see PanelBound
};
static_assert(sizeof(PanelFacts) % 64 == 0, "panels start at cache lines");

alignas(64) inline constexpr float kNoBias[kPanelRows] = {};

// The bias of a panel's rows, wherever its place in the facts names rows instead.
inline const float* bias_of(const PanelFacts& facts, bool rows_inside) {
  return rows_inside ? kNoBias : facts.bias;
}

// Places in PanelFacts::bounds: of all rows of a panel.
enum PanelBound {
  kMaxResidual,  // >= |z - s c| / s
  kMaxLength,    // >= |c|
  kMaxInverse,   // 1 / s
  kMaxBias,      // |bias|
  kMinInverse
};

// Where the codes of rows go; slots are padded to whole panels of 32.
struct CodeTable {
  uint8_t* high;    // [n_panels]: [pairs][32][4] bytes, then PanelFacts
  uint8_t* low;     // [n_panels][pairs][32][4]
  float* residual;  // [2][slots] >= |z - s c| / s on the fine and on the coarse grid; null likewise
  float* length;    // [2][slots] >= |c|
  int64_t slots;
};

struct CodeSource {
  Rows rows;              // [n][dim]
  const double* sq_norm;  // [n] canonical x.x; read under cosine
  const double* mean;     // [dim] of y 2^-exponent, or zeros
  const int64_t* order;   // [n] the row of each slot, or null where slots are rows
  double unit;            // 2^-exponent
  int64_t n;              // slots
  int64_t dim;
  Metric metric;
  bool shares;  // steps within panels; pre: the mean is 0, and the metric not l2
  bool sorts;   // windows by step; pre: shares, without an order
};

// Pairs of groups of 4 dims that a row of codes takes: a byte holds 4 bits of either group.
inline int64_t code_pairs(int64_t dim) { return (dim + 7) / 8; }

// Without a mean there is no bias, and a panel whose rows share one step is tested by one integer a
// query (see simd/kernels.h): then rows of nearly equal steps share the largest. Where slots are
// free, rows are laid out by step within windows of so many, so that most panels come to that;
// which row a slot holds stands in its panel.
inline constexpr int64_t kWindowRows = 32 * kPanelRows;

// Bytes from one panel of the high plane to the next.
inline int64_t high_stride(int64_t pairs) {
  return pairs * kPanelBytes + static_cast<int64_t>(sizeof(PanelFacts));
}

// post: sum[j] += y_ij over slots [first, last), in their order. cost: one pass over the rows.
void add_rows(const CodeSource& source, int64_t first, int64_t last, double* sum);

// Whether the slots of a sorted table hold rows as they are; then its panels get their bias, zeros.
bool unsort(const CodeTable& table, int64_t n, int64_t dim);

// Codes of panels [first, last). pre: panels lie within the padded table; first is that of a
// window. numerics: residual, length and the bounds are rounded up; z is formed in float64.
void quantize_panels(const CodeSource& source, int64_t first, int64_t last, const CodeTable& table);

}  // namespace recengine
