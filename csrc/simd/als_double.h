// What is summed in float64, for the file of one instruction set (see als_tiles.h): the systems
// that float32 does not carry, Gram matrices and losses.

#include "simd/als_cg.h"

// The plain form, for the few rows that float32 does not carry. The pivot's bound is that of
// rounding in float64.
bool solve_double(const AlsHalf& half, const Row& row, double ridge, float* x) {
  const int64_t dim = half.dim;
  double* a = static_cast<double*>(
      __builtin_malloc(static_cast<std::size_t>(dim * dim + dim) * sizeof(double)));
  if (a == nullptr) return false;
  double* b = a + dim * dim;
  for (int64_t j = 0; j < dim * dim; ++j) a[j] = 0.0;
  for (int64_t j = 0; j < dim; ++j) {
    a[j * dim + j] = half.spectrum[j] + ridge;
    b[j] = row.prior == nullptr ? 0.0 : ridge * static_cast<double>(row.prior[j]);
  }
  for (int64_t e = 0; e < row.n; ++e) {
    const float* z = fixed_row(half, row, e);
    const auto weight = static_cast<double>(weight_of(half, row, e));
    const auto asked = static_cast<double>(asked_by(row, e));
    for (int64_t i = 0; i < dim; ++i) {
      const double factor = weight * static_cast<double>(z[i]);
      b[i] += asked * static_cast<double>(z[i]);
      for (int64_t j = i; j < dim; ++j) a[i * dim + j] += factor * static_cast<double>(z[j]);
    }
  }
  bool solved = true;
  for (int64_t i = 0; i < dim && solved; ++i) {
    double* line = a + i * dim;
    const double before = line[i];
    for (int64_t k = 0; k < i; ++k) {
      const double factor = a[k * dim + i];
      for (int64_t j = i; j < dim; ++j) line[j] -= factor * a[k * dim + j];
    }
    solved = line[i] > static_cast<double>(dim) * 2.3e-16 * before;
    const double inverse = 1.0 / __builtin_sqrt(line[i]);
    for (int64_t j = i; j < dim; ++j) line[j] *= inverse;
  }
  for (int64_t i = 0; i < dim && solved; ++i) {
    b[i] /= a[i * dim + i];
    for (int64_t j = i + 1; j < dim; ++j) b[j] -= b[i] * a[i * dim + j];
  }
  for (int64_t i = dim - 1; i >= 0 && solved; --i) {
    for (int64_t j = i + 1; j < dim; ++j) b[i] -= a[i * dim + j] * b[j];
    b[i] /= a[i * dim + i];
    x[i] = static_cast<float>(b[i]);
  }
  __builtin_free(a);
  return solved;
}

// sums[r][c] += a[l][r] b[l][c] over n packed rows of doubles; the products are exact.
constexpr int kGramRows = 4;
constexpr int kGramColumns = 8;
constexpr int kGramVecs = 2 * kGramColumns / kLanes;
typedef double Doubles __attribute__((vector_size(kLanes * sizeof(float))));

inline Doubles doubles(const double* from) {
  Doubles value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

__attribute__((noinline)) void gram_tile(const double* a, const double* b, int64_t n, double* gram,
                                         int64_t apart) {
  Doubles sums[kGramRows][kGramVecs];
#pragma GCC unroll 4
  for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) sums[r][v] = Doubles{};
  }
  for (int64_t l = 0; l < n; ++l) {
    Doubles columns[kGramVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) {
      columns[v] = doubles(b + l * kGramColumns + v * (kGramColumns / kGramVecs));
    }
#pragma GCC unroll 4
    for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kGramVecs; ++v) {
        sums[r][v] += columns[v] * a[l * kGramColumns + r];
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kGramRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kGramVecs; ++v) {
      double* target = gram + r * apart + v * (kGramColumns / kGramVecs);
      const Doubles after = doubles(target) + sums[r][v];
      __builtin_memcpy(target, &after, sizeof after);
    }
  }
}

void gram_rows(const float* rows, int64_t n_rows, int64_t width, double* scratch, double* gram) {
  const int64_t dim = (width + kPanel - 1) / kPanel * kPanel;
  constexpr int64_t kHeight = kEntries * kGramColumns;
  double* total = scratch;
  double* block = scratch + dim * dim;
  for (int64_t j = 0; j < dim * dim + kEntries * dim; ++j) scratch[j] = 0.0;
  for (int64_t first = 0; first < n_rows; first += kEntries) {
    const int64_t count = first + kEntries < n_rows ? kEntries : n_rows - first;
    for (int64_t r = 0; r < count; ++r) {
      const float* row = rows + (first + r) * width;
      for (int64_t j = 0; j < width; ++j) {
        block[j / kGramColumns * kHeight + r * kGramColumns + j % kGramColumns] =
            static_cast<double>(row[j]);
      }
    }
    for (int64_t p = 0; p < dim / kGramColumns; ++p) {
      for (int64_t q = 0; q <= p; ++q) {
        for (int64_t r = 0; r < kGramColumns; r += kGramRows) {
          gram_tile(block + p * kHeight + r, block + q * kHeight, count,
                    total + (p * kGramColumns + r) * dim + q * kGramColumns, dim);
        }
      }
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) gram[i * width + j] += total[i * dim + j];
  }
}

double observed_loss(const AlsEntries& entries, int64_t start, int64_t stop) {
  const int64_t width = entries.width;
  double total = 0.0;
  for (int64_t r = start; r < stop; ++r) {
    const float* x = entries.rows + r * width;
    for (int64_t e = entries.indptr[r]; e < entries.indptr[r + 1]; ++e) {
      if (e + 8 < entries.indptr[stop]) {
        prefetch_row(entries.columns + entries.indices[e + 8] * width, width);
      }
      const float* y = entries.columns + entries.indices[e] * width;
      double lanes[8] = {};
      int64_t j = 0;
      for (; j + 8 <= width; j += 8) {
        for (int64_t l = 0; l < 8; ++l) {
          lanes[l] += static_cast<double>(x[j + l]) * static_cast<double>(y[j + l]);
        }
      }
      for (; j < width; ++j) lanes[j % 8] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
      const double score = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
                           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
      const auto confidence = static_cast<double>(entries.confidences[e]);
      const double size = __builtin_fabs(confidence);
      const double liked = confidence > 0.0 ? 1.0 : 0.0;
      total += size * (liked - score) * (liked - score) -
               static_cast<double>(entries.shift) * score * score;
    }
  }
  return total;
}
