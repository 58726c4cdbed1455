// Int8 codes of an index's items, and what the certified scan must know about their error.
//
// With y the item (cosine: x/|x|), mu the mean of all y, z = (y - mu) 2^-exponent and a step s > 0,
// the codes are c = rint(z / s), so that |z - s c| is known and small. Everything is kept in units
// of the step, where the scan compares integers.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace recengine {

// Where the codes of rows go; slots are padded to whole panels of 32.
struct CodeTable {
  uint8_t* panels;      // [n_panels][groups][32][4]: code + 128 of 4 dims of one row
  float* inverse_step;  // [slots] 1 / s
  float* bias;          // [slots] mu'.z / s, or -|z|^2 / 2 / s under l2
  float* residual;      // [slots] >= |z - s c| / s
  float* length;        // [slots] >= |c|
  float* panel_bounds;  // [n_panels][4]: max residual, max length, max 1/s, max |bias|
};

struct CodeSource {
  const float* rows;      // [n][dim]
  const double* sq_norm;  // [n] canonical x.x; read under cosine
  const double* mean;     // [dim] of y 2^-exponent
  const int64_t* order;   // [n] the row of each slot, or null where slots are rows
  double unit;            // 2^-exponent
  int64_t n;
  int64_t dim;
  Metric metric;
};

// Groups of 4 dims that a row of codes takes.
inline int64_t code_groups(int64_t dim) { return (dim + 3) / 4; }

// post: sum[j] += y_ij over rows [first, last), in row order. cost: one pass over the rows.
void add_rows(const CodeSource& source, int64_t first, int64_t last, double* sum);

// Codes of panels [first, last). pre: panels lie within the padded table.
// numerics: residual, length and the bounds are rounded up; z is formed in float64.
void quantize_panels(const CodeSource& source, int64_t first, int64_t last, const CodeTable& table);

}  // namespace recengine
