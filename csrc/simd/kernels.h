// The table of kernels: one instance per instruction set, chosen once by dispatch.
//
// Two kinds stand here. The *nominating* kernels (float32, panels of 32 items) only propose items;
// their error is bounded in retrieval/_float_scan.pyx. The *canonical* kernels (float64, 8 lanes,
// fixed tree) decide: they give the same bits at every level, one pair at a time or 32 items at
// once.
#pragma once

#include <cstdint>

namespace recengine {

// Which of 32 nominated scores can still enter the answer.
struct HitTest {
  const float* scores;  // [32] from a dot or l2 kernel
  const float* scale;   // [32] per-item factor, or null for 1
  const float* norm;    // [32] per-item norm that `slope` multiplies, or null for 0
  const float* bias;    // [32] per-item addend, or null for 0
  float slope;          // >= 0, may be +inf: then every item is a hit
  float margin;         // >= 0
  float threshold;      // score that must be exceeded
};

// Which of 32 items can still enter the answers of some queries, by their canonical sums. The bound
// stands in retrieval/_sum_scan.pyx.
struct SumTest {
  const double* sums;    // [n_queries][32] from a canonical tile
  const double* scale;   // [32] per-item factor
  const float* bias;     // [32] per-item addend, or null for 0
  const double* weight;  // [n_queries] of the bias
  const double* limit;   // [n_queries] what must be exceeded
};

// Per query, 16 slots of which the first n_queries count: coefficients of the certified test.
// In units of (query step x item step) item r of a panel is dropped only if
//   raw - offset + beta bias_r + delta E + epsilon H + zeta S + eta B
//       <=  (alpha - gamma boost_r) / step_r
// with E, H, S, B the panel's bounds; the proof stands in retrieval/_code_scan.pyx.
struct alignas(64) CodeQueries {
  float alpha[16];
  float beta[16];
  float delta[16];
  float epsilon[16];
  float zeta[16];
  float eta[16];
  float offset[16];
  float gamma[16];  // of the boost
};

struct CodePanel {
  const float* inverse_step;  // [32]
  const float* bias;          // [32]
  const float* bounds;        // [8], see PanelBound in core/quantize.h
  const float* boost;         // [32] added to scores, or null
};

// Sums of codes stay below this where limits are integers; a power of two, so that it is exact.
inline constexpr float kLargestSum = 0x1p30F;

struct Kernels {
  const char* name;

  // Query codes lie in [-query_code_max, query_code_max]: what dot_codes can add exactly.
  int32_t query_code_max;

  // pre:  planes of a panel as quantize.h lays them out, 64-byte aligned; 4 query codes in
  //       queries[g*n_queries + q], g < 2 pairs; 1 <= n_queries <= 12; pairs <= 8192; out 64-byte
  //       aligned.
  // post: out[q*32 + r] = sum (code_r + 128) code_q, exact in int32. Without the low plane
  //       16 h_r stands for code_r + 128.
  void (*dot_codes)(const uint8_t* high, const uint8_t* low, const int32_t* queries, int64_t pairs,
                    int64_t n_queries, int32_t* out);

  // post: true if an item may not be dropped for some query; only then is bit r of masks[q] set
  //       unless item r may be dropped for query q.
  bool (*code_hits)(const int32_t* raw, const CodePanel& panel, const CodeQueries& queries,
                    int64_t n_queries, uint32_t* masks);

  // The same test where all 32 items share one step and have neither bias nor boost: an integer a
  // query stands for it. Limits are there before the sums are.
  // post: limits[q], q < 16: the least sum that does not let an item be dropped.
  void (*code_limits)(const CodePanel& panel, const CodeQueries& queries, int32_t* limits);
  // pre:  |raw| < 2^30. post: as code_hits.
  bool (*raw_hits)(const int32_t* raw, const int32_t* limits, int64_t n_queries, uint32_t* masks);
  // The best of a panel's items by their codes: who to take first for a limit.
  // pre:  all 64-byte aligned. post: scores[r] ~ (raw_r - offset + beta bias_r) step_r; returns the
  //       largest. numerics: an order to try items in; nothing is proved of it.
  float (*panel_best)(const int32_t* raw, const float* step, const float* bias, float offset,
                      float beta, float* scores);

  // pre:  rows[0..32) readable for `dim` floats; panel holds dim*32 floats, 64-byte aligned.
  // post: panel[j*32 + r] == rows[r][j].
  void (*pack_panel)(const float* const* rows, int64_t dim, float* panel);

  // pre:  queries[j*n_queries + q], 1 <= n_queries <= 12; out holds n_queries*32 floats.
  // post: out[q*32 + r] ~ dot(query q, item r); numerics: |error| <= gamma_dim |q||x|.
  // cost: dim * n_queries * 32 fused multiply-adds.
  void (*dot_panel)(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
                    float* out);
  // post: out[q*32 + r] ~ -sum (q - x)^2; numerics: relative error <= gamma_{dim+3}.
  void (*l2_panel)(const float* panel, const float* queries, int64_t dim, int64_t n_queries,
                   float* out);

  // The same for one query against 32 rows as they lie: one pass over memory, no panel.
  void (*dot_rows)(const float* query, const float* const* rows, int64_t dim, float* out);
  void (*l2_rows)(const float* query, const float* const* rows, int64_t dim, float* out);

  // post: bit r set unless scores[r]*scale[r] + slope*norm[r] + margin + bias[r] <= threshold
  //       (NaN is a hit, and so is a score of -inf: the float32 sum overflowed).
  uint32_t (*hits)(const HitTest& test);

  // Canonical sums. Lane j of 8 float64 lanes adds dims j, j+8, ...; the lanes are added as
  // ((0+4)+(2+6)) + ((1+5)+(3+7)). Products of two float32 are exact in float64, so a fused
  // multiply-add changes nothing in `canonical_dot`; `canonical_sqdist` never fuses.
  double (*canonical_dot)(const float* a, const float* b, int64_t dim);
  double (*canonical_sqdist)(const float* a, const float* b, int64_t dim);

  // The same bits for many pairs at once.
  // pre:  panel of pack_panel, 64-byte aligned; queries[j*n_queries + q], 1 <= n_queries <= 12.
  // post: sums[q*32 + r] is the canonical sum of query q and item r.
  // cost: dim * n_queries * 32 fused multiply-adds of float64.
  void (*canonical_dot_panel)(const float* panel, const double* queries, int64_t dim,
                              int64_t n_queries, double* sums);
  void (*canonical_sqdist_panel)(const float* panel, const double* queries, int64_t dim,
                                 int64_t n_queries, double* sums);

  // And for one query against 32 rows as they lie.
  void (*canonical_dot_rows)(const float* query, const float* const* rows, int64_t dim,
                             double* sums);
  void (*canonical_sqdist_rows)(const float* query, const float* const* rows, int64_t dim,
                                double* sums);

  // post: bit r of masks[q] set unless sums*scale + weight*bias <= limit (NaN is a hit); true if
  //       any bit is. 1 <= n_queries <= 12.
  bool (*sum_hits)(const SumTest& test, int64_t n_queries, uint32_t* masks);
};

// Defined in kernels_<level>.cpp, each compiled with its own flags; constants, so that nothing of
// them runs when the library is loaded. Use them through dispatch.h only.
extern const Kernels kKernelsScalar;
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvxVnni;  // null where AVX2's kernel serves
extern const Kernels kKernelsAvx512Vnni;
extern const Kernels kKernelsNeon;

}  // namespace recengine
