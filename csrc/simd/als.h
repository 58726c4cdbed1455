// The table of kernels that train factors: one instance per instruction set, offline only.
//
// A row of a user x item matrix is solved against the fixed factors of the other side, in the basis
// in which their Gram matrix is diagonal: with Z the row's fixed factors, W = diag(|c| - shift)
// and c+ the confidences of what is liked,
//
//     (diag(spectrum + ridge) + Z' W Z) x = Z' c+ + ridge prior
//
// `dim` is padded to a multiple of 16; the padding of `fixed` is zero. Products are float32; sums
// over more than kAlsEntries entries are made of the sums over as many. A row's arithmetic depends
// on nothing but that row, never on the range or the thread that it is solved in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace recengine {

inline constexpr int64_t kFactorPanel = 16;    // columns that lie side by side
inline constexpr int64_t kAlsEntries = 64;     // whose products are summed before they are added
inline constexpr int64_t kAlsRowsAtOnce = 32;  // solved between two rotations

enum class AlsSolver : int { kCholesky, kCg, kBlock };

// One half of an epoch: all rows of one side.
struct AlsHalf {
  const int64_t* indptr;      // [n_rows + 1]
  const int32_t* indices;     // rows of `fixed`
  const float* confidences;   // [indptr[n_rows]], not 0; negative: a dislike of that confidence
  float shift;                // what a pair's weight in the system lacks of its confidence
  const float* fixed;         // [n_fixed][dim], rotated, padded with zeros
  int64_t dim;                // a multiple of kFactorPanel
  int64_t width;              // factors, <= dim: what a row of `solved` holds
  const double* spectrum;     // [dim] of the unobserved weight times the Gram matrix; padding 1
  const double* ridges;       // [n_rows]
  const float* into_basis;    // [dim / 16][width][16]: panels of the rotation
  const float* out_of_basis;  // [dim / 16][dim][16]: panels of its transpose
  const float* prior;         // [n_rows][width], or null for 0
  float* solved;              // [n_rows][width]: where to start from, then the solutions
  AlsSolver solver;
  int64_t steps;  // of conjugate gradients
  int64_t block;  // coordinates solved at once by kBlock, a multiple of kFactorPanel
};

// All entries of a matrix, and factors of both sides as they are published.
struct AlsEntries {
  const int64_t* indptr;     // [n_rows + 1]
  const int32_t* indices;    // rows of `columns`
  const float* confidences;  // as in AlsHalf
  float shift;
  const float* rows;     // [n_rows][width]
  const float* columns;  // [n_columns][width]
  int64_t width;
};

struct AlsKernels {
  const char* name;

  // pre:     scratch holds als_scratch_floats(dim, longest) floats, 64-byte aligned; `longest` is
  //          the largest number of entries of a row in [start, stop).
  // post:    rows [start, stop) of half.solved; a row without entries is its prior.
  // returns: -1, or the first row whose system is not positive definite in float64 or whose
  //          solution is not a float32.
  int64_t (*solve_rows)(const AlsHalf& half, int64_t start, int64_t stop, float* scratch);

  // post: out[r][0..dim) = rows[r][0..width) times the panels [dim / 16][width][16].
  void (*rotate_rows)(const float* rows, int64_t n_rows, int64_t width, const float* panels,
                      int64_t dim, float* out);

  // pre:  scratch holds dim (dim + kAlsEntries) doubles, dim the next multiple of 16 of width.
  // post: the lower triangle of gram [width][width] has the Gram matrix of the rows added, in
  //       float64.
  void (*gram_rows)(const float* rows, int64_t n_rows, int64_t width, double* scratch,
                    double* gram);

  // returns: what the entries of rows [start, stop) add to the loss beyond the term over all pairs:
  //          the sum of c (liked - p)^2 - shift p^2 with p = x.y, in float64, entry by entry.
  double (*observed_loss)(const AlsEntries& entries, int64_t start, int64_t stop);
};

// Floats that solve_rows works in.
int64_t als_scratch_floats(int64_t dim, int64_t longest);

extern const AlsKernels kAlsScalar;
#if defined(__x86_64__)
extern const AlsKernels kAlsAvx2;
extern const AlsKernels kAlsAvx512;
#endif

}  // namespace recengine
